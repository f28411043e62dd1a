package eps

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/rxguard/rxguard/guard/status"
)

// finding is the outcome of one check.
type finding struct {
	result       Result
	why, warning string
}

var passed = finding{result: Passed}

func undecided(format string, args ...any) finding {
	return finding{result: NotDecidable, why: fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) finding {
	return finding{result: Failed, why: fmt.Sprintf(format, args...)}
}

// listed is a certificate as revocation lists see it.
type listed struct {
	cert    *x509.Certificate
	issuer  string          // its issuer's name, folded
	subject *status.Subject // nil: see bad
	http    *status.Subject // as the service sees it; nil: it has no http point
	bad     string          // why its lists are not known
}

func newListed(cert *x509.Certificate) listed {
	return listed{cert: cert, issuer: foldName(cert.RawIssuer)}
}

// prepare makes the certificate ready to be asked about. by are the CAs whose key signed
// it: those above it are the ones of when it was issued.
func (c *listed) prepare(by []*authority) {
	above := []*x509.Certificate{c.cert}
	for _, a := range chain(best(by, c.cert.NotBefore), c.cert.NotBefore) {
		above = append(above, a.cert)
	}
	subject, err := status.NewSubject(above)
	if err == nil {
		c.subject, err = subject, subject.Err()
		if http, ok := subject.ByHTTP(); ok {
			c.http = http
		}
	}
	if err != nil {
		c.bad = fmt.Sprintf("of certificate %s, %s", serialOf(c.cert), strings.TrimPrefix(err.Error(), "status: "))
	}
}

// fetched is a list as the service has it, which fetches the newest and verifies none.
type fetched struct {
	*status.List
	keyID []byte
}

// readLists makes lists ready to be asked.
func (t *trust) readLists(roots, below []*x509.Certificate, lists []*status.List) {
	// Neither fails: the certificates are parsed, and the grace is the usual.
	trusted, _ := status.NewTrust(roots, below)
	t.lists, _ = status.NewSnapshot(trusted, status.DefaultGrace, lists...)
	for i, held := 0, t.lists.Lists(); i < len(held); i++ {
		if l := held[i].List; i == 0 || l.Series() != held[i-1].List.Series() { // the newest of a series is the first
			t.fetched = append(t.fetched, fetched{l, l.AuthorityKeyID()})
		}
	}
}

// about tells whether a list is at one of the certificate's http distribution points.
// Two CAs may share a name, so key ids are compared where both are there.
func (l fetched) about(c *listed) bool {
	id := c.cert.AuthorityKeyId
	if len(id) > 0 && len(l.keyID) > 0 && !bytes.Equal(id, l.keyID) && l.ByIssuerOf(c.http) {
		return false
	}
	return l.Covers(c.http) != 0
}

// onServicesList is check 6, or 7 of a CA: what the service would find on the list
// that it fetches from the certificate's http distribution points. It stops at the
// first entry, and never looks at the list's signature or age. Without a point or a
// list the service passes what it did not look at; that is not decidable here.
func (t *trust) onServicesList(c *listed, what string, signedAt time.Time) finding {
	switch {
	case c.bad != "":
		return undecided("%s", c.bad)
	case c.http == nil:
		return undecided("certificate %s names no http CRL distribution point; the service passes it without a look", serialOf(c.cert))
	}
	found := false
	for _, l := range t.fetched {
		if !l.about(c) {
			continue
		}
		found = true
		if e, ok := l.First(c.http); ok && e.Revokes(signedAt) {
			return refused("certificate %s is on %s, %s", serialOf(c.cert), l, e)
		}
	}
	if !found {
		return undecided("no %s of certificate %s was given: wanted the list of its issuer %s from its distribution point", what, serialOf(c.cert), issuerOf(c.cert))
	}
	return passed
}

// revocation is what lists say of a certificate: about their signatures, their age,
// and the certificate.
type revocation struct{ signature, age, revoked finding }

// statusOf asks the verified lists about a certificate as of an instant. What they do
// not decide is never passed.
func (t *trust) statusOf(c *listed, what string, at time.Time) revocation {
	if c.subject == nil {
		f := undecided("%s", c.bad)
		return revocation{f, f, f}
	}
	r := t.lists.StatusThen(c.subject, at)
	serial := serialOf(c.cert)
	switch {
	case r.State == status.Revoked:
		return revocation{passed, age(r, at, c.cert), refused("certificate %s is %s", serial, r)}
	case r.State == status.Good:
		return revocation{passed, age(r, at, c.cert), passed}
	}
	var f finding
	switch r.Why {
	case status.Future, status.NoNextUpdate, status.Ended:
		f = age(r, at, c.cert)
		return revocation{passed, f, finding{result: NotDecidable, why: f.why}}
	case status.PartOfReasons:
		return revocation{passed, age(r, at, c.cert), undecided("the lists of certificate %s that were given are about some revocation reasons only", serial)}
	case status.NoList:
		f = undecided("no %s of certificate %s was given: wanted one by its issuer %s", what, serial, issuerOf(c.cert))
	case status.NoIssuer:
		f = undecided("no %s of certificate %s can be relied on: the CA that signed certificate %s is not configured", what, serial, serial)
	default:
		f = undecided("no %s of certificate %s can be relied on: %s", what, serial, r)
	}
	return revocation{f, f, f}
}

// age tells whether the list of a result is in date at an instant. An entry counts
// however old its list is.
func age(r status.Result, at time.Time, cert *x509.Certificate) finding {
	l := r.List
	switch next := l.NextUpdate(); {
	case r.State == status.Good && !r.Late:
		return passed
	case l.ThisUpdate().After(at) && l.ThisUpdate().After(cert.NotAfter):
		return undecided("%s is later than the instant judged, %s, and than notAfter of certificate %s, after which lists leave it out", l, instant(at), serialOf(cert))
	case next.IsZero():
		return undecided("%s has no nextUpdate", l)
	case at.After(next.Add(status.DefaultGrace)):
		return undecided("%s ended with its nextUpdate %s, more than %v before the instant judged, %s", l, instant(next), status.DefaultGrace, instant(at))
	case at.After(next):
		return finding{result: Passed, warning: fmt.Sprintf("%s ended with its nextUpdate %s, before the instant judged, %s: fetch a new one", l, instant(next), instant(at))}
	}
	return passed
}

// statusOfChain is what the ARLs say of an issuing CA and of those above it, up to a
// root, which no list is about.
func (t *trust) statusOfChain(cas []*authority, at time.Time) revocation {
	if len(cas) == 0 {
		f := undecided("the CA that signed the certificate is not configured")
		return revocation{f, f, f}
	}
	all := revocation{passed, passed, passed}
	for _, a := range cas {
		if a.root {
			continue
		}
		s := t.statusOf(&a.listed, "ARL", at)
		all.signature = all.signature.worse(s.signature)
		all.age = all.age.worse(s.age)
		all.revoked = all.revoked.worse(s.revoked)
	}
	return all
}

// rank orders findings from the best to the worst.
func (f finding) rank() int {
	switch {
	case f.result == Failed:
		return 3
	case f.result != Passed:
		return 2
	case f.warning != "":
		return 1
	}
	return 0
}

// worse is the finding that counts of two that are both wanted.
func (f finding) worse(g finding) finding {
	if g.rank() > f.rank() {
		return g
	}
	return f
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
