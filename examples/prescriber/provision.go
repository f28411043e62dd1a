package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// affectedFor is how long ago the certificates of a token were issued when it is
// provisioned: within the days that the simulation's notice covers.
const affectedFor = 3 * 24 * time.Hour

// toProvision is what the passcode is asked for before the journey.
const toProvision = card.Purpose("provision the token")

// pairs are what a prescriber's card holds, where a PIV card has them: slots 9a and
// 9c of NIST SP 800-73-4 part 1, table 4b. What a pair is for, its certificate's
// profile says.
var pairs = []struct {
	profile testcard.Profile
	id      []byte
	label   string
}{
	{testcard.Authentication, testcard.AuthenticationID(), testcard.AuthenticationLabel},
	{testcard.Signing, testcard.SigningID(), testcard.SigningLabel},
}

// provision puts a prescriber's two pairs on an empty token, or what is missing of
// them where an earlier run was interrupted. A token with anything of others on it
// is refused, before its passcode is asked where it shows that much.
func (t *testToken) provision(ctx context.Context, tell *teller) (err error) {
	s, err := t.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	objects, err := t.ours(ctx, s)
	if err != nil || t.file.Provisioned && len(objects) > 0 {
		return err
	}
	tell.begin(0, "provision", "The token is provisioned")
	h := card.NewHandle(t.token, card.Options{PIN: t.asking(tell), LastTry: t.secrets.lastTry})
	if err := card.Login(ctx, h, s, toProvision); err != nil {
		return err
	}
	if objects, err = t.ours(ctx, s); err != nil { // what is hidden before
		return err
	}
	switch {
	case len(objects) == 0:
		tell.say("empty", fmt.Sprintf("Token %s, serial %s, is empty. It gets an authentication and a signing pair of a test authority that nobody trusts; what belongs to it is in %s.",
			t.file.Label, t.file.Serial, t.dir), nil)
		if err := t.begin(); err != nil {
			return err
		}
	case t.file.Provisioned:
		return nil
	default:
		tell.say("unfinished", fmt.Sprintf("An earlier run began to provision token %s, serial %s. It goes on.", t.file.Label, t.file.Serial), nil)
	}
	for _, p := range pairs {
		c, err := t.pair(ctx, s, p.profile, p.id, p.label)
		if err != nil {
			return t.unable(err)
		}
		tell.say("pair", fmt.Sprintf("%s pair, CKA_ID %x: certificate %x, issued as of %s.", upper(p.profile.String()), p.id, c.SerialNumber, c.NotBefore.Format(time.RFC3339)), nil)
	}
	// Whoever comes next enters the passcode himself.
	if err := s.Logout(ctx); err != nil {
		return err
	}
	t.file.Provisioned = true
	return t.save()
}

