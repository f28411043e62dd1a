package guard_test

import (
	"bytes"
	"context"
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
	"github.com/rxguard/rxguard/guard/status"
)

// When the cards of the benchmarks were issued, and when they are judged.
var (
	benchIssued = time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	benchAt     = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

// benchCard is a card whose certificate is parsed and known.
type benchCard struct{ seen guard.Snapshot }

func (c *benchCard) Snapshot(context.Context) (guard.Snapshot, error) { return c.seen, nil }

// benchAuthority is a root, and the CA below it that issues the cards.
type benchAuthority struct {
	root, ca       *x509.Certificate
	rootKey, caKey *rsa.PrivateKey
	cardKey        *rsa.PrivateKey
}

func newBenchAuthority(b *testing.B) *benchAuthority {
	key := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(b, err)
		return k
	}
	a := &benchAuthority{rootKey: key(), caKey: key(), cardKey: key()}
	template := func(name string, id byte) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(int64(id)), Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte{id},
			NotBefore: benchIssued.AddDate(-1, 0, 0), NotAfter: benchIssued.AddDate(9, 0, 0),
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	make := func(c, parent *x509.Certificate, of, by *rsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, of.Public(), by)
		require.NoError(b, err)
		c, err = x509.ParseCertificate(der)
		require.NoError(b, err)
		return c
	}
	root := template("Root", 2)
	a.root = make(root, root, a.rootKey, a.rootKey)
	a.ca = make(template("CA", 1), a.root, a.caKey, a.rootKey)
	return a
}

// issue makes a good card with this serial and key.
func (a *benchAuthority) issue(b *testing.B, serial []byte, key any) []byte {
	policy, err := x509.ParseOID(guard.SigningPolicy)
	require.NoError(b, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "123456789012_Test_Card"},
		NotBefore: benchIssued, NotAfter: benchIssued.AddDate(2, 0, 0),
		KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy},
	}, a.ca, key, a.caKey)
	require.NoError(b, err)
	return der
}

// cards makes good cards with random 20-byte serials.
func (a *benchAuthority) cards(b *testing.B, n int) (cards []*benchCard) {
	for serials := benchSerials(n, 2); len(serials) > 0; serials = serials[20:] {
		c, err := guard.ParseCertificate(a.issue(b, serials[:20], a.cardKey.Public()))
		require.NoError(b, err)
		cards = append(cards, &benchCard{guard.Snapshot{Certificate: c}})
	}
	return cards
}

// lists are revocation lists of the root and of the CA, which revokes n cards.
func (a *benchAuthority) lists(b *testing.B, n int) *status.Snapshot {
	list := func(ca *x509.Certificate, key *rsa.PrivateKey, revoked int) *status.List {
		crl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: benchAt.AddDate(0, 0, -1), NextUpdate: benchAt.AddDate(0, 0, 6)}
		for serials := benchSerials(revoked, 3); len(serials) > 0; serials = serials[20:] {
			crl.RevokedCertificateEntries = append(crl.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: new(big.Int).SetBytes(serials[:20]), RevocationTime: benchIssued, ReasonCode: 1,
			})
		}
		der, err := x509.CreateRevocationList(rand.Reader, crl, ca, key)
		require.NoError(b, err)
		l, err := status.Parse(der, 0)
		require.NoError(b, err)
		return l
	}
	trust, err := status.NewTrust([]*x509.Certificate{a.root}, []*x509.Certificate{a.ca})
	require.NoError(b, err)
	s, err := status.NewSnapshot(trust, 0, list(a.root, a.rootKey, 0), list(a.ca, a.caKey, n))
	require.NoError(b, err)
	return s
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

// benchWindows are n advisories over days on which the cards were not issued.
func benchWindows(n int, issuer func(i int) string) (docs [][]byte) {
	for i := range n {
		docs = append(docs, benchDocument(i, issuer(i), benchOtherDay(i)))
	}
	return docs
}

func benchOtherIssuer(i int) string {
	return benchIssuer([32]byte{byte(i >> 8), byte(i), 9}, []byte{byte(i >> 8), byte(i), 9})
}

