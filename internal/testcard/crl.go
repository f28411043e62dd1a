package testcard

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ListOptions are the fields of one revocation list.
type ListOptions struct {
	Number     int64     // 0: 1
	ThisUpdate time.Time // zero: the CA's clock
	NextUpdate time.Time // zero: a week after ThisUpdate
	Revoked    []x509.RevocationListEntry
	Extensions []pkix.Extension // besides authority key identifier and CRL number
}

// CRL makes a list of what the issuing authority revoked (RFC 5280 5), signed by it.
func (ca *CA) CRL(o ListOptions) (*x509.RevocationList, error) {
	return ca.list(o, ca.issuing, ca.issuingKey)
}

// ARL makes a list of the CA certificates that the root revoked, signed by it.
func (ca *CA) ARL(o ListOptions) (*x509.RevocationList, error) {
	return ca.list(o, ca.root, ca.rootKey)
}

func (ca *CA) list(o ListOptions, issuer *x509.Certificate, key crypto.Signer) (*x509.RevocationList, error) {
	if o.Number == 0 {
		o.Number = 1
	}
	if o.ThisUpdate.IsZero() {
		o.ThisUpdate = ca.Now()
	}
	if o.NextUpdate.IsZero() {
		o.NextUpdate = o.ThisUpdate.AddDate(0, 0, 7)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number:     big.NewInt(o.Number),
		ThisUpdate: o.ThisUpdate.UTC().Truncate(time.Second), NextUpdate: o.NextUpdate.UTC().Truncate(time.Second),
		RevokedCertificateEntries: o.Revoked, ExtraExtensions: o.Extensions,
	}, issuer, key)
	if err != nil {
		return nil, fmt.Errorf("testcard: revocation list: %w", err)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("testcard: revocation list: %w", err)
	}
	return l, nil
}

// IssueListed is Issue for a certificate that names where its CRL is: URLs, each the
// full name of a distribution point (RFC 5280 4.2.1.13).
func (ca *CA) IssueListed(p Profile, pub crypto.PublicKey, o IssueOptions, urls ...string) (*x509.Certificate, error) {
	c, err := ca.Issue(p, pub, o)
	if err != nil {
		return nil, err
	}
	return listed(c, pub, ca.issuing, ca.issuingKey, urls)
}

// Listed is the same CA, with the same keys, whose issuing certificate names where its
// ARL is. Certificates that either issues are of both.
func (ca *CA) Listed(urls ...string) (*CA, error) {
	issuing, err := listed(ca.issuing, ca.issuingKey.Public(), ca.root, ca.rootKey, urls)
	if err != nil {
		return nil, err
	}
	return newCA(ca.cfg, ca.rootKey, ca.issuingKey, ca.root, issuing), nil
}

func listed(c *x509.Certificate, pub crypto.PublicKey, issuer *x509.Certificate, key crypto.Signer, urls []string) (*x509.Certificate, error) {
	if len(urls) == 0 {
		return nil, errors.New("testcard: issue: no distribution points, expected a URL")
	}
	t := *c
	t.CRLDistributionPoints = urls
	return create(&t, issuer, pub, key)
}
