package status_test

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/need"
)

// told is one entry of a generated list.
type told struct {
	issuer  int // 0: the list's own
	serial  *big.Int
	date    time.Time
	reason  int // -1: none
	invalid time.Time
}

func (e told) revokes(at time.Time) bool {
	return e.reason == 1 || e.reason == 2 || e.reason == 10 || !at.Before(e.date) || !e.invalid.IsZero() && !at.Before(e.invalid)
}

var epoch = at("2026-01-01T00:00:00Z")

func genSerial() *rapid.Generator[*big.Int] {
	return rapid.Custom(func(t *rapid.T) *big.Int {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "serial"))
		if rapid.IntRange(0, 3).Draw(t, "small") > 0 {
			n = big.NewInt(rapid.Int64Range(-300, 300).Draw(t, "serial"))
		}
		if rapid.Bool().Draw(t, "negative") {
			n.Neg(n)
		}
		return n
	})
}

func genTold(indirect bool) *rapid.Generator[told] {
	return rapid.Custom(func(t *rapid.T) told {
		e := told{serial: genSerial().Draw(t, "serial"), date: epoch.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "date")) * time.Second)}
		e.reason = rapid.SampledFrom([]int{-1, 0, 1, 2, 3, 6, 8, 10}).Draw(t, "reason")
		if rapid.IntRange(0, 3).Draw(t, "invalid") == 0 {
			e.invalid = epoch.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "date")) * time.Second)
		}
		if indirect {
			e.issuer = rapid.IntRange(0, 2).Draw(t, "issuer")
		}
		return e
	})
}

// entry is what a list says of it.
func (e told) entry() status.Entry {
	return status.Entry{Reason: status.Reason(max(0, e.reason)), Revoked: e.date, Invalid: e.invalid}
}

// Whatever a list holds, however often and in whatever order: an entry is found exactly
// when there is one, and revokes exactly when any does; First is the first.
func TestAnEntryIsFoundAsIfEachWereLookedAt(t *testing.T) {
	need.Cases(t, 5000)
	w := newWorld(t)
	names := [][]byte{w.ca.cert.RawSubject, nameOf("Second"), nameOf("Third")}
	rapid.Check(t, func(t *rapid.T) {
		indirect := rapid.Bool().Draw(t, "indirect")
		all := rapid.SliceOfN(genTold(indirect), 0, 40).Draw(t, "entries")
		c := crl{by: w.ca, entries: [][]byte{}}
		if indirect {
			c.exts = [][]byte{idp(flag(4))}
		}
		issuer := 0
		for _, e := range all {
			var exts [][]byte
			if e.reason >= 0 {
				exts = append(exts, because(byte(e.reason)))
			}
			if !e.invalid.IsZero() {
				exts = append(exts, ext(oidInvalidity, false, generalized(e.invalid)))
			}
			if e.issuer != issuer {
				exts = append(exts, of(names[e.issuer]))
				issuer = e.issuer
			}
			c.entries = append(c.entries, entry(e.serial, e.date, exts...))
		}
		l, err := status.Parse(c.der(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		asked := append([]told{{serial: genSerial().Draw(t, "another")}}, all...)
		distinct := map[string]bool{}
		for _, a := range asked {
			for i, name := range names {
				s, err := status.NewSubject([]*x509.Certificate{{RawIssuer: name, SerialNumber: a.serial}})
				if err != nil {
					t.Fatal(err)
				}
				e, found := l.Find(s)
				first, _ := l.First(s)
				want, revokes := false, map[int]bool{}
				for _, o := range all {
					if o.issuer == i && o.serial.Cmp(a.serial) == 0 {
						if !want && first != o.entry() {
							t.Fatalf("serial %x of issuer %d: first %v, wanted %v", a.serial, i, first, o.entry())
						}
						want = true
						distinct[fmt.Sprint(i, o.serial)] = true
						for d := -1; d <= 21; d++ {
							revokes[d] = revokes[d] || o.revokes(epoch.Add(time.Duration(d)*time.Second))
						}
					}
				}
				if found != want {
					t.Fatalf("serial %x of issuer %d: found %v, wanted %v", a.serial, i, found, want)
				}
				for d, r := range revokes {
					if when := epoch.Add(time.Duration(d) * time.Second); (e.Revokes(when) || !e.Invalid.IsZero() && !when.Before(e.Invalid)) != r {
						t.Fatalf("serial %x at %d: %s, wanted %v", a.serial, d, e, r)
					}
				}
			}
		}
		if l.Len() != len(distinct) {
			t.Fatalf("%d entries, wanted %d", l.Len(), len(distinct))
		}
	})
}

// A serial of 16 bytes costs 22 bytes of memory, and what is kept does not hold on to
// the list's DER.
func TestAnEntryCostsLittleMemory(t *testing.T) {
	w := newWorld(t)
	var entries [][]byte
	for i := range 1000 {
		entries = append(entries, entry(new(big.Int).Add(bigSerial(16), big.NewInt(int64(i))), yesterday, because(1)))
	}
	l := crl{by: w.ca, entries: entries}.list(t)
	require.Equal(t, 1000, l.Len())
	assert.Equal(t, 22*1000, l.Bytes())
}
