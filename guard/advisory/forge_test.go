package advisory_test

import (
	"math/big"
	"slices"
	"strings"
	"time"
)

// Certificates of every shape, put together from bytes: no signature is made, and
// nothing of what the package under test relies on is used.

// tlv is DER with a definite length.
func tlv(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}

// derInteger is two's complement with no byte too many (X.690 section 8.3).
func derInteger(x *big.Int) []byte {
	if x.Sign() >= 0 {
		b := x.Bytes()
		if len(b) == 0 || b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return tlv(2, b)
	}
	n := 1
	for least := big.NewInt(-0x80); x.Cmp(least) < 0; n++ {
		least.Lsh(least, 8)
	}
	return tlv(2, new(big.Int).Add(x, new(big.Int).Lsh(big.NewInt(1), uint(8*n))).FillBytes(make([]byte, n)))
}

// derOID writes dotted decimals, arcs of any size.
func derOID(dotted string) []byte {
	var arcs []*big.Int
	for arc := range strings.SplitSeq(dotted, ".") {
		x, _ := new(big.Int).SetString(arc, 10)
		arcs = append(arcs, x)
	}
	arcs[1].Add(arcs[1], new(big.Int).Mul(arcs[0], big.NewInt(40)))
	var content []byte
	for _, arc := range arcs[1:] {
		digits := []byte{byte(new(big.Int).And(arc, big.NewInt(0x7f)).Int64())}
		for arc.Rsh(arc, 7); arc.Sign() > 0; arc.Rsh(arc, 7) {
			digits = append(digits, byte(new(big.Int).And(arc, big.NewInt(0x7f)).Int64())|0x80)
		}
		slices.Reverse(digits)
		content = append(content, digits...)
	}
	return tlv(6, content)
}

// derTime is UTCTime or GeneralizedTime (RFC 5280 section 4.1.2.5).
func derTime(t time.Time, utcTime bool) []byte {
	if utcTime {
		return tlv(0x17, []byte(t.Format("060102150405Z")))
	}
	return tlv(0x18, []byte(t.Format("20060102150405Z")))
}

func derName(commonName string) []byte {
	return tlv(0x30, tlv(0x31, tlv(0x30, derOID("2.5.4.3"), tlv(0x0c, []byte(commonName)))))
}

func derBits(b []byte) []byte { return tlv(3, []byte{0}, b) }

func derExtension(oid string, value []byte) []byte { return tlv(0x30, derOID(oid), tlv(4, value)) }

// rsaSPKI, and what is not RSA (RFC 3279 section 2.3.1, RFC 8410, RFC 5480).
func rsaSPKI(modulus *big.Int) []byte {
	return tlv(0x30, tlv(0x30, derOID("1.2.840.113549.1.1.1"), []byte{5, 0}),
		derBits(tlv(0x30, derInteger(modulus), derInteger(big.NewInt(65537)))))
}

// forged is what a certificate is made of.
type forged struct {
	serial    *big.Int
	notBefore time.Time
	utcTime   bool
	spki      []byte
	sigAlg    []byte
	aki       []byte
	policies  []string
	usage     []int // bits of RFC 5280 section 4.2.1.3; nil: no extension
}

func (f *forged) der() []byte {
	var extensions [][]byte
	if f.usage != nil {
		extensions = append(extensions, derExtension("2.5.29.15", derUsage(f.usage)))
	}
	if f.aki != nil {
		extensions = append(extensions, derExtension("2.5.29.35", tlv(0x30, tlv(0x80, f.aki))))
	}
	if len(f.policies) > 0 {
		var all [][]byte
		for _, p := range f.policies {
			all = append(all, tlv(0x30, derOID(p)))
		}
		extensions = append(extensions, derExtension("2.5.29.32", tlv(0x30, all...)))
	}
	tbs := [][]byte{
		tlv(0xa0, derInteger(big.NewInt(2))), derInteger(f.serial), f.sigAlg,
		derName("One Name For All"), // two authorities may share a name
		tlv(0x30, derTime(f.notBefore, f.utcTime), derTime(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), false)),
		derName("Card"), f.spki,
	}
	if extensions != nil {
		tbs = append(tbs, tlv(0xa3, tlv(0x30, extensions...)))
	}
	return tlv(0x30, tlv(0x30, tbs...), f.sigAlg, derBits([]byte("not a signature")))
}

// derUsage is a named bit list: no zero bits at its end (X.690 section 11.2.2).
func derUsage(bits []int) []byte {
	var b [2]byte
	last := -1
	for _, bit := range bits {
		b[bit/8] |= 0x80 >> (bit % 8)
		last = max(last, bit)
	}
	if last < 0 {
		return tlv(3, []byte{0})
	}
	return tlv(3, []byte{byte(7 - last%8)}, b[:last/8+1])
}
