package status_test

import (
	"bytes"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// bigSerial is of n bytes.
func bigSerial(n int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(8*n-2)) }

func TestBadListsAreRefusedWithAReason(t *testing.T) {
	w := newWorld(t)
	ok := crl{by: w.ca, number: 1, entries: [][]byte{entry(big.NewInt(7), yesterday, because(1))}}
	der := ok.der(t)
	with := func(exts ...[]byte) []byte { return crl{by: w.ca, exts: exts}.der(t) }
	entryWith := func(exts ...[]byte) []byte {
		return crl{by: w.ca, entries: [][]byte{entry(big.NewInt(7), yesterday, exts...)}}.der(t)
	}
	indirectWith := func(exts ...[]byte) []byte {
		return crl{by: w.ca, exts: [][]byte{idp(flag(4))}, entries: [][]byte{entry(big.NewInt(7), yesterday, exts...)}}.der(t)
	}
	raw := func(parts ...[]byte) []byte { return crl{by: w.ca, entries: [][]byte{tlv(0x30, parts...)}}.der(t) }
	replaced := func(old, new []byte) []byte {
		require.True(t, bytes.Contains(der, old))
		return crl{by: w.ca, number: 1, entries: ok.entries, change: func(body []byte) []byte { return bytes.Replace(body, old, new, 1) }}.der(t)
	}
	pemOf := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	date := tlv(0x17, []byte("260101000000Z"))
	thisUpdate := []byte(now.Add(-time.Hour).UTC().Format("060102150405Z"))

	for _, c := range []struct {
		name  string
		input []byte
		says  string
	}{
		{"empty", nil, "the end, wanted a certificate list"},
		{"text", []byte("<html>"), `it starts with "<html>", wanted DER or one PEM block`},
		{"truncated", der[:len(der)-1], "it is truncated"},
		{"truncated in the entries", der[:len(der)/2], "it is truncated"},
		{"one byte", der[:1], "the end"},
		{"more after it", append(slices.Clone(der), 0), "1 bytes more, wanted the end of the certificate list"},
		{"a length with a leading zero", append([]byte{0x30, 0x83, 0}, der[2:]...), "a length that is not DER"},
		{"a short length in the long form", []byte{0x30, 0x81, 1, 0}, "a length that is not DER"},
		{"an indefinite length", append([]byte{0x30, 0x80}, der[2:]...), "a length that is not DER"},
		{"a length longer than any input", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, "truncated"},
		{"a length of five bytes", []byte{0x30, 0x85, 1, 0, 0, 0, 0}, "a length that is not DER"},
		{"a certificate", w.ca.cert.Raw, "wanted version 2"},
		{"version 1", replaced(slices.Concat([]byte{2, 1, 1}, ecdsaSHA256), slices.Concat([]byte{2, 1, 0}, ecdsaSHA256)), "unsupported crl version"},
		{"a thisUpdate without seconds", replaced(tlv(0x17, thisUpdate), tlv(0x17, append(slices.Clone(thisUpdate[:10]), 'Z'))), "wanted UTCTime YYMMDDHHMMSSZ"},
		{"a thisUpdate of another zone", replaced(thisUpdate, append(slices.Clone(thisUpdate[:12]), '0')), "x509: malformed UTCTime"},
		{"a month of 13", replaced(thisUpdate, append([]byte("2613"), thisUpdate[4:]...)), "malformed UTCTime"},
		{"two PEM blocks", slices.Concat(pemOf("X509 CRL", der), pemOf("X509 CRL", der)), "2 PEM blocks"},
		{"another PEM block", pemOf("CERTIFICATE", der), `the PEM block is "CERTIFICATE", wanted X509 CRL`},
		{"damaged PEM", []byte("-----BEGIN X509 CRL-----\n!!\n"), "the PEM text is damaged"},
		{"text after PEM", append(pemOf("X509 CRL", der), "x"...), "text follows"},

		{"an extension twice", with(idp(), idp()), "is there twice"},
		{"a delta list", with(ext(oidDelta, true, []byte{2, 1, 1})), "delta list"},
		{"a scope that is no sequence", with(ext(oidIDP, true, []byte{5, 0})), "issuing distribution point: at byte offset 0: tag 0x05"},
		{"a scope that is truncated", with(ext(oidIDP, true, []byte{0x30, 5, 0x81})), "issuing distribution point"},
		{"a scope with more after it", with(ext(oidIDP, true, []byte{0x30, 0, 0})), "1 bytes more"},
		{"a scope with an unknown field", with(idp(tlv(0x86, nil))), "wanted the end of the issuing distribution point"},
		{"a scope whose fields are out of order", with(idp(flag(2), flag(1))), "wanted the end of the issuing distribution point"},
		{"a scope with a flag that is neither", with(idp(tlv(0x81, []byte{1}))), "a BOOLEAN of content 01"},
		{"a scope with a flag of two bytes", with(idp(tlv(0x81, []byte{0xff, 0xff}))), "a BOOLEAN of content ffff"},
		{"a scope of users and CAs alone", with(idp(flag(1), flag(2))), "several kinds of certificates alone"},
		{"a scope of users and attributes alone", with(idp(flag(1), flag(5))), "several kinds"},
		{"a scope of CAs and attributes alone", with(idp(flag(2), flag(5))), "several kinds"},
		{"a scope with bad reasons", with(idp(tlv(0x83, nil))), "reason flags"},
		{"a scope with reasons of nine unused bits", with(idp(tlv(0x83, []byte{9, 0}))), "reason flags"},
		{"a scope with an empty name", with(idp(tlv(0xa0))), "the name of a distribution point"},
		{"a scope with no full name", with(idp(tlv(0xa0, tlv(0xa0)))), "a general name of a distribution point"},
		{"a scope with a name that is neither", with(idp(tlv(0xa0, tlv(0xa2)))), "wanted a full name or one relative"},
		{"a scope with both names", with(idp(tlv(0xa0, tlv(0xa0, uriName("http://x/")), tlv(0xa1)))), "bytes more"},

		{"an entry without a date", raw([]byte{2, 1, 7}), "the revocation date of an entry"},
		{"an entry without a serial", raw(date), "the serial number of an entry"},
		{"an entry with more", raw([]byte{2, 1, 7}, date, tlv(0x30, because(1)), []byte{5, 0}), "wanted the end of the entry"},
		{"an empty serial", raw([]byte{2, 0}, date), "wanted an INTEGER of 1 to 32"},
		{"a serial with a leading zero", raw([]byte{2, 2, 0, 7}, date), "wanted an INTEGER"},
		{"a serial with leading ones", raw([]byte{2, 2, 0xff, 0x87}, date), "wanted an INTEGER"},
		{"a serial of 33 bytes", crl{by: w.ca, entries: [][]byte{entry(bigSerial(33), yesterday)}}.der(t), "of 33 bytes, wanted an INTEGER of 1 to 32"},
		{"a date that is text", raw([]byte{2, 1, 7}, tlv(0x0c, []byte("260101000000Z"))), "entry 07: at byte offset"},
		{"a date of the 30th of February", raw([]byte{2, 1, 7}, tlv(0x17, []byte("260230000000Z"))), `time "260230000000Z", wanted UTCTime`},
		{"a date without Z", raw([]byte{2, 1, 7}, tlv(0x17, []byte("2602010000000"))), "wanted UTCTime"},
		{"a date with an hour of 24", raw([]byte{2, 1, 7}, tlv(0x17, []byte("260201240000Z"))), "wanted UTCTime"},
		{"a date with fractions", raw([]byte{2, 1, 7}, tlv(0x18, []byte("20260201000000.5Z"))), "wanted UTCTime"},
		{"an empty date", raw([]byte{2, 1, 7}, tlv(0x17, nil)), "wanted UTCTime"},
		{"a reason that is an INTEGER", entryWith(ext(oidReason, false, []byte{2, 1, 1})), "a reason code"},
		{"a reason of two bytes", entryWith(ext(oidReason, false, []byte{10, 2, 1, 1})), "reason code 0101"},
		{"a negative reason", entryWith(ext(oidReason, false, []byte{10, 1, 0xff})), "reason code ff"},
		{"a reason with more after it", entryWith(ext(oidReason, false, []byte{10, 1, 1, 0})), "bytes more"},
		{"a reason twice", entryWith(because(1), because(1)), "an extension is there twice"},
		{"an invalidity date in UTCTime", entryWith(ext(oidInvalidity, false, date)), "an invalidity date"},
		{"an invalidity date that is none", entryWith(ext(oidInvalidity, false, tlv(0x18, []byte("x")))), "wanted UTCTime"},
		{"an extension without a value", entryWith(tlv(0x30, []byte{6, 3, 0x55, 0x1d, 21})), "the value of an extension"},
		{"an extension without an identifier", entryWith(tlv(0x30)), "the identifier of an extension"},
		{"an extension with more", entryWith(tlv(0x30, []byte{6, 3, 0x55, 0x1d, 21}, tlv(4, []byte{10, 1, 1}), []byte{5, 0})), "wanted the end of the extension"},
		{"an extension with an identifier that does not end", entryWith(tlv(0x30, []byte{6, 3, 0x55, 0x1d, 0x95}, tlv(4, []byte{10, 1, 1}))), "wanted an OBJECT IDENTIFIER"},
		{"an extension with an identifier that is padded", entryWith(tlv(0x30, []byte{6, 4, 0x55, 0x1d, 0x80, 21}, tlv(4, []byte{10, 1, 1}))), "wanted an OBJECT IDENTIFIER"},
		{"an extension with an identifier of a huge arc", entryWith(tlv(0x30, []byte{6, 8, 0x55, 0x1d, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, tlv(4, []byte{10, 1, 1}))), "wanted an OBJECT IDENTIFIER"},
		{"an extension with an empty identifier", entryWith(tlv(0x30, []byte{6, 0}, tlv(4, []byte{10, 1, 1}))), "wanted an OBJECT IDENTIFIER"},
		{"a certificate issuer that is none", indirectWith(ext(oidEntryIssuer, true, []byte{5, 0})), "a certificate issuer"},
		{"a certificate issuer without a name", indirectWith(ext(oidEntryIssuer, true, tlv(0x30))), "a name of a certificate issuer"},
		{"a certificate issuer without a directory name", indirectWith(ext(oidEntryIssuer, true, tlv(0x30, uriName("http://x/")))), "of 0 directory names"},
		{"a certificate issuer of two names", indirectWith(ext(oidEntryIssuer, true, tlv(0x30, dirName(nameOf("A")), dirName(nameOf("B"))))), "of 2 directory names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := status.Parse(c.input, 0)
			require.Error(t, err)
			assert.Nil(t, l)
			assert.ErrorContains(t, err, c.says)
			assert.True(t, strings.HasPrefix(err.Error(), "status: revocation list: "), err.Error())
			assert.Less(t, len(err.Error()), 400)
		})
	}
}

