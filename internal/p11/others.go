//go:build cgo

package p11

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// profile is CKO_PROFILE (PKCS#11 v3.0 4.13), with which a module tells what it does.
const profile = 0x9

// pivObjects begins the OIDs, as DER encodes their value, that name the data objects of a PIV card, under
// 2.16.840.1.101.3.7 (NIST SP 800-73-4 part 1, table 3).
var pivObjects = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x07}

// Others names what the module shows on the token beside certificates and the keys of
// pairs: secret keys, data objects and all else; after Login what is hidden before, too.
// The data objects of a PIV card, which an empty one has, are not among them.
func (s *session) Others(ctx context.Context) ([]string, error) {
	return work(ctx, s, "read", 1, func() ([]string, error) {
		var names []string
		hs, err := s.findAll(nil)
		for _, h := range hs {
			class, ok, err := s.number(h, pkcs11.CKA_CLASS)
			if err != nil {
				return nil, err
			}
			kind := fmt.Sprintf("object of class 0x%x", class)
			switch {
			case ok && slices.Contains([]uint{pkcs11.CKO_CERTIFICATE, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_PRIVATE_KEY, profile}, class):
				continue
			case class == pkcs11.CKO_SECRET_KEY:
				kind = "secret key"
			case ok && class == pkcs11.CKO_DATA:
				if oid, err := s.attribute(h, pkcs11.CKA_OBJECT_ID); err != nil {
					return nil, err
				} else if bytes.HasPrefix(oid, pivObjects) || len(oid) > 2 && bytes.HasPrefix(oid[2:], pivObjects) { // ykcs11 leaves tag and length out
					continue
				}
				kind = "data object"
			}
			label, err := s.attribute(h, pkcs11.CKA_LABEL)
			if err != nil {
				return nil, err
			}
			names = append(names, fmt.Sprintf("%s %q", kind, clean(string(label))))
		}
		return names, err
	})
}