// BenchmarkCheck is a check of a certificate that was parsed and seen before, at an
// instant: the goal is less than a microsecond beside 100 active advisories, all of
// the card's own authority, no more beside 1000 of others, at most 1.5 times as much
// with a million serials as with a dozen, and no allocation. The serials are asked for
// many cards in turn, as one alone would stay in the processor's cache. Everything is
// all of that at once, with a chain to a root, revocation lists with 100,000 cards, and
// the clock.
func BenchmarkCheck(b *testing.B) {
	a := newBenchAuthority(b)
	cards := a.cards(b, 256)
	own := benchIssuer(sha256.Sum256(a.ca.RawSubjectPublicKeyInfo), a.ca.SubjectKeyId)
	ofOwn := func(int) string { return own }
	serials := func(n int) func() ([][]byte, []byte) {
		return func() ([][]byte, []byte) {
			file := benchSerials(n, 1)
			return [][]byte{benchDocument(5000, own, benchFile(file))}, file
		}
	}
	for _, tt := range []struct {
		name       string
		docs       func() ([][]byte, []byte)
		cards      []*benchCard
		everything bool
	}{
		{"advisories=1", func() ([][]byte, []byte) { return benchWindows(1, ofOwn), nil }, cards[:1], false},
		{"advisories=100", func() ([][]byte, []byte) { return benchWindows(100, ofOwn), nil }, cards[:1], false},
		{"advisories=1000-other-issuers", func() ([][]byte, []byte) { return benchWindows(1000, benchOtherIssuer), nil }, cards[:1], false},
		{"serials=12", serials(12), cards, false},
		{"serials=1000000", serials(1_000_000), cards, false},
		{"everything", func() ([][]byte, []byte) {
			docs, file := serials(1_000_000)()
			docs = append(docs, benchWindows(100, ofOwn)...)
			for i := range 1000 {
				docs = append(docs, benchDocument(1000+i, benchOtherIssuer(i), benchOtherDay(i)))
			}
			return docs, file
		}, cards, true},
	} {
		b.Run(tt.name, func(b *testing.B) {
			docs, file := tt.docs()
			c := guard.Config{Advisories: benchSet(b, docs, file), Issuers: []*x509.Certificate{a.ca}}
			if tt.everything {
				c.Roots, c.Revocation, c.Live = []*x509.Certificate{a.root}, a.lists(b, 100_000), true
				c.Policy.RenewalWindow = guard.SelfRenewalWindow
			}
			g, err := guard.New(c)
			require.NoError(b, err)
			ctx := b.Context()
			check := func(card *benchCard) error {
				if tt.everything {
					return g.JudgeNow(card.seen, benchAt).Err()
				}
				_, err := g.CheckAt(ctx, card, benchAt)
				return err
			}
			for _, card := range tt.cards { // from now on they are known
				require.NoError(b, check(card))
				require.Empty(b, g.Judge(card.seen, benchAt).Findings)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if err := check(tt.cards[i]); err != nil {
					b.Fatal(err)
				}
				if i++; i == len(tt.cards) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkFirstSeen is the check of a certificate with a key that was never seen: it is
// parsed, its key is looked at for weaknesses, and its issuer is told by the signature.
// The goal is less than 100 microseconds. Everything is the same with a chain to a root
// and revocation lists.
func BenchmarkFirstSeen(b *testing.B) {
	a := newBenchAuthority(b)
	const primes = 24
	var p [primes]*big.Int
	for i := range p {
		var err error
		p[i], err = rand.Prime(rand.Reader, 1024)
		require.NoError(b, err)
	}
	var ders [][]byte // with 276 keys
	for i := range p {
		for j := range i {
			key := &rsa.PublicKey{N: new(big.Int).Mul(p[i], p[j]), E: 65537}
			ders = append(ders, a.issue(b, []byte{1, byte(i), byte(j)}, key))
		}
	}
	own := benchIssuer(sha256.Sum256(a.ca.RawSubjectPublicKeyInfo), a.ca.SubjectKeyId)
	for _, tt := range []struct {
		name string
		c    guard.Config
	}{
		{"issuer", guard.Config{Issuers: []*x509.Certificate{a.ca}}},
		{"everything", guard.Config{Issuers: []*x509.Certificate{a.ca}, Roots: []*x509.Certificate{a.root}, Revocation: a.lists(b, 100_000)}},
	} {
		tt.c.Advisories = benchSet(b, benchWindows(100, func(int) string { return own }), nil)
		b.Run(tt.name, func(b *testing.B) {
			ctx, i := b.Context(), len(ders)
			var g *guard.Guard
			b.ReportAllocs()
			for b.Loop() {
				if i == len(ders) { // a Guard that has seen none of them
					b.StopTimer()
					var err error
					g, err = guard.New(tt.c)
					require.NoError(b, err)
					i = 0
					b.StartTimer()
				}
				c, err := guard.ParseCertificate(ders[i])
				if err != nil {
					b.Fatal(err)
				}
				if _, err := g.CheckAt(ctx, &benchCard{guard.Snapshot{Certificate: c}}, benchAt); err != nil {
					b.Fatal(err)
				}
				i++
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
