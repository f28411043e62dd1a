//go:build cgo

package p11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

// digestInfo is the DER before a digest in a DigestInfo, RFC 8017 9.2 note 1. The
// module gets the whole of it: not every one knows CKM_SHA256_RSA_PKCS.
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA1:   {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14},
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

var pssHash = map[crypto.Hash]struct{ mechanism, mgf uint }{
	crypto.SHA1:   {pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1},
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
	crypto.SHA384: {pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384},
	crypto.SHA512: {pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512},
}

// mechanism says how a key signs a digest, and what it is given to sign.
func mechanism(k key, digest []byte, opts crypto.SignerOpts) (*pkcs11.Mechanism, []byte, error) {
	h := opts.HashFunc()
	if !h.Available() || len(digest) != h.Size() {
		return nil, nil, card.Errorf(card.Unsupported, "sign", "a digest of %d bytes, which %v does not make", len(digest), h)
	}
	if !k.rsa {
		// The leftmost bits of a longer digest count (FIPS 186-5 6.4.1); not every module
		// takes the others.
		if k.order > 0 && len(digest) > k.order {
			digest = digest[:k.order]
		}
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), bytes.Clone(digest), nil
	}
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok || pss == nil {
		prefix, ok := digestInfo[h]
		if !ok {
			return nil, nil, card.Errorf(card.Unsupported, "sign", "RSASSA-PKCS1-v1_5 with %v", h)
		}
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append(bytes.Clone(prefix), digest...), nil
	}
	p, ok := pssHash[h]
	if !ok {
		return nil, nil, card.Errorf(card.Unsupported, "sign", "RSASSA-PSS with %v", h)
	}
	salt := pss.SaltLength
	if salt == rsa.PSSSaltLengthAuto || salt == rsa.PSSSaltLengthEqualsHash {
		salt = h.Size()
	}
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(p.mechanism, p.mgf, uint(salt))), bytes.Clone(digest), nil
}

func (s *session) sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.asUser(ctx, "sign"); err != nil {
		return nil, err
	}
	k, err := s.private(ctx, "sign", id)
	if err != nil {
		return nil, err
	}
	m, message, err := mechanism(k, digest, opts)
	if err != nil {
		return nil, err
	}
	var pin []byte
	if k.always {
		s.login.mu.Lock()
		fresh, pad := s.login.fresh, s.login.pad
		s.login.fresh = false
		pin = bytes.Clone(s.login.pin)
		s.login.mu.Unlock()
		defer clear(pin)
		if err := s.alive("sign"); err != nil {
			return nil, err
		}
		if !fresh || pin == nil && !pad {
			return nil, card.Errorf(card.NotLoggedIn, "sign", "the key with CKA_ID %x wants a login for each signature", id)
		}
	}
	bounds := 1
	if k.always && pin == nil {
		bounds = typing
	}
	sig, err := workWith(ctx, s, "sign", bounds, pin, func(pin []byte) ([]byte, error) {
		if err := s.m.ctx.SignInit(s.h, []*pkcs11.Mechanism{m}, k.handle); err != nil {
			return nil, err
		}
		if k.always {
			err := s.m.ctx.Login(s.h, pkcs11.CKU_CONTEXT_SPECIFIC, text(pin))
			if k.silent && is(err, pkcs11.CKR_OPERATION_NOT_INITIALIZED, pkcs11.CKR_USER_TYPE_INVALID) {
				// It does not: it had only lost the login.
				s.t.unlearn(id)
				err = nil
			}
			if err != nil {
				return nil, s.left("sign", err)
			}
		}
		return s.m.ctx.Sign(s.h, message)
	})
	s.login.signed()
	if !k.always && card.IsKind(err, card.NotLoggedIn) {
		// A key that wants the passcode each time, though the module does not say so.
		s.t.learn(s.insertion, id)
		s.login.mu.Lock()
		s.login.fresh = false
		s.login.mu.Unlock()
		return nil, err
	}
	if err != nil {
		// The operation may still be active in it.
		s.kill("a signature in it failed")
		return nil, err
	}
	if !k.rsa {
		return derOf(sig)
	}
	return sig, nil
}

// derOf makes a raw r and s an ECDSA-Sig-Value, RFC 3279 2.2.3.
func derOf(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, card.Errorf(card.BadSignature, "sign", "%d bytes; wanted r and s of one length", len(raw))
	}
	n := len(raw) / 2
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
	if err != nil {
		return nil, fmt.Errorf("p11: %w", err)
	}
	return sig, nil
}

// private finds a private key by CKA_ID, once in a login.
func (s *session) private(ctx context.Context, op string, id []byte) (key, error) {
	if k, ok := s.keys[string(id)]; ok {
		return s.silently(k, id), nil
	}
	k, err := work(ctx, s, op, 1, func() (k key, err error) {
		hs, err := s.find(pkcs11.CKO_PRIVATE_KEY, id)
		if err != nil {
			return k, err
		}
		switch len(hs) {
		case 0:
			if i, err := s.m.ctx.GetSessionInfo(s.h); err == nil && (i.State == pkcs11.CKS_RO_PUBLIC_SESSION || i.State == pkcs11.CKS_RW_PUBLIC_SESSION) {
				return k, card.Errorf(card.NotLoggedIn, op, "another session of this program ended the login")
			}
			return k, card.Errorf(card.NotFound, op, "private key with CKA_ID %x", id)
		case 1:
		default:
			return k, card.Errorf(card.Ambiguous, op, "%d private keys with CKA_ID %x", len(hs), id)
		}
		k.handle = hs[0]
		kind, _, err := s.number(hs[0], pkcs11.CKA_KEY_TYPE)
		if err != nil {
			return k, err
		}
		k.rsa = kind == pkcs11.CKK_RSA
		if kind == pkcs11.CKK_EC {
			params, err := s.attribute(hs[0], pkcs11.CKA_EC_PARAMS)
			if err != nil {
				return k, err
			}
			if c := curveOf(params); c != nil {
				k.order = (c.Params().N.BitLen() + 7) / 8
			}
		}
		k.always, err = s.flag(hs[0], pkcs11.CKA_ALWAYS_AUTHENTICATE)
		return k, err
	})
	if err != nil {
		return key{}, err
	}
	if s.keys == nil {
		s.keys = make(map[string]key)
	}
	s.keys[string(id)] = k
	return s.silently(k, id), nil
}

// silently adds what was learned of a key to what the module says.
func (s *session) silently(k key, id []byte) key {
	k.silent = !k.always && s.t.learned(s.insertion, id)
	k.always = k.always || k.silent
	return k
}