func TestAListIsNoLongerThanTheLimit(t *testing.T) {
	w := newWorld(t)
	der := crl{by: w.ca}.der(t)
	_, err := status.Parse(der, int64(len(der)))
	require.NoError(t, err)
	for _, b := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})} {
		_, err = status.Parse(b, int64(len(der))-1)
		assert.ErrorIs(t, err, status.ErrTooLarge)
	}
	huge := make([]byte, 200<<20)
	huge[0] = 0x30
	_, err = status.Parse(huge, 0)
	assert.ErrorIs(t, err, status.ErrTooLarge)
	assert.ErrorContains(t, err, "209715200 bytes, the limit is 67108864")
}

func TestAChangedListDoesNotVerify(t *testing.T) {
	w := newWorld(t)
	der := crl{by: w.ca, entries: [][]byte{entry(big.NewInt(0x77), yesterday)}}.der(t)
	i := bytes.Index(der, []byte{2, 1, 0x77})
	der[i+2] = 0x76
	l, err := status.Parse(der, 0)
	require.NoError(t, err)
	err = w.trust(t).Verify(l)
	assert.ErrorIs(t, err, status.ErrUnverified)
	assert.ErrorContains(t, err, "its signature does not verify with the key of certificate")
}

func TestRareFormsOfListsAreRead(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]crl{
		"an empty sequence of entries":   {by: w.ca, entries: [][]byte{}},
		"a flag that spells its default": {by: w.ca, exts: [][]byte{idp(tlv(0x81, []byte{0}), flag(4))}},
		"GeneralizedTime": {by: w.ca, change: func(body []byte) []byte {
			return bytes.Replace(body, derOf(now.Add(-time.Hour).UTC()), generalized(now.Add(-time.Hour)), 1)
		}},
		"a serial of 21 bytes": {by: w.ca, entries: [][]byte{entry(bigSerial(21), yesterday)}},
	} {
		l, err := status.Parse(c.der(t), 0)
		require.NoError(t, err, name)
		good().check(t, w.snapshot(t, []*status.List{l}).Status(w.subject(t), now))
	}
	l := crl{by: w.ca}.list(t)
	assert.Nil(t, l.Number())
	var none *status.List
	assert.Equal(t, "no list", none.String())
}

func TestAHugeNumberIsClipped(t *testing.T) {
	w := newWorld(t)
	l := crl{by: w.ca, exts: [][]byte{ext(oidNumber, false, derOf(bigSerial(2000)))}}.list(t)
	assert.Less(t, len(l.String()), 200)
}

func TestNamesOfCodes(t *testing.T) {
	for r, want := range map[status.Reason]string{0: "unspecified", 1: "keyCompromise", 6: "certificateHold", 7: "reason 7", 10: "aACompromise", 11: "reason 11", 127: "reason 127"} {
		assert.Equal(t, want, r.String())
		b, err := r.MarshalText()
		assert.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
	seen := map[string]bool{}
	for w := status.NoList; w <= status.PartOfReasons; w++ {
		b, err := w.MarshalText()
		assert.NoError(t, err)
		assert.False(t, seen[string(b)])
		seen[string(b)] = true
		assert.NotEmpty(t, status.Result{Why: w}.String(), w)
	}
	assert.Equal(t, "why 99", status.Why(99).String())
	assert.Equal(t, "state 9", status.State(9).String())
	b, err := status.Revoked.MarshalText()
	assert.NoError(t, err)
	assert.Equal(t, "revoked", string(b))
}
