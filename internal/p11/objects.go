//go:build cgo

package p11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

var classes = map[card.Class]uint{
	card.CertificateObject: pkcs11.CKO_CERTIFICATE,
	card.PublicKeyObject:   pkcs11.CKO_PUBLIC_KEY,
	card.PrivateKeyObject:  pkcs11.CKO_PRIVATE_KEY,
}

// Objects lists what the module shows of certificates and keys on the token.
func (s *session) Objects(ctx context.Context) ([]card.Object, error) {
	list, err := s.shown(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := card.SigningPair(list); err != nil {
		if err := s.whole(ctx, "read"); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// whole waits, once in a session of ykcs11, until it is clear that the card was in
// while the module read it: what it cannot read of a card that is being pulled it
// shows as not there, without an error.
func (s *session) whole(ctx context.Context, op string) error {
	if !s.m.piv || s.read {
		return nil
	}
	s.t.settle(ctx, s.insertion)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.alive(op); err != nil {
		return err
	}
	s.read = true
	return nil
}

func (s *session) shown(ctx context.Context) ([]card.Object, error) {
	return work(ctx, s, "read", 1, func() ([]card.Object, error) {
		var list []card.Object
		for _, class := range []card.Class{card.CertificateObject, card.PublicKeyObject, card.PrivateKeyObject} {
			hs, err := s.find(classes[class], nil)
			if err != nil {
				return nil, err
			}
			for _, h := range hs {
				o, err := s.object(class, h)
				if err != nil {
					return nil, err
				}
				list = append(list, o)
			}
		}
		return list, nil
	})
}

// find lists the objects of a class, with one CKA_ID unless id is nil. It is called
// in the session's turn, as are the functions below.
func (s *session) find(class uint, id []byte) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	return s.findAll(template)
}

func (s *session) findAll(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := s.m.ctx.FindObjectsInit(s.h, template); err != nil {
		return nil, err
	}
	var all []pkcs11.ObjectHandle
	var err error
	for { // a module may answer fewer than there are
		var some []pkcs11.ObjectHandle
		some, _, err = s.m.ctx.FindObjects(s.h, 64)
		if err != nil || len(some) == 0 {
			break
		}
		all = append(all, some...)
	}
	if ferr := s.m.ctx.FindObjectsFinal(s.h); err == nil {
		err = ferr
	}
	return all, err
}

// attribute reads one attribute, or nil when the object does not have it or the
// module does not tell.
func (s *session) attribute(h pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	as, err := s.m.ctx.GetAttributeValue(s.h, h, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_FUNCTION_NOT_SUPPORTED) {
		return nil, nil
	}
	if err != nil || len(as) != 1 {
		return nil, err
	}
	return as[0].Value, nil
}

// flag reads a CK_BBOOL; not there is false.
func (s *session) flag(h pkcs11.ObjectHandle, kind uint) (bool, error) {
	b, err := s.attribute(h, kind)
	return len(b) == 1 && b[0] != 0, err
}

// number reads a CK_ULONG.
func (s *session) number(h pkcs11.ObjectHandle, kind uint) (n uint, ok bool, err error) {
	b, err := s.attribute(h, kind)
	switch {
	case err != nil:
		return 0, false, err
	case len(b) == 8:
		return uint(binary.NativeEndian.Uint64(b)), true, nil
	case len(b) == 4: // of Windows
		return uint(binary.NativeEndian.Uint32(b)), true, nil
	}
	return 0, false, nil
}

func (s *session) object(class card.Class, h pkcs11.ObjectHandle) (card.Object, error) {
	o := card.Object{Class: class}
	var err error
	if o.ID, err = s.attribute(h, pkcs11.CKA_ID); err != nil {
		return o, err
	}
	label, err := s.attribute(h, pkcs11.CKA_LABEL)
	if err != nil {
		return o, err
	}
	o.Label = clean(string(label))
	switch class {
	case card.CertificateObject:
		o.DER, err = s.attribute(h, pkcs11.CKA_VALUE)
	default:
		if o.Public, err = s.public(h); err != nil || class == card.PublicKeyObject {
			break
		}
		o.AlwaysAuthenticate, err = s.flag(h, pkcs11.CKA_ALWAYS_AUTHENTICATE)
		o.AlwaysAuthenticate = o.AlwaysAuthenticate || len(o.ID) > 0 && s.t.learned(s.insertion, o.ID)
	}
	return o, err
}

// public reads the public key that a key object shows; nil when it shows none, or
// one of another kind than RSA and the NIST curves.
func (s *session) public(h pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	kind, ok, err := s.number(h, pkcs11.CKA_KEY_TYPE)
	if err != nil || !ok {
		return nil, err
	}
	switch kind {
	case pkcs11.CKK_RSA:
		n, err := s.attribute(h, pkcs11.CKA_MODULUS)
		if err != nil || len(n) == 0 {
			return nil, err
		}
		e, err := s.attribute(h, pkcs11.CKA_PUBLIC_EXPONENT)
		if err != nil {
			return nil, err
		}
		return rsaKey(n, e), nil
	case pkcs11.CKK_EC:
		params, err := s.attribute(h, pkcs11.CKA_EC_PARAMS)
		if err != nil {
			return nil, err
		}
		point, err := s.attribute(h, pkcs11.CKA_EC_POINT)
		if err != nil {
			return nil, err
		}
		return ecKey(params, point), nil
	}
	return nil, nil
}

func rsaKey(n, e []byte) crypto.PublicKey {
	exponent := new(big.Int).SetBytes(e)
	if !exponent.IsInt64() || exponent.Int64() < 2 || exponent.Int64() > 1<<31-1 {
		return nil
	}
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
	if k.N.Sign() == 0 {
		return nil
	}
	return k
}

// curves by the DER of their OIDs, RFC 5480 2.1.1.1.
var curves = map[string]elliptic.Curve{
	"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07": elliptic.P256(),
	"\x06\x05\x2b\x81\x04\x00\x22":             elliptic.P384(),
	"\x06\x05\x2b\x81\x04\x00\x23":             elliptic.P521(),
}

// curveOf reads EC_PARAMS (PKCS#11 v3.0 2.3.3): the name of a curve, or all of its
// parameters, as ykcs11 answers (SEC 1 C.2, SpecifiedECDomain). Nil is another curve.
func curveOf(params []byte) elliptic.Curve {
	if c := curves[string(params)]; c != nil {
		return c
	}
	var d struct {
		Version int
		Field   struct {
			Type  asn1.ObjectIdentifier
			Prime *big.Int
		}
		Curve struct {
			A, B []byte
			Seed asn1.BitString `asn1:"optional"`
		}
		Base     []byte
		Order    *big.Int
		Cofactor *big.Int `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(params, &d); err != nil || len(rest) > 0 {
		return nil
	}
	for _, c := range curves {
		p := c.Params()
		n := (p.BitSize + 7) / 8
		base := slices.Concat([]byte{4}, p.Gx.FillBytes(make([]byte, n)), p.Gy.FillBytes(make([]byte, n))) // uncompressed
		if d.Field.Prime.Cmp(p.P) == 0 && new(big.Int).SetBytes(d.Curve.B).Cmp(p.B) == 0 && d.Order.Cmp(p.N) == 0 && bytes.Equal(d.Base, base) {
			return c
		}
	}
	return nil
}

// ecKey reads an EC_POINT, which is a DER OCTET STRING, and from some modules the
// bare point.
func ecKey(params, point []byte) crypto.PublicKey {
	curve := curveOf(params)
	if curve == nil {
		return nil
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	k, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil
	}
	return k
}

// isPIV tells whether a module names PIV slots by CKA_ID and makes keys in them,
// as ykcs11 does.
func isPIV(info pkcs11.Info) bool {
	return bytes.HasPrefix([]byte(clean(info.ManufacturerID)), []byte("Yubico")) && bytes.Contains([]byte(info.LibraryDescription), []byte("PIV"))
}

// The CKA_IDs of the retired key management slots 82 to 95, NIST SP 800-73-4 part 1
// table 4b, as the module numbers them.
const firstRetired, lastRetired = 0x05, 0x18

// vacant lists the PIV slots in which nothing is, by CKA_ID.
func (s *session) vacant(ctx context.Context) ([][]byte, error) {
	objects, err := s.shown(ctx)
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool)
	for _, o := range objects {
		taken[string(o.ID)] = true
	}
	var free [][]byte
	for id := byte(firstRetired); id <= lastRetired; id++ {
		if !taken[string([]byte{id})] {
			free = append(free, []byte{id})
		}
	}
	return free, nil
}