// Open opens a session in which what is made is written down.
func (t *testToken) Open(ctx context.Context) (card.Session, error) {
	return ledger{t.token, t}.Open(ctx)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// asking tells about each question for the passcode.
func (t *testToken) asking(tell *teller) func(context.Context, passcodeRequest) ([]byte, error) {
	return func(ctx context.Context, r passcodeRequest) ([]byte, error) {
		tell.asked(r, "the token's holder enters it")
		return t.PIN(ctx, r)
	}
}

// pair puts one pair on the token, as far as it is not there.
func (t *testToken) pair(ctx context.Context, s card.Session, profile testcard.Profile, id []byte, label string) (*x509.Certificate, error) {
	objects, err := s.Objects(ctx)
	if err != nil {
		return nil, err
	}
	var pub crypto.PublicKey
	key := false
	for _, o := range objects {
		switch {
		case !bytes.Equal(o.ID, id):
		case o.Class == card.CertificateObject:
			if c, err := x509.ParseCertificate(o.DER); err == nil && t.issued(c) {
				return c, nil
			}
		default:
			key = true
			if pub == nil {
				pub = o.Public
			}
		}
	}
	if key && pub == nil { // half a pair
		for _, class := range []card.Class{card.PrivateKeyObject, card.PublicKeyObject} {
			if err := s.Destroy(ctx, class, id); err != nil && !card.IsKind(err, card.NotFound) {
				return nil, err
			}
		}
	}
	if pub == nil {
		made, err := s.Generate(ctx, card.KeySpec{ID: id, Label: label, Bits: 2048})
		if err != nil {
			return nil, err
		}
		pub = made.Public
	}
	c, err := t.ca.Issue(profile, pub, testcard.IssueOptions{Subject: testcard.Subject(t.file.UID), NotBefore: t.file.Issued})
	if err != nil {
		return nil, err
	}
	t.touched = true
	return c, s.WriteCertificate(ctx, id, label, c.Raw)
}

// untouched tells whether a token refused to be changed, and stayed as it was.
func untouched(err error) bool {
	return card.IsKind(err, card.Unsupported) || card.IsKind(err, card.ReadOnly) || card.IsKind(err, card.Full)
}

// unable puts in plain words that a module cannot do what provisioning needs.
func (t *testToken) unable(err error) error {
	if !untouched(err) || refusedOfficer(err) {
		return err
	}
	return &stopError{text: fmt.Sprintf("This token cannot be provisioned through the module %s: %v.\n"+
		"The journey needs a module that makes RSA keys on the token and writes certificates to it: SoftHSM and NSS softokn do, and ykcs11 with a PIV card, with the card's management key as its security officer's secret. OpenSC makes no keys on PIV cards.",
		t.o.module, err), err: err, final: true}
}

// ours lists the token's certificates and keys; anything on it that is not this
// example's is an error, and the token stays as it is.
func (t *testToken) ours(ctx context.Context, s card.Session) ([]card.Object, error) {
	objects, err := s.Objects(ctx)
	if err != nil {
		return nil, err
	}
	var strange []string
	if l, ok := s.(lister); ok {
		if strange, err = l.Others(ctx); err != nil {
			return nil, err
		}
	}
	for _, o := range objects {
		if why := t.strange(o); why != "" {
			strange = append(strange, why)
		}
	}
	if len(strange) == 0 {
		return objects, nil
	}
	text := fmt.Sprintf("Token %s, serial %s, holds what this example did not put there, so it is left alone:\n", t.file.Label, t.file.Serial)
	for _, s := range strange {
		text += "  - " + s + "\n"
	}
	text += "The example works on an empty token, or on one that it provisioned itself: what it knows of those is in " + t.dir + " (--dir names another folder)."
	return nil, &stopError{text: text, err: card.Errorf(card.Unsupported, "provision", "%s", strange[0]), final: true}
}

// strange says what an object is that is not this example's; empty for its own.
func (t *testToken) strange(o card.Object) string {
	switch o.Class {
	case card.CertificateObject:
		c, err := x509.ParseCertificate(o.DER)
		if err != nil {
			return fmt.Sprintf("certificate %q, CKA_ID %x, which cannot be read", o.Label, o.ID)
		}
		// A module may write a placeholder with a new key, as ykcs11 does.
		placeholder := bytes.Equal(c.RawIssuer, c.RawSubject) && t.made(o.ID, c.PublicKey)
		if !placeholder && !t.issued(c) {
			return fmt.Sprintf("certificate %q, CKA_ID %x, of %s", o.Label, o.ID, c.Issuer)
		}
		return ""
	case card.PublicKeyObject, card.PrivateKeyObject:
		if !t.made(o.ID, o.Public) {
			return fmt.Sprintf("key %q, CKA_ID %x", o.Label, o.ID)
		}
	}
	return ""
}

// issued tells whether a certificate is of this token's test authority.
func (t *testToken) issued(c *x509.Certificate) bool {
	return c.CheckSignatureFrom(t.ca.IssuingCertificate()) == nil
}

// made tells whether this example made a key: by its public half, or by its CKA_ID
// where that half is not shown, or was not learnt because the token was pulled.
func (t *testToken) made(id []byte, pub crypto.PublicKey) bool {
	sum := keySum(pub)
	return slices.ContainsFunc(t.file.Made, func(m madeKey) bool {
		return bytes.Equal(id, m.ID) && (sum == "" || m.Key == "" || sum == m.Key)
	})
}
