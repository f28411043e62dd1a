package status_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"github.com/rxguard/rxguard/guard/status"
)

// FuzzParse holds Parse to crypto/x509: what is read here is read there, and says the
// same of every certificate.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"plain.crl", "plain.pem", "users.crl", "relative.crl", "delta.crl"} {
		f.Add(golden(f, name))
	}
	f.Fuzz(parseBoth)
}

// FuzzParseParts is FuzzParse for the two parts of a list that have most to be read,
// in a list that is whole: lengths seldom fit by chance.
func FuzzParseParts(f *testing.F) {
	name := nameOf("CA")
	f.Add(entry(big1(), yesterday, because(1), ext(oidInvalidity, false, generalized(now))), idp(fullName(uriName("http://lists.example/")), flag(1), tlv(0x83, reasonBits(1))))
	f.Add(bytes.Join([][]byte{entry(big1(), yesterday, of(name)), entry(bigSerial(20), now, because(6))}, nil), idp(relativeName("point"), flag(2), flag(4)))
	f.Add([]byte{}, ext(oidDelta, true, []byte{2, 1, 1}))
	f.Fuzz(func(t *testing.T, entries, extensions []byte) {
		parts := [][]byte{{2, 1, 1}, ecdsaSHA256, name, derOf(now), derOf(now), tlv(0x30, entries)}
		if len(extensions) > 0 {
			parts = append(parts, tlv(0xa0, tlv(0x30, extensions)))
		}
		parseBoth(t, tlv(0x30, tlv(0x30, parts...), ecdsaSHA256, tlv(3, []byte{0, 1})))
	})
}

func parseBoth(t *testing.T, b []byte) {
	l, err := status.Parse(b, 1<<20)
	if err != nil || b[0] != 0x30 {
		return
	}
	x, err := x509.ParseRevocationList(b)
	if err != nil {
		t.Fatalf("crypto/x509 refuses it: %v", err)
	}
	if len(x.Raw) != len(b) {
		t.Fatal("bytes follow the list")
	}
	if n := l.Number(); (n == nil) != (x.Number == nil) || n != nil && n.Cmp(x.Number) != 0 {
		t.Fatalf("number %v, wanted %v", n, x.Number)
	}
	if !l.ThisUpdate().Equal(x.ThisUpdate) || !l.NextUpdate().Equal(x.NextUpdate) {
		t.Fatalf("%v to %v, wanted %v to %v", l.ThisUpdate(), l.NextUpdate(), x.ThisUpdate, x.NextUpdate)
	}
	if l.Len() > len(x.RevokedCertificateEntries) {
		t.Fatalf("%d entries, wanted at most %d", l.Len(), len(x.RevokedCertificateEntries))
	}
	for _, e := range x.RevokedCertificateEntries {
		for _, ext := range e.Extensions {
			if ext.Id.Equal(oidEntryIssuer) {
				return // whose entries these are is for other tests
			}
		}
		s, err := status.NewSubject([]*x509.Certificate{{RawIssuer: x.RawIssuer, SerialNumber: e.SerialNumber}})
		if err != nil {
			t.Fatalf("serial %x of a list: %v", e.SerialNumber, err)
		}
		found, ok := l.Find(s)
		if !ok {
			t.Fatalf("serial %x is not found", e.SerialNumber)
		}
		want := status.Entry{Reason: status.Reason(e.ReasonCode), Revoked: e.RevocationTime}
		if want.Revokes(e.RevocationTime) && !found.Revokes(e.RevocationTime) {
			t.Fatalf("serial %x: %s, wanted %s", e.SerialNumber, found, want)
		}
	}
	_ = l.String()
}

// FuzzPoints holds the reading of distribution points to crypto/x509 and to itself:
// what is read is whole, and has the URLs that crypto/x509 finds.
func FuzzPoints(f *testing.F) {
	p := func(parts ...[]byte) []byte { return tlv(0x30, tlv(0x30, parts...)) }
	url := fullName(uriName("http://lists.example/1.crl"))
	for _, seed := range [][]byte{p(url), p(url, tlv(0x81, reasonBits(1, 2))), p(tlv(0xa2, dirName(nameOf("Lists")))), p(relativeName("point")), p(tlv(0xa0)), tlv(0x30)} {
		f.Add(seed)
	}
	ca := goldenCA(f)
	f.Fuzz(func(t *testing.T, value []byte) {
		c := certificateOf(ca, big1())
		c.Extensions = append(c.Extensions, x509Extension(oidCDP, value))
		s, err := status.NewSubject([]*x509.Certificate{c})
		if err != nil {
			t.Fatal(err)
		}
		if s.Err() != nil {
			if len(s.URLs()) > 0 {
				t.Fatal("URLs of points that cannot be read")
			}
			return
		}
		var whole asn1.RawValue
		if rest, err := asn1.Unmarshal(value, &whole); err != nil || len(rest) > 0 {
			t.Fatalf("encoding/asn1 refuses it: %v, %d bytes more", err, len(rest))
		}
		if http, ok := s.ByHTTP(); !ok && len(s.URLs()) > 0 || len(http.URLs()) != len(s.URLs()) {
			t.Fatalf("by http %v, of %d URLs", ok, len(s.URLs()))
		}
	})
}

// FuzzParseCertificate: what only this package reads is a certificate all the same, with
// the bytes that were given.
func FuzzParseCertificate(f *testing.F) {
	f.Add(goldenCA(f).Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := status.ParseCertificate(der)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Raw, der) || !bytes.Contains(der, c.RawTBSCertificate) {
			t.Fatal("other bytes than were given")
		}
		if _, err := x509.ParseCertificate(der); err == nil {
			return
		}
		s, err := status.NewSubject([]*x509.Certificate{c})
		if err == nil && s.Err() != nil {
			t.Fatal(s.Err())
		}
	})
}
