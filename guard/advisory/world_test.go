package advisory_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

const layout = "2006-01-02T15:04:05Z"

// subject is a public key that certificates are forged for.
type subject struct {
	der           []byte
	spki, modulus string
	bits          int
}

// authority is a CA: all have one name.
type authority struct{ spki, aki string }

// sigAlgs are algorithm identifiers by the name of the standard library.
var sigAlgs = map[string][]byte{
	"SHA256-RSA":   tlv(0x30, derOID("1.2.840.113549.1.1.11"), []byte{5, 0}),
	"SHA1-RSA":     tlv(0x30, derOID("1.2.840.113549.1.1.5"), []byte{5, 0}),
	"ECDSA-SHA256": tlv(0x30, derOID("1.2.840.10045.4.3.2")),
	"Ed25519":      tlv(0x30, derOID("1.3.101.112")),
	"":             tlv(0x30, derOID("1.2.3.4")),
}

var (
	usageNames = []string{
		"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement",
		"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
	}
	policyNames = []string{"1.2.826.0.1275.102.0.3.2.0", "2.23.140.1.2.1", "2.999.1", "2.25.340282366920938463463374607431768211455"}
	weakNames   = []string{"roca", "fermat", "small_factor", "exponent", "blocklisted"}
	algNames    = slices.Sorted(maps.Keys(sigAlgs))
)

// world makes sets, certificates and instants that are close to one another.
type world struct {
	*rand.Rand
	subjects    []subject
	authorities []authority
	files       map[string][]byte
	discarded   int
}

func hash(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), files: map[string][]byte{}}
	for _, bits := range []int{2048, 2048, 2047, 1024, 3072} {
		n := new(big.Int).SetBit(new(big.Int).SetBytes(w.bytes(bits/8)), bits-1, 1)
		n.SetBit(n, 0, 1)
		n.And(n, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits)), big.NewInt(1)))
		w.subjects = append(w.subjects, subject{der: rsaSPKI(n), modulus: hash(n.Bytes()), bits: bits})
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, crand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		require.NoError(t, err)
		w.subjects = append(w.subjects, subject{der: der, bits: curve.Params().BitSize})
	}
	w.subjects = append(w.subjects,
		subject{der: tlv(0x30, tlv(0x30, derOID("1.3.101.112")), derBits(w.bytes(32))), bits: 256},
		subject{der: tlv(0x30, tlv(0x30, derOID("1.2.3.5")), derBits(w.bytes(32)))}) // of no kind that is known
	for i := range w.subjects {
		w.subjects[i].spki = hash(w.subjects[i].der)
	}
	for _, aki := range []string{"01", "0102030405060708090a0b0c0d0e0f1011121314", "02", "02", ""} { // two claim one identifier
		w.authorities = append(w.authorities, authority{hash(w.bytes(32)), aki})
	}
	return w
}

func (w *world) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(w.Uint32())
	}
	return b
}

func (w *world) one(n int) bool { return w.IntN(n) == 0 }

func pick[T any](w *world, from []T) T { return from[w.IntN(len(from))] }

// some are one to n of the values, each once.
func some[T any](w *world, from []T, n int) (out []T) {
	for _, i := range w.Perm(len(from))[:1+w.IntN(min(n, len(from)))] {
		out = append(out, from[i])
	}
	return out
}

// moment is an instant near which something may change.
func (w *world) moment() time.Time {
	if w.one(12) {
		return pick(w, []time.Time{
			time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
			time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 57, 0, time.UTC),
		})
	}
	return time.Date(2026, 1, 1+w.IntN(60), 12*w.IntN(2), 0, w.IntN(2), 0, time.UTC)
}

