package eps

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rxguard/rxguard/guard/status"
)

// trust is what a Verifier's CAs and lists come to, worked out once.
type trust struct {
	authorities []*authority
	lists       *status.Snapshot
	fetched     []fetched // the newest of each, as the service would have it

	mu     sync.Mutex
	leaves map[[sha256.Size]byte]*leaf
}

// authority is a configured CA.
type authority struct {
	listed
	name    string       // folded
	issuers []*authority // with whose keys its certificate verifies; none of a root
	root    bool         // self-signed
	unfit   string       // why it may not issue certificates
}

func newTrust(cas []*x509.Certificate, lists []*status.List) *trust {
	t := &trust{leaves: map[[sha256.Size]byte]*leaf{}}
	for _, c := range cas {
		if c == nil || len(c.Raw) == 0 || slices.ContainsFunc(t.authorities, func(a *authority) bool { return a.cert.Equal(c) }) {
			continue
		}
		t.authorities = append(t.authorities, &authority{listed: newListed(c), name: foldName(c.RawSubject), unfit: whyUnfit(c)})
	}
	var roots, below []*x509.Certificate
	for _, a := range t.authorities {
		if a.root = a.selfIssued() && verifies(a.cert, a.cert); a.root {
			roots = append(roots, a.cert)
			continue
		}
		below = append(below, a.cert)
		a.issuers, _ = t.signers(&a.listed)
	}
	for _, a := range t.authorities {
		a.prepare(a.issuers)
	}
	t.readLists(roots, below, lists)
	return t
}

func (a *authority) selfIssued() bool { return a.issuer == a.name }

// whyUnfit says why a certificate may not issue others (RFC 5280 4.2.1.3, 4.2.1.9).
func whyUnfit(c *x509.Certificate) string {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return "its basic constraints do not make it a CA"
	case !maySign(c):
		return "its key usage has no keyCertSign"
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Sprintf("its critical extension %v is not known here", c.UnhandledCriticalExtensions[0])
	}
	return ""
}

func maySign(c *x509.Certificate) bool {
	return c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0
}

func (t *trust) named(name string) []*authority {
	var found []*authority
	for _, a := range t.authorities {
		if a.name == name {
			found = append(found, a)
		}
	}
	return found
}

// verifies tells whether c's signature is by issuer's key. SHA-1, which real
// certificates still have, is no matter here.
func verifies(c, issuer *x509.Certificate) bool {
	return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// signers are the CAs whose key signed c, and how many have its issuer's name. CAs of
// one name are told apart by key.
func (t *trust) signers(c *listed) (by []*authority, named int) {
	candidates := t.named(c.issuer)
	for _, a := range candidates {
		if verifies(c.cert, a.cert) {
			by = append(by, a)
		}
	}
	return by, len(candidates)
}

// best is the one of several certificates of one CA to go by: one that is fit, and
// valid at the instant.
func best(of []*authority, at time.Time) *authority {
	for _, a := range of {
		if a.unfit == "" && !at.Before(a.cert.NotBefore) && !at.After(a.cert.NotAfter) {
			return a
		}
	}
	if len(of) > 0 {
		return of[0]
	}
	return nil
}

// chain is the issuing CA and those above it, as far as they are configured.
func chain(issuing *authority, at time.Time) []*authority {
	var c []*authority
	for a := issuing; a != nil && !slices.Contains(c, a); a = best(a.issuers, at) {
		c = append(c, a)
	}
	return c
}

// leaf is a signing certificate with all that the checks ask of it apart from an
// instant, worked out once: the certificates of one batch are few.
type leaf struct {
	listed
	report CertificateReport
	by     []*authority // with whose keys it verifies
	named  int          // the CAs of its issuer's name
}

// maxLeaves bounds what is kept of certificates that were seen.
const maxLeaves = 256

// leaf reads a signing certificate, or finds it among those that were read before.
func (t *trust) leaf(der []byte) (*leaf, error) {
	key := sha256.Sum256(der)
	t.mu.Lock()
	l := t.leaves[key]
	t.mu.Unlock()
	if l != nil {
		return l, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	l = &leaf{listed: newListed(cert), report: reportCertificate(cert, key)}
	l.by, l.named = t.signers(&l.listed)
	l.prepare(l.by)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.leaves) >= maxLeaves {
		clear(t.leaves)
	}
	t.leaves[key] = l
	return l, nil
}
