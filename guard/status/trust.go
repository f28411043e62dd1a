package status

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Trust is who may sign lists: the CAs and the separate CRL issuers whose certificates
// lead to a root, by crypto/x509's Verify. It is immutable and safe for concurrent use.
type Trust struct {
	roots, pool *x509.CertPool
	byName      map[nameKey][]*authority
	starts      []time.Time // when certificates become valid
}

// authority is a certificate whose key may sign lists.
type authority struct {
	cert   *x509.Certificate
	key    [sha256.Size]byte // SHA-256 of its subject public key info
	unfit  string            // why it may not sign lists
	worked func() standing
}

// standing is what is worked out of an authority when a list of it comes up.
type standing struct {
	speaksFor [][sha256.Size]byte // keys of the CA of its name for which it signs lists
	paths     []path
}

// path is a way from an authority to a root.
type path struct {
	root        [sha256.Size]byte
	from, until time.Time  // while all of its certificates are valid
	subjects    []*Subject // its certificates without the root
}

// NewTrust makes a Trust of roots and of what is below them: issuing CAs, and the
// certificates of separate CRL issuers (RFC 5280 6.3.3 (f)), in any order. A
// certificate that leads to no root signs lists about what its own key issued, and no
// others. The error names what is no parsed certificate.
func NewTrust(roots, below []*x509.Certificate) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), pool: x509.NewCertPool(), byName: map[nameKey][]*authority{}}
	var seen [][sha256.Size]byte
	for i, c := range slices.Concat(roots, below) {
		if c == nil || len(c.Raw) == 0 {
			return nil, fmt.Errorf("status: certificate %d of those that are trusted is not parsed: wanted one of x509.ParseCertificate", i)
		}
		if i < len(roots) {
			t.roots.AddCert(c)
		} else {
			t.pool.AddCert(c)
		}
		sum := sha256.Sum256(c.Raw)
		if slices.Contains(seen, sum) {
			continue
		}
		seen = append(seen, sum)
		name := keyOfName(c.RawSubject)
		a := &authority{cert: c, key: sha256.Sum256(c.RawSubjectPublicKeyInfo), unfit: whyUnfit(c)}
		a.worked = sync.OnceValue(func() standing { return standing{t.speaksFor(a, name), t.paths(a)} })
		t.byName[name] = append(t.byName[name], a)
		if !slices.ContainsFunc(t.starts, c.NotBefore.Equal) {
			t.starts = append(t.starts, c.NotBefore)
		}
	}
	return t, nil
}

// whyUnfit says why a certificate's key may not sign lists (RFC 5280 6.3.3 (f)).
func whyUnfit(c *x509.Certificate) string {
	has := slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidKeyUsage) })
	switch {
	case has && c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return "its key usage has no cRLSign"
	case !has && !(c.BasicConstraintsValid && c.IsCA) && c.Version >= 3:
		return "it is no CA, and has no key usage with cRLSign"
	}
	return ""
}

// speaksFor are the keys of the CA of a's name for whose certificates a may sign lists:
// its own, and others where it is shown that they are the same CA's. Two CAs may share
// a name, so the name alone does not show it.
func (t *Trust) speaksFor(a *authority, name nameKey) [][sha256.Size]byte {
	keys := [][sha256.Size]byte{a.key}
	for _, ca := range t.byName[name] {
		if ca.key == a.key {
			continue
		}
		// A key that signs nothing but lists, certified by the CA, or by who certified
		// the CA; or an old and a new key of one CA, one certified by the other.
		apart := a.cert.KeyUsage&x509.KeyUsageCertSign == 0 && !a.cert.IsCA
		if issued(ca.cert, a.cert) || issued(a.cert, ca.cert) || apart && t.sameIssuer(a.cert, ca.cert) {
			keys = append(keys, ca.key)
		}
	}
	return keys
}

// issued tells whether c is by the key of ca, which has the name of c's issuer.
func issued(ca, c *x509.Certificate) bool {
	return keyOfName(ca.RawSubject) == keyOfName(c.RawIssuer) && ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// sameIssuer tells whether one of the trusted issued both.
func (t *Trust) sameIssuer(a, b *x509.Certificate) bool {
	return slices.ContainsFunc(t.byName[keyOfName(a.RawIssuer)], func(ca *authority) bool {
		return issued(ca.cert, a) && issued(ca.cert, b)
	})
}

// paths finds the ways from a to the roots at whatever time: a way that is valid at
// some instant is valid when the last of its certificates became so.
func (t *Trust) paths(a *authority) []path {
	var all []path
	var seen [][sha256.Size]byte
	for _, start := range t.starts {
		if start.Before(a.cert.NotBefore) || start.After(a.cert.NotAfter) {
			continue
		}
		chains, err := a.cert.Verify(x509.VerifyOptions{
			Roots: t.roots, Intermediates: t.pool, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			continue
		}
		for _, chain := range chains {
			var raw []byte
			for _, c := range chain {
				raw = append(raw, c.Raw...)
			}
			if sum := sha256.Sum256(raw); !slices.Contains(seen, sum) {
				seen = append(seen, sum)
				if p, err := newPath(chain); err == nil {
					all = append(all, p)
				}
			}
		}
	}
	return all
}

func newPath(chain []*x509.Certificate) (path, error) {
	subjects, err := NewSubjects(chain)
	p := path{
		root: sha256.Sum256(chain[len(chain)-1].RawSubjectPublicKeyInfo), subjects: subjects,
		from: chain[0].NotBefore, until: chain[0].NotAfter,
	}
	for _, c := range chain {
		if c.NotBefore.After(p.from) {
			p.from = c.NotBefore
		}
		if c.NotAfter.Before(p.until) {
			p.until = c.NotAfter
		}
	}
	return p, err
}

// signers finds whose keys signed the list and may sign lists; why says why nobody's.
func (t *Trust) signers(l *List) (by []*authority, why string) {
	why = "no certificate of its issuer is configured"
	switch {
	case t == nil:
		return nil, why
	case l.tbs == nil:
		return nil, "what was signed is gone: it came out of a Snapshot"
	}
	for _, a := range t.byName[l.issuer] {
		switch {
		case a.cert.CheckSignature(l.algorithm, l.tbs, l.signature) != nil:
			why = "its signature does not verify with the key of certificate " + serialOf(a.cert)
		case a.unfit != "":
			why = "certificate " + serialOf(a.cert) + " may not sign lists: " + a.unfit
		default:
			by = append(by, a)
		}
	}
	return by, why
}

// Verify tells whether a list is signed by somebody who may sign lists: the error
// wraps ErrUnverified. Whether it is about a certificate is for [Snapshot.Status]. A
// list that came out of a Snapshot cannot be verified again.
func (t *Trust) Verify(l *List) error {
	if l == nil {
		return errors.New("status: no list was given to verify")
	}
	if by, why := t.signers(l); len(by) == 0 {
		return fmt.Errorf("status: %w: of %s, %s", ErrUnverified, l, why)
	}
	return nil
}

func serialOf(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return "without a serial number"
	}
	s := fmt.Sprintf("%x", c.SerialNumber)
	return s[:min(len(s), 64)]
}