// serial is the number of a certificate, also one that no certificate may have.
func (w *world) serial() *big.Int {
	x := new(big.Int)
	switch w.IntN(7) {
	case 0:
		x.SetInt64(int64(w.IntN(4)))
	case 1: // 159 and 160 bits
		x.SetBytes(slices.Repeat([]byte{0xff}, 20))
		x.Rsh(x, uint(w.IntN(2)))
	case 2:
		x.SetBytes(w.bytes(20))
	case 3:
		x.SetBytes(w.bytes(1 + w.IntN(20)))
	default:
		x.SetInt64(0x5dc9ad00 + int64(w.IntN(40)))
	}
	return x
}

type object = map[string]any

func (w *world) serials() object {
	out := object{}
	if w.one(2) {
		var inline []string
		seen := texts{}
		for range 1 + w.IntN(8) {
			if x := w.serial(); !seen[x.String()] {
				seen[x.String()] = true
				s := fmt.Sprintf("%x", x)
				inline = append(inline, strings.Repeat("0", w.IntN(min(3, 41-len(s))))+s)
			}
		}
		out["inline"] = inline
	}
	if w.one(2) {
		var ends []*big.Int
		for range 2 * (1 + w.IntN(3)) {
			ends = append(ends, w.serial())
		}
		slices.SortFunc(ends, (*big.Int).Cmp)
		var ranges []object
		last := big.NewInt(-1)
		for ; len(ends) > 0; ends = ends[2:] {
			if ends[0].Cmp(last) > 0 {
				ranges = append(ranges, object{"first": fmt.Sprintf("%x", ends[0]), "last": fmt.Sprintf("%x", ends[1])})
				last = ends[1]
			}
		}
		w.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
		out["ranges"] = ranges
	}
	if len(out) == 0 || w.one(4) {
		out["file"] = w.file()
	}
	return out
}

