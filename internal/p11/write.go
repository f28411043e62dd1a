//go:build cgo

package p11

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

// Vacant names a retired PIV slot without a key, or a random CKA_ID.
func (s *session) Vacant(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.m.piv {
		if err := s.whole(ctx, "generate"); err != nil {
			return nil, err
		}
		free, err := s.vacant(ctx)
		if err == nil && len(free) == 0 {
			err = card.Errorf(card.Full, "generate", "every retired key management slot is taken")
		}
		if err != nil {
			return nil, err
		}
		return free[0], nil
	}
	if err := s.alive("generate"); err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	return id, nil
}

// Generate makes an RSA key pair on the token, which its private half never leaves.
func (s *session) Generate(ctx context.Context, spec card.KeySpec) (card.Object, error) {
	const op = "generate"
	if spec.Bits == 0 {
		spec.Bits = 2048
	}
	if spec.Bits < 2048 || spec.Bits > 4096 {
		return card.Object{}, card.Errorf(card.Unsupported, op, "RSA key of %d bits, expected 2048 to 4096", spec.Bits)
	}
	if len(spec.ID) == 0 {
		return card.Object{}, card.Errorf(card.Unsupported, op, "CKA_ID of 0 bytes, expected a new one")
	}
	if err := s.whole(ctx, op); err != nil { // or a key could be there that is not shown
		return card.Object{}, err
	}
	id, label := bytes.Clone(spec.ID), spec.Label
	if spec.Over {
		if info, err := s.Info(ctx); err != nil {
			return card.Object{}, err
		} else if info.NoKeyPairs {
			return card.Object{}, card.Errorf(card.Unsupported, op, "the token has no mechanism CKM_RSA_PKCS_KEY_PAIR_GEN; nothing was removed")
		}
	}
	_, err := change(ctx, s, op, generating, func() (struct{}, error) {
		var none struct{}
		m := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}
		if spec.Over { // before the old pair goes
			if i, err := s.m.ctx.GetMechanismInfo(s.slot, m); err == nil && i.MaxKeySize > 0 && uint(spec.Bits) > i.MaxKeySize {
				return none, card.Errorf(card.Unsupported, op, "RSA key of %d bits, expected at most the token's %d; nothing was removed", spec.Bits, i.MaxKeySize)
			}
		}
		if err := s.clear(op, id, spec.Over); err != nil {
			return none, err
		}
		public, private := templates(id, label, spec.Bits)
		_, _, err := s.m.ctx.GenerateKeyPair(s.h, m, public, private)
		if is(err, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY) {
			public, private = plainTemplates(id, spec.Bits)
			_, _, err = s.m.ctx.GenerateKeyPair(s.h, m, public, private)
		}
		return none, err
	})
	if err != nil {
		return card.Object{}, err
	}
	objects, err := s.Objects(ctx)
	if err != nil {
		return card.Object{}, err
	}
	var made card.Object
	for _, o := range objects {
		if !bytes.Equal(o.ID, id) {
			continue
		}
		if o.Class == card.PrivateKeyObject {
			made.Class, made.ID, made.Label, made.AlwaysAuthenticate = o.Class, o.ID, o.Label, o.AlwaysAuthenticate
		}
		if o.Public != nil && made.Public == nil {
			made.Public = o.Public
		}
	}
	if made.Public == nil {
		return card.Object{}, card.Errorf(card.BadObject, op, "the module made a key with CKA_ID %x and does not show its public half", id)
	}
	made.Class, made.ID = card.PrivateKeyObject, id // it may be visible to the person alone
	return made, nil
}

