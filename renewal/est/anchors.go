package est

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"
)

// anchorsOf are the trust anchors among the certificates of cacerts: those that are
// signed by their own key, of each name the newest, because an authority that changed
// its root sends the old one too (RFC 7030 4.1.3), and may send one for later. The
// others stand on their signatures. Where no root is there, all of them are anchors: a
// server may send its issuing authority alone.
func anchorsOf(authorities []*x509.Certificate, at time.Time) []*x509.Certificate {
	var roots []*x509.Certificate
	for _, c := range authorities {
		if c.NotBefore.After(at) || !bytes.Equal(c.RawSubject, c.RawIssuer) || c.CheckSignatureFrom(c) != nil {
			continue
		}
		same := func(o *x509.Certificate) bool { return bytes.Equal(o.RawSubject, c.RawSubject) }
		if slices.ContainsFunc(roots, func(o *x509.Certificate) bool { return same(o) && !o.NotBefore.Before(c.NotBefore) }) {
			continue
		}
		roots = append(slices.DeleteFunc(roots, same), c)
	}
	if roots == nil {
		return authorities
	}
	return roots
}