func (w *world) file() object {
	var all []*big.Int
	for range 1 + w.IntN(20) {
		all = append(all, w.serial())
	}
	slices.SortFunc(all, (*big.Int).Cmp)
	all = slices.CompactFunc(all, func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
	width := max(1, (all[len(all)-1].BitLen()+7)/8)
	width += w.IntN(21 - width)
	var content []byte
	for _, x := range all {
		content = append(content, x.FillBytes(make([]byte, width))...)
	}
	w.files[hash(content)] = content
	return object{"sha256": hash(content), "width": width, "count": len(all)}
}

func (w *world) issuer() object {
	i := object{"name": "One Name For All"}
	those := some(w, w.authorities, 2)
	var keys, ids []string
	for _, a := range those {
		keys = append(keys, a.spki)
		if a.aki != "" && !slices.Contains(ids, a.aki) {
			ids = append(ids, a.aki)
		}
	}
	kind := w.IntN(3)
	if kind != 1 || ids == nil {
		i["spki_sha256"] = keys
	}
	if kind != 0 && ids != nil {
		i["aki"] = ids
	}
	return i
}

func (w *world) window(open bool) object {
	a, b := w.moment(), w.moment()
	if b.Before(a) {
		a, b = b, a
	}
	if !a.Before(b) {
		b = a.Add(time.Second)
	}
	if open {
		return object{"from": a.Format(layout)}
	}
	return object{"from": a.Format(layout), "to": b.Format(layout)}
}

// clause is one of match, or else of except or fixed_when.
func (w *world) clause(match, assumed, open bool) object {
	c := object{}
	keys := func(of func(subject) string) []string {
		var out []string
		for _, s := range some(w, w.subjects, 3) {
			if v := of(s); v != "" {
				out = append(out, v)
			}
		}
		if out == nil {
			out = []string{hash(w.bytes(1))}
		}
		return out
	}
	if !w.one(5) {
		c["issuer"] = w.issuer()
		if w.one(3) {
			c["serials"] = w.serials()
		}
	}
	for range 1 + w.IntN(2) {
		switch w.IntN(12) {
		case 0:
			c["spki_sha256"] = keys(func(s subject) string { return s.spki })
		case 1:
			c["modulus_sha256"] = keys(func(s subject) string { return s.modulus })
		case 2:
			c["weak_key"] = some(w, weakNames, 3)
		case 3:
			c["policy_oid"] = some(w, policyNames, 2)
		case 4:
			c["key_usage"] = some(w, usageNames, 2)
		case 5:
			c["signature_algorithm"] = some(w, algNames[1:], 2)
		case 6:
			least, most := pick(w, []int{256, 384, 1024, 2047, 2048}), pick(w, []int{2048, 2049, 3072})
			c["key_bits"] = pick(w, []object{{"min": least}, {"max": most}, {"min": least, "max": most}})
		default:
			c["not_before"] = w.window(open)
		}
	}
	if match && c["issuer"] == nil && c["spki_sha256"] == nil && c["modulus_sha256"] == nil && c["weak_key"] == nil {
		if assumed {
			c["issuer"] = "any"
		} else {
			c["issuer"] = w.issuer()
		}
	}
	return c
}

func (w *world) clauses(most int, match, assumed, open bool) (out []object) {
	for range most {
		out = append(out, w.clause(match, assumed, open))
	}
	return out
}

// document is one advisory; next are ids that may supersede it.
func (w *world) document(id string, next []string) object {
	published := w.moment()
	d := object{
		"id": id, "revision": 1 + w.IntN(3), "state": "active", "title": "t", "message": "m", "basis": "issuance_log",
		"published": published.Format(layout), "modified": published.Format(layout), "card_may_authenticate": w.one(2),
		"remedies": []object{{"kind": "renew", "text": "Renew."}},
	}
	assumed := w.one(2)
	if assumed {
		d["basis"], d["basis_note"] = "assumed", "by this test"
	}
	start := published
	if !w.one(4) {
		start = w.moment()
		d["block_from"] = start.Format(layout)
	}
	if start.Before(published) {
		start = published
	}
	state := pick(w, []string{"draft", "shadow", "active", "active", "active", "resolved", "resolved", "withdrawn", "superseded"})
	if state == "superseded" && next == nil {
		state = "resolved"
	}
	d["state"] = state
	if state == "superseded" {
		d["superseded_by"] = pick(w, next)
	}
	if slices.Contains([]string{"resolved", "withdrawn", "superseded"}, state) {
		end := w.moment()
		if end.Before(start) {
			end = start.Add(time.Duration(w.IntN(3)) * time.Second)
		}
		d["ended_at"] = end.Format(layout)
	}
	open := w.one(3)
	d["match"] = object{"any": w.clauses(1+w.IntN(3), true, assumed, open)}
	if w.one(3) {
		d["except"] = w.clauses(1+w.IntN(2), false, assumed, w.one(3))
	}
	if open || w.one(3) {
		d["fixed_when"] = w.clauses(1+w.IntN(2), false, assumed, w.one(3))
	}
	return d
}

// set is a valid one, with the second evaluator's reading of it.
func (w *world) set(t testing.TB) (*advisory.Set, []meaning, map[string][]byte) {
	clear(w.files)
	docs := map[string][]byte{}
	var next []string
	for n := 1 + w.IntN(6); len(docs) < n; {
		id := fmt.Sprintf("n-%d", 9-len(docs))
		d := w.document(id, next)
		doc, err := json.Marshal(d)
		require.NoError(t, err)
		_, err = advisory.Parse(doc, w.lookUp)
		var wrong *advisory.Error
		if errors.As(err, &wrong) && strings.Contains(wrong.Problem, "takes the whole population out") {
			w.discarded++
			continue
		}
		require.NoError(t, err, "%s", doc)
		docs[id] = doc
		if d["state"] != "draft" && d["state"] != "shadow" {
			next = append(next, id)
		}
	}
	s, err := advisory.ParseSet(1, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), docs, w.lookUp)
	require.NoError(t, err)
	var means []meaning
	for _, id := range slices.Sorted(maps.Keys(docs)) {
		means = append(means, meaningOf(docs[id], w.files))
	}
	return s, means, docs
}

func (w *world) lookUp(sum [32]byte) ([]byte, error) { return w.files[hex.EncodeToString(sum[:])], nil }
