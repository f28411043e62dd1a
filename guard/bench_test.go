package guard_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
)

// When the cards of the benchmarks were issued, and when they are judged.
var (
	benchIssued = time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	benchAt     = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

// benchCard is a card whose certificate is parsed and known.
type benchCard struct{ seen guard.Snapshot }

func (c *benchCard) Snapshot(context.Context) (guard.Snapshot, error) { return c.seen, nil }

// benchCards makes an authority and good cards of it, with random 20-byte serials.
func benchCards(b *testing.B, n int) (*x509.Certificate, []*benchCard) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, SubjectKeyId: []byte{1},
		NotBefore: benchIssued.AddDate(-1, 0, 0), NotAfter: benchIssued.AddDate(9, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	require.NoError(b, err)
	ca, err := x509.ParseCertificate(der)
	require.NoError(b, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	policy, err := x509.ParseOID(guard.SigningPolicy)
	require.NoError(b, err)
	var cards []*benchCard
	for serials := benchSerials(n, 2); len(serials) > 0; serials = serials[20:] {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: new(big.Int).SetBytes(serials[:20]), Subject: pkix.Name{CommonName: "123456789012_Test_Card"},
			NotBefore: benchIssued, NotAfter: benchIssued.AddDate(2, 0, 0),
			KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy},
		}, ca, key.Public(), caKey)
		require.NoError(b, err)
		c, err := guard.ParseCertificate(der)
		require.NoError(b, err)
		cards = append(cards, &benchCard{guard.Snapshot{Certificate: c}})
	}
	return ca, cards
}

// benchSerials is a serial file of n random positive serials of 20 octets.
func benchSerials(n int, seed uint64) []byte {
	r := mathrand.New(mathrand.NewPCG(seed, 0))
	all := make([][20]byte, n)
	for i := range all {
		binary.BigEndian.PutUint64(all[i][:], r.Uint64()>>1)
		binary.BigEndian.PutUint64(all[i][8:], r.Uint64())
		binary.BigEndian.PutUint32(all[i][16:], uint32(i))
	}
	slices.SortFunc(all, func(a, b [20]byte) int { return bytes.Compare(a[:], b[:]) })
	content := make([]byte, 0, 20*n)
	for i := range all {
		content = append(content, all[i][:]...)
	}
	return content
}

// benchDocument is an active advisory over the certificates of an issuer that meet
// the condition.
func benchDocument(i int, issuer, condition string) []byte {
	return fmt.Appendf(nil, `{
		"id": "notice-%d", "revision": 1, "state": "active", "title": "Cards of one day", "basis": "issuance_log", "basis_note": "log",
		"published": "2026-03-01T00:00:00Z", "modified": "2026-03-01T00:00:00Z", "block_from": "2026-03-02T00:00:00Z", "renew_by": "2026-03-20T00:00:00Z",
		"match": {"any": [{"issuer": %s, %s}]}, "card_may_authenticate": true,
		"remedies": [{"kind": "renew", "text": "Renew."}], "message": "Please renew your card."}`, i, issuer, condition)
}

func benchIssuer(spki [32]byte, aki []byte) string {
	return fmt.Sprintf(`{"spki_sha256": ["%x"], "aki": ["%x"]}`, spki, aki)
}

// benchOtherDay is a window in which the cards were not issued.
func benchOtherDay(i int) string {
	day := benchIssued.AddDate(0, 0, i+1)
	const layout = "2006-01-02T15:04:05Z"
	return fmt.Sprintf(`"not_before": {"from": "%s", "to": "%s"}`, day.Format(layout), day.AddDate(0, 0, 1).Format(layout))
}

func benchFile(content []byte) string {
	return fmt.Sprintf(`"serials": {"file": {"sha256": "%x", "width": 20, "count": %d}}`, sha256.Sum256(content), len(content)/20)
}

