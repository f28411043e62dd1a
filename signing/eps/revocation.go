package eps

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
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

// onServicesList is check 6, or 7 of a CA: what the service would find on the list
// that it fetches from the certificate's http distribution points. It never looks at
// the list's signature or age. Without a point or a list the service passes what it
// did not look at; that is not decidable here.
func (t *trust) onServicesList(c *listed, what string, signedAt time.Time) finding {
	switch {
	case c.bad != "":
		return undecided("of certificate %s, %s", serialOf(c.cert), c.bad)
	case len(c.http) == 0:
		return undecided("certificate %s names no http CRL distribution point; the service passes it without a look", serialOf(c.cert))
	}
	found := false
	for _, s := range t.lists {
		if s[0].delta || s.of(c, c.http) == 0 {
			continue
		}
		found = true
		if e := s[0].entry(c, signedAt); e != nil && revokes(e, signedAt) {
			return refused("%s", whyRevoked(s[0], c.cert, e))
		}
	}
	if !found {
		return undecided("no %s of certificate %s was given: wanted the list of its issuer %s from its distribution point", what, serialOf(c.cert), issuerOf(c.cert))
	}
	return passed
}

// status is what lists say of a certificate, going by none but those that its issuer's
// own key signed: about their signatures, their age, and the certificate.
type status struct{ signature, age, revoked finding }

// grace is how long after its nextUpdate a list still counts, with a warning.
const grace = 24 * time.Hour

// statusOf asks the verified lists about a certificate as of an instant. What they do
// not decide is never passed. An entry that revokes counts however old its list is.
func (t *trust) statusOf(c *listed, what string, issuer *authority, at time.Time) status {
	if c.bad != "" {
		f := undecided("of certificate %s, %s", serialOf(c.cert), c.bad)
		return status{f, f, f}
	}
	var unverified []string
	aged := finding{result: Failed} // worse than any
	var covered, fresh reasons      // by lists that verify; by those that are in date too
	for _, s := range t.lists {
		about := s.of(c, c.every)
		if about == 0 {
			continue
		}
		for _, l := range s { // the newest first
			if why := l.whyUnverified(c, issuer); why != "" {
				unverified = append(unverified, why)
				continue
			}
			covered |= about
			if e := l.entry(c, at); e != nil && revokes(e, at) {
				return status{passed, l.age(at, c.cert), refused("%s", whyRevoked(l, c.cert, e))}
			}
			age := l.age(at, c.cert)
			if age.result == Passed {
				fresh |= about
			}
			if age.rank() < aged.rank() {
				aged = age
			}
			if !l.crl.ThisUpdate.After(at) {
				break // older copies no longer count
			}
		}
	}
	switch {
	case covered == 0 && len(unverified) > 0:
		f := undecided("no %s of certificate %s can be relied on: %s", what, serialOf(c.cert), strings.Join(unverified[:min(len(unverified), 3)], "; "))
		return status{f, f, f}
	case covered == 0:
		f := undecided("no %s of certificate %s was given: wanted one by its issuer %s", what, serialOf(c.cert), issuerOf(c.cert))
		return status{f, f, f}
	case fresh == 0:
		return status{passed, aged, finding{result: NotDecidable, why: aged.why}}
	case fresh != allReasons:
		return status{passed, aged, undecided("the lists of certificate %s that were given are about some revocation reasons only", serialOf(c.cert))}
	}
	return status{passed, aged, passed}
}

// whyUnverified says why a list decides nothing about a certificate of an issuer.
func (l *list) whyUnverified(c *listed, issuer *authority) string {
	switch {
	case l.unread != "":
		return fmt.Sprintf("of %s, %s", l, l.unread)
	case len(l.signers) == 0:
		return fmt.Sprintf("of %s, %s", l, l.unsure)
	case issuer == nil:
		return fmt.Sprintf("the CA that signed certificate %s is not configured", serialOf(c.cert))
	case l.issuer == c.issuer && !l.signedBy(issuer):
		return fmt.Sprintf("%s is signed by another key than certificate %s", l, serialOf(c.cert))
	}
	return l.entries().unread
}

// age tells whether a list is in date at an instant (RFC 5280 5.1.2.4, 5.1.2.5). A later
// one knows what was known then, as long as it is of a time at which the certificate
// had not expired: lists leave out those that have (5).
func (l *list) age(at time.Time, cert *x509.Certificate) finding {
	thisUpdate, nextUpdate := l.crl.ThisUpdate, l.crl.NextUpdate
	switch {
	case thisUpdate.After(at) && thisUpdate.After(cert.NotAfter):
		return undecided("%s is later than the instant judged, %s, and than notAfter of certificate %s, after which lists leave it out", l, instant(at), serialOf(cert))
	case thisUpdate.After(at):
		return passed
	case nextUpdate.IsZero():
		return undecided("%s has no nextUpdate", l)
	case at.After(nextUpdate.Add(grace)):
		return undecided("%s ended with its nextUpdate %s, more than %v before the instant judged, %s", l, instant(nextUpdate), grace, instant(at))
	case at.After(nextUpdate):
		return finding{result: Passed, warning: fmt.Sprintf("%s ended with its nextUpdate %s, before the instant judged, %s: fetch a new one", l, instant(nextUpdate), instant(at))}
	}
	return passed
}

// statusOfChain is what the ARLs say of an issuing CA and of those above it, up to a
// root, which no list is about.
func (t *trust) statusOfChain(cas []*authority, at time.Time) status {
	if len(cas) == 0 {
		f := undecided("the CA that signed the certificate is not configured")
		return status{f, f, f}
	}
	all := status{passed, passed, passed}
	for _, a := range cas {
		if a.root {
			continue
		}
		s := t.statusOf(&a.listed, "ARL", best(a.issuers, at), at)
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