// clear makes sure that nothing has a CKA_ID under which a pair is to be made. What is
// there stops it, or goes when it is to be replaced: the private key first, so that a
// token that removes no keys loses nothing. A PIV slot is left to the card, which gives
// the old key up only when it has made the new one (NIST SP 800-73-4 part 2, 3.3.2). It
// is called in the session's turn.
func (s *session) clear(op string, id []byte, over bool) error {
	if over && s.m.piv {
		return nil
	}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
		hs, err := s.find(class, id)
		if err != nil {
			return err
		}
		if len(hs) > 0 && !over {
			return card.Errorf(card.Unsupported, op, "CKA_ID %x is taken, expected a new one", id)
		}
		for _, h := range hs {
			if err := s.m.ctx.DestroyObject(s.h, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// templates of a key that signs and never leaves the token.
func templates(id []byte, label string, bits int) (public, private []*pkcs11.Attribute) {
	a := pkcs11.NewAttribute
	public = []*pkcs11.Attribute{
		a(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), a(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA), a(pkcs11.CKA_TOKEN, true),
		a(pkcs11.CKA_VERIFY, true), a(pkcs11.CKA_MODULUS_BITS, bits), a(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		a(pkcs11.CKA_ID, id), a(pkcs11.CKA_LABEL, label),
	}
	private = []*pkcs11.Attribute{
		a(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), a(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA), a(pkcs11.CKA_TOKEN, true),
		a(pkcs11.CKA_PRIVATE, true), a(pkcs11.CKA_SENSITIVE, true), a(pkcs11.CKA_EXTRACTABLE, false), a(pkcs11.CKA_SIGN, true),
		a(pkcs11.CKA_ID, id), a(pkcs11.CKA_LABEL, label),
	}
	return public, private
}

// plainTemplates hold what a module must know, for those that refuse the rest.
func plainTemplates(id []byte, bits int) (public, private []*pkcs11.Attribute) {
	a := pkcs11.NewAttribute
	public = []*pkcs11.Attribute{
		a(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), a(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		a(pkcs11.CKA_ID, id), a(pkcs11.CKA_MODULUS_BITS, bits), a(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
	}
	private = []*pkcs11.Attribute{a(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), a(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA), a(pkcs11.CKA_ID, id)}
	return public, private
}

// WriteCertificate stores a certificate beside its key, in the place of the one that
// is there under this CKA_ID.
func (s *session) WriteCertificate(ctx context.Context, id []byte, label string, der []byte) error {
	const op = "write_certificate"
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return &card.Error{Kind: card.Unsupported, Op: op, TriesLeft: -1, Detail: "it is no certificate", Err: err}
	}
	serial, err := asn1.Marshal(c.SerialNumber)
	if err != nil {
		return &card.Error{Kind: card.Unsupported, Op: op, TriesLeft: -1, Err: err}
	}
	if err := s.asUser(ctx, op); err != nil { // the key may be visible to the person alone
		return err
	}
	objects, err := s.Objects(ctx)
	if err != nil {
		return err
	}
	there := false
	for _, o := range objects {
		there = there || o.Class == card.PrivateKeyObject && bytes.Equal(o.ID, id)
	}
	if !there {
		return card.Errorf(card.NotFound, op, "private key with CKA_ID %x, beside which the certificate belongs", id)
	}
	id, der = bytes.Clone(id), bytes.Clone(der)
	a := pkcs11.NewAttribute
	plain := []*pkcs11.Attribute{
		a(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), a(pkcs11.CKA_ID, id), a(pkcs11.CKA_VALUE, der),
	}
	full := append(plain[:len(plain):len(plain)],
		a(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509), a(pkcs11.CKA_TOKEN, true), a(pkcs11.CKA_PRIVATE, false), a(pkcs11.CKA_LABEL, label),
		a(pkcs11.CKA_SUBJECT, c.RawSubject), a(pkcs11.CKA_ISSUER, c.RawIssuer), a(pkcs11.CKA_SERIAL_NUMBER, serial))
	_, err = change(ctx, s, op, 1, func() (struct{}, error) {
		var none struct{}
		var old []pkcs11.ObjectHandle
		if !s.m.piv { // where writing replaces; without its certificate the module would hide the key
			var err error
			if old, err = s.find(pkcs11.CKO_CERTIFICATE, id); err != nil {
				return none, err
			}
		}
		made, err := s.m.ctx.CreateObject(s.h, full)
		if is(err, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY) {
			made, err = s.m.ctx.CreateObject(s.h, plain)
		}
		if err != nil {
			return none, err
		}
		// The old one goes last: it stays when the card refuses the new one.
		for _, h := range old {
			if h == made { // NSS keeps one object for one issuer and serial number
				continue
			}
			if err := s.m.ctx.DestroyObject(s.h, h); err != nil {
				return none, err
			}
		}
		return none, nil
	})
	return err
}

// Destroy removes objects and looks again: a module that says it removed something
// is no proof. A PIV card has no command that removes a key (NIST SP 800-73-4 part 2,
// 3); asked to, ykcs11 removes the key's certificate and hides the key.
func (s *session) Destroy(ctx context.Context, class card.Class, id []byte) error {
	const op = "destroy"
	kind, ok := classes[class]
	if !ok || len(id) == 0 {
		return card.Errorf(card.Unsupported, op, "object of class %d with CKA_ID %x", class, id)
	}
	if s.m.piv && class != card.CertificateObject {
		return card.Errorf(card.Unsupported, op, "a PIV card removes no key; the slot with CKA_ID %x keeps it until another is made there", id)
	}
	id = bytes.Clone(id)
	delete(s.keys, string(id))
	_, err := change(ctx, s, op, 1, func() (struct{}, error) {
		var none struct{}
		hs, err := s.find(kind, id)
		if err != nil {
			return none, err
		}
		if len(hs) == 0 {
			return none, card.Errorf(card.NotFound, op, "object of class %d with CKA_ID %x", class, id)
		}
		for _, h := range hs {
			if err := s.m.ctx.DestroyObject(s.h, h); err != nil {
				return none, err
			}
		}
		if hs, err = s.find(kind, id); err == nil && len(hs) > 0 {
			err = card.Errorf(card.Unsupported, op, "the module says that it removed the object of class %d with CKA_ID %x, and shows it still", class, id)
		}
		return none, err
	})
	return err
}