func benchSet(b *testing.B, docs [][]byte, file []byte) *advisory.Set {
	byName := make(map[string][]byte)
	for i, doc := range docs {
		byName[fmt.Sprintf("%06d", i)] = doc
	}
	s, err := advisory.ParseSet(1, benchIssued, byName, func([32]byte) ([]byte, error) { return file, nil })
	require.NoError(b, err)
	return s
}

// BenchmarkCheck is a check of a certificate that was parsed and seen before, at an
// instant: the goal is less than a microsecond beside 100 active advisories, all of
// the card's own authority, no more beside 1000 of others, at most 1.5 times as much
// with a million serials as with a dozen, and no allocation. The serials are asked for
// many cards in turn, as one alone would stay in the processor's cache.
func BenchmarkCheck(b *testing.B) {
	ca, cards := benchCards(b, 256)
	own := benchIssuer(sha256.Sum256(ca.RawSubjectPublicKeyInfo), ca.SubjectKeyId)
	windows := func(n int, issuer func(i int) string) (docs [][]byte) {
		for i := range n {
			docs = append(docs, benchDocument(i, issuer(i), benchOtherDay(i)))
		}
		return docs
	}
	ofOwn := func(int) string { return own }
	ofOthers := func(i int) string {
		return benchIssuer([32]byte{byte(i >> 8), byte(i), 9}, []byte{byte(i >> 8), byte(i), 9})
	}
	for _, tt := range []struct {
		name  string
		docs  func() ([][]byte, []byte)
		cards []*benchCard
	}{
		{"advisories=1", func() ([][]byte, []byte) { return windows(1, ofOwn), nil }, cards[:1]},
		{"advisories=100", func() ([][]byte, []byte) { return windows(100, ofOwn), nil }, cards[:1]},
		{"advisories=1000", func() ([][]byte, []byte) { return windows(1000, ofOthers), nil }, cards[:1]},
		{"serials=12", func() ([][]byte, []byte) {
			file := benchSerials(12, 1)
			return [][]byte{benchDocument(0, own, benchFile(file))}, file
		}, cards},
		{"serials=1000000", func() ([][]byte, []byte) {
			file := benchSerials(1_000_000, 1)
			return [][]byte{benchDocument(0, own, benchFile(file))}, file
		}, cards},
	} {
		b.Run(tt.name, func(b *testing.B) {
			docs, file := tt.docs()
			g, err := guard.New(guard.Config{Advisories: benchSet(b, docs, file), Issuers: []*x509.Certificate{ca}})
			require.NoError(b, err)
			for _, card := range tt.cards { // from now on they are known
				v, err := g.CheckAt(b.Context(), card, benchAt)
				require.NoError(b, err)
				require.False(b, v.Has(guard.Affected))
			}
			ctx, i := b.Context(), 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.CheckAt(ctx, tt.cards[i], benchAt); err != nil {
					b.Fatal(err)
				}
				if i++; i == len(tt.cards) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkLoad is what it takes from documents to a Guard: a million serials in a
// file, the goal being less than 250 ms and at most 20 bytes of each in memory; and,
// beside it, a million in the document itself.
func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	file := benchSerials(n, 1)
	issuer := benchIssuer([32]byte{1}, []byte{1})
	var inline strings.Builder
	for i := range n {
		fmt.Fprintf(&inline, `,"%x"`, file[20*i:][:20])
	}
	for _, tt := range []struct {
		name string
		doc  []byte
	}{
		{"serials=1000000", benchDocument(0, issuer, benchFile(file))},
		{"inline=1000000", benchDocument(0, issuer, `"serials": {"inline": [`+inline.String()[1:]+`]}`)},
	} {
		b.Run(tt.name, func(b *testing.B) {
			load := func() *guard.Guard {
				g, err := guard.New(guard.Config{Advisories: benchSet(b, [][]byte{tt.doc}, file)})
				require.NoError(b, err)
				return g
			}
			before := benchHeap()
			g := load()
			kept := float64(benchHeap()-before) / n
			runtime.KeepAlive(g)
			for b.Loop() {
				load()
			}
			b.ReportMetric(kept, "B/serial")
			runtime.KeepAlive(file)
		})
	}
}

func benchHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
