package testcard

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// CKA_ID and CKA_LABEL of the pairs that ProvisionPrescriber puts on a card.
const (
	AuthenticationLabel = "Authentication"
	SigningLabel        = "Digital signature"
)

// AuthenticationID is the CKA_ID of the authentication pair.
func AuthenticationID() []byte { return []byte{0x01} }

// SigningID is the CKA_ID of the first signing pair.
func SigningID() []byte { return []byte{0x02} }

// Pair is what Provision puts into one container. Key or Certificate may be
// missing, and they need not belong together: cards with such faults exist.
type Pair struct {
	ID                 []byte
	Label              string
	Key                crypto.Signer    // *rsa.PrivateKey of 1024 to 4096 bits or *ecdsa.PrivateKey on P-256
	Public             crypto.PublicKey // what the public key object shows; nil: Key's
	Certificate        []byte           // stored as it is
	AlwaysAuthenticate bool
}

// Provision puts a key pair and its certificate on the card, as whoever makes the
// card does: without passcode, events or hooks. The error is a *card.Error of Kind
// Full when no container is free.
func (c *Card) Provision(p Pair) error {
	k := &container{
		id: bytes.Clone(p.ID), label: p.Label, certificateLabel: p.Label,
		private: p.Key, public: p.Public, certificate: bytes.Clone(p.Certificate),
		alwaysAuthenticate: p.AlwaysAuthenticate,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.public == nil && k.private != nil {
		k.public = k.private.Public()
	}
	if c.cfg.NoPublicKeys {
		k.public = nil
	}
	if err := c.add(k); err != nil {
		return fmt.Errorf("testcard: %w", err)
	}
	return c.changed()
}

// Prescriber says whose simulated card to make.
type Prescriber struct {
	UID                 string    // 12 digits; empty: random
	NotBefore, NotAfter time.Time // of both certificates; zero: as the CA sets them

	// AuthenticationKey and SigningKey are new RSA-2048 keys where nil.
	AuthenticationKey, SigningKey crypto.Signer
}

// Subject is the name that a simulated prescriber's certificates carry.
func Subject(uid string) pkix.Name {
	return pkix.Name{
		CommonName:         uid + "_Simulated_Prescriber",
		OrganizationalUnit: []string{"rxguard simulation - not for patients"},
		Organization:       []string{Organization},
	}
}

// ProvisionPrescriber puts on the card what a prescriber's card holds: an
// authentication pair (AuthenticationID) and a signing pair (SigningID), each with
// a key and a certificate of its own on the same subject. It returns the two
// certificates.
func (c *Card) ProvisionPrescriber(ca *CA, p Prescriber) (authentication, signing *x509.Certificate, err error) {
	if p.UID == "" {
		n, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000_000))
		if err != nil {
			return nil, nil, fmt.Errorf("testcard: %w", err)
		}
		p.UID = fmt.Sprintf("%012d", n)
	}
	if len(p.UID) != 12 || bytes.ContainsFunc([]byte(p.UID), func(r rune) bool { return r < '0' || r > '9' }) {
		return nil, nil, fmt.Errorf("testcard: UID %q, expected 12 digits", p.UID)
	}
	issue := func(profile Profile, key crypto.Signer, id []byte, label string, always bool) (*x509.Certificate, error) {
		if key == nil {
			fresh, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				return nil, fmt.Errorf("testcard: %w", err)
			}
			key = fresh
		}
		cert, err := ca.Issue(profile, key.Public(), IssueOptions{Subject: Subject(p.UID), NotBefore: p.NotBefore, NotAfter: p.NotAfter})
		if err != nil {
			return nil, err
		}
		return cert, c.Provision(Pair{ID: id, Label: label, Key: key, Certificate: cert.Raw, AlwaysAuthenticate: always})
	}
	if authentication, err = issue(Authentication, p.AuthenticationKey, AuthenticationID(), AuthenticationLabel, false); err != nil {
		return nil, nil, err
	}
	if signing, err = issue(Signing, p.SigningKey, SigningID(), SigningLabel, c.cfg.AlwaysAuthenticate); err != nil {
		return nil, nil, err
	}
	return authentication, signing, nil
}
