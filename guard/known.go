package guard

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/guard/weakkey"
)

// configuredCA is one of the caller's: what identifies it is its key.
type configuredCA struct {
	cert *x509.Certificate
	spki [32]byte
}

// authorities takes the CA certificates of a field of Config, each as its own copy.
func authorities(field string, cas []*x509.Certificate) ([]configuredCA, error) {
	var all []configuredCA
	for i, ca := range cas {
		if ca == nil {
			return nil, fmt.Errorf("guard: Config.%s[%d] is nil; wanted a CA certificate", field, i)
		}
		own, err := x509.ParseCertificate(bytes.Clone(ca.Raw)) // the caller's may change
		if err != nil {
			return nil, fmt.Errorf("guard: Config.%s[%d] does not parse; wanted a certificate from x509.ParseCertificate: %w", field, i, err)
		}
		if !own.IsCA {
			return nil, fmt.Errorf("guard: Config.%s[%d] (%s) is not a CA certificate; wanted basic constraints with cA", field, i, own.Subject)
		}
		all = append(all, configuredCA{own, sha256.Sum256(own.RawSubjectPublicKeyInfo)})
	}
	return all, nil
}

// distinct leaves out what is listed twice.
func distinct(all []configuredCA) []configuredCA {
	var once []configuredCA
	for _, ca := range all {
		if !slices.ContainsFunc(once, func(o configuredCA) bool { return o.cert.Equal(ca.cert) }) {
			once = append(once, ca)
		}
	}
	return once
}

// record is what this Guard works out once of a certificate.
type record struct {
	facts   advisory.Facts
	key     weakkey.Result
	issuers []*x509.Certificate // the configured CAs whose key signed it
	spans   atomic.Pointer[[]*span]
}

// maxKnown bounds the memory of known.
const maxKnown = 4096

// known returns the record of a certificate, which is made when it is seen for the
// first time.
func (g *Guard) known(c *Certificate) *record {
	g.mu.Lock()
	r := g.records[c.info.SHA256]
	g.mu.Unlock()
	if r != nil {
		return r
	}
	r = g.newRecord(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if other := g.records[c.info.SHA256]; other != nil {
		return other // of another goroutine
	}
	if len(g.records) >= maxKnown {
		clear(g.records)
	}
	g.records[c.info.SHA256] = r
	return r
}

// newRecord tells, by signature, which configured CA keys issued c. A key that did
// not, though c names its CA by key identifier (or, where there is none, by name),
// is in neither list: such a certificate contradicts itself.
func (g *Guard) newRecord(c *Certificate) *record {
	r := &record{facts: c.facts, key: g.keys.CheckCertificate(c.x)}
	signed := func(ca configuredCA) bool {
		return slices.Contains(r.facts.IssuerSPKI, ca.spki) ||
			ca.cert.CheckSignature(c.x.SignatureAlgorithm, c.x.RawTBSCertificate, c.x.Signature) == nil
	}
	issued := func(ca configuredCA) {
		r.issuers = append(r.issuers, ca.cert)
		if !slices.Contains(r.facts.IssuerSPKI, ca.spki) {
			r.facts.IssuerSPKI = append(r.facts.IssuerSPKI, ca.spki)
		}
	}
	var others []configuredCA
	for _, ca := range g.authorities {
		switch {
		case !c.names(ca.cert):
			others = append(others, ca)
		case signed(ca):
			issued(ca)
		}
	}
	// A signature is one key's, so that the others are not asked where it is known.
	known := len(r.facts.IssuerSPKI) > 0
	for _, ca := range others {
		switch same := slices.Contains(r.facts.IssuerSPKI, ca.spki); {
		case same, !known && signed(ca):
			issued(ca)
		default:
			r.facts.NotIssuerSPKI = append(r.facts.NotIssuerSPKI, ca.spki)
		}
	}
	r.facts.IssuerKnown = len(r.facts.IssuerSPKI) > 0
	r.facts.WeakKeys, r.facts.WeakKeysJudged = r.key.Weaknesses.Names(), r.key.Judged
	return r
}

// names tells whether c names a CA as its issuer, by key identifier or, where one of
// them has none, by name.
func (c *Certificate) names(ca *x509.Certificate) bool {
	if len(ca.SubjectKeyId) == 0 || len(c.x.AuthorityKeyId) == 0 {
		return bytes.Equal(ca.RawSubject, c.x.RawIssuer)
	}
	return bytes.Equal(ca.SubjectKeyId, c.x.AuthorityKeyId)
}
