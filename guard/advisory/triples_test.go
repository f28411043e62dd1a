package advisory_test

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// certificate is one that a clause of the set nearly or wholly describes.
func (w *world) certificate(means []meaning) (*forged, *described) {
	m := pick(w, means)
	c := pick(w, slices.Concat(m.match, m.match, m.match, m.except, m.fixed))
	signer, key := pick(w, w.authorities), pick(w, w.subjects)
	f := &forged{serial: w.serial(), notBefore: w.moment(), policies: some(w, policyNames, 2), usage: w.Perm(9)[:w.IntN(10)]}
	alg, weak := pick(w, algNames), []string{}
	if w.one(2) {
		weak = some(w, weakNames, 2)
	}
	miss := func() bool { return w.one(12) } // what the clause wants is left to chance

	if i, ok := c.issuer.(map[string]any); ok && !miss() {
		named := func(list any, what string) bool { all, _ := list.([]any); return slices.Contains(all, any(what)) }
		var those []authority
		for _, a := range w.authorities {
			if named(i["spki_sha256"], a.spki) || named(i["aki"], a.aki) {
				those = append(those, a)
			}
		}
		signer = pick(w, those)
	}
	if c.from != "" && !miss() {
		end := pick(w, []string{c.from, c.from, cmp.Or(c.to, c.from)})
		at, _ := time.Parse(layout, end)
		f.notBefore = at.Add(time.Duration(w.IntN(3)-1) * time.Second)
		if c.to != "" && w.one(3) {
			from, _ := time.Parse(layout, c.from)
			to, _ := time.Parse(layout, c.to)
			f.notBefore = from.Add(time.Duration(w.Float64() * float64(to.Sub(from)))).Truncate(time.Second)
		}
	}
	if n := c.serials; n != nil && !miss() {
		var near []*big.Int
		for s := range n.listed {
			x, _ := new(big.Int).SetString(s, 10)
			near = append(near, x)
		}
		for _, r := range n.ranges {
			middle := new(big.Int).Add(r[0], r[1])
			near = append(near, r[0], r[1], middle.Rsh(middle, 1))
		}
		slices.SortFunc(near, (*big.Int).Cmp) // not in the order of the map
		x := new(big.Int).Set(pick(w, near))
		switch w.IntN(12) {
		case 0:
			x.Sub(x, big.NewInt(1))
		case 1:
			x.Add(x, big.NewInt(1))
		case 2:
			x.Neg(x)
		case 3: // the same last 20 octets
			x.Add(x, new(big.Int).Lsh(big.NewInt(1), 160))
		case 4: // what two's complement would take for x
			x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*((x.BitLen()+7)/8))))
		}
		f.serial = x
	}
	fits := func(s subject) bool {
		return (c.spki == nil || c.spki[s.spki]) && (c.modulus == nil || c.modulus[s.modulus]) &&
			float64(s.bits) >= c.min && (c.max == 0 || float64(s.bits) <= c.max)
	}
	if i := slices.IndexFunc(w.subjects, fits); i >= 0 && !miss() {
		key = w.subjects[i]
	}
	wanted := func(t texts, all []string) (out []string) {
		for _, name := range all {
			if t[name] {
				out = append(out, name)
			}
		}
		return out
	}
	if c.weak != nil && !miss() {
		weak = append(weak, pick(w, wanted(c.weak, weakNames)))
	}
	if c.alg != nil && !miss() {
		alg = pick(w, wanted(c.alg, algNames))
	}
	if c.policy != nil && !miss() {
		if p := pick(w, wanted(c.policy, policyNames)); !slices.Contains(f.policies, p) {
			f.policies = append(f.policies, p)
		}
	} else if w.one(4) {
		f.policies = nil
	}
	if c.usage != nil && !miss() {
		for bit, name := range usageNames {
			if c.usage[name] && !slices.Contains(f.usage, bit) {
				f.usage = append(f.usage, bit)
			}
		}
	} else if w.one(8) {
		f.usage = nil
	}
	f.utcTime = f.notBefore.Year() >= 1950 && f.notBefore.Year() < 2050 && !w.one(3)
	f.spki, f.sigAlg = key.der, sigAlgs[alg]
	f.aki, _ = hex.DecodeString(signer.aki)
	if signer.aki == "" {
		f.aki = nil
	}

	d := &described{
		notBefore: f.notBefore.Format(layout), serial: f.serial, aki: signer.aki, spki: key.spki, modulus: key.modulus, bits: key.bits,
		alg: alg, policies: setOf(f.policies), usage: texts{}, notSigners: texts{},
	}
	for _, bit := range f.usage {
		d.usage[usageNames[bit]] = true
	}
	if !w.one(6) {
		d.weak = setOf(weak)
	}
	known := !w.one(4)
	if known {
		d.signers = texts{signer.spki: true}
	}
	for _, a := range w.authorities {
		if a != signer && (known || w.one(2)) {
			d.notSigners[a.spki] = true
		}
	}
	return f, d
}

func setOf(list []string) texts {
	t := texts{}
	for _, s := range list {
		t[s] = true
	}
	return t
}

// factsOf parses the certificate, and adds what its holder cannot tell.
func factsOf(t testing.TB, der []byte, d *described) advisory.Facts {
	x, err := x509.ParseCertificate(der)
	require.NoError(t, err, "%x", der)
	f := advisory.FactsOf(x)
	keys := func(of texts) (out [][32]byte) {
		for k := range of {
			b, _ := hex.DecodeString(k)
			out = append(out, [32]byte(b))
		}
		return out
	}
	f.IssuerKnown, f.IssuerSPKI, f.NotIssuerSPKI = d.signers != nil, keys(d.signers), keys(d.notSigners)
	if f.WeakKeysJudged = d.weak != nil; f.WeakKeysJudged {
		f.WeakKeys = slices.Sorted(maps.Keys(d.weak))
	}
	return f
}

// instant is close to a date of some advisory.
func (w *world) instant(means []meaning) time.Time {
	m := pick(w, means)
	at, _ := time.Parse(layout, cmp.Or(pick(w, []string{m.from, m.block, m.end}), m.from))
	at = at.Add(pick(w, []time.Duration{-time.Second, -1, 0, 0, 1, time.Second}))
	if last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC); at.After(last) {
		at = last // as texts, later years would be earlier ones
	}
	return at.In(pick(w, []*time.Location{time.UTC, time.FixedZone("", 3600), time.FixedZone("", -34200)}))
}

var phaseNames = map[advisory.Phase]string{
	advisory.Silent: "silent", advisory.Observed: "observed", advisory.Announced: "announced",
	advisory.Enforced: "enforced", advisory.Ended: "ended",
}

// A million triples of advisory set, certificate and instant, close to every boundary:
// the package and the second evaluator agree on every advisory of every one.
func TestASecondEvaluatorAgrees(t *testing.T) {
	t.Setenv("GODEBUG", "x509negativeserial=1") // to parse what FactsOf has to bear
	const full = 1_000_000
	count := 100_000
	if os.Getenv("RXGUARD_SOAK") != "" {
		count = full
	}
	seed := uint64(time.Now().UnixNano())
	w := newWorld(t, seed)
	triples, matched, negative, long, certificates, sets := 0, 0, 0, 0, 0, 0
	answers, phases := map[string]int{}, map[string]int{}
	for ; triples < count; sets++ {
		set, means, docs := w.set(t)
		for range 20 {
			f, d := w.certificate(means)
			der := f.der()
			facts := factsOf(t, der, d)
			certificates++
			if f.serial.Sign() < 0 {
				negative++
			} else if f.serial.BitLen() > 152 {
				long++
			}
			for range 5 {
				at := w.instant(means)
				triples++
				said := map[string]advisory.Membership{}
				for a, m := range set.Judge(&facts) {
					said[a.ID] = m
				}
				some := false
				for i := range means {
					want := means[i].of(d, at)
					a := set.At(i)
					got, spoke := said[a.ID]
					if !spoke {
						got = advisory.Membership{In: advisory.No, Clause: want.clause} // a plain no
					}
					in := map[advisory.Truth]could{advisory.Yes: surely, advisory.No: never, advisory.Unknown: perhaps}[got.In]
					phase := phaseNames[a.At(at)]
					if in != want.in || got.Fixed != want.fixed || got.Clause != want.clause || phase != want.phase || (got.NotKnown != "") != (want.in == perhaps) {
						t.Fatalf("seed %d: at %s the package says %+v, %s; the second evaluator says %+v\n%s\ncertificate %x\nknown of it: %+v",
							seed, at, got, phase, want, docs[a.ID], der, d)
					}
					some = some || want.clause >= 0
					answers[fmt.Sprintf("%d fixed %t", got.In, got.Fixed)]++
					phases[phase]++
				}
				if some {
					matched++
				}
			}
		}
	}
	t.Logf("%d triples (make soak: %d), %d %% match some clause: %d sets, %d certificates, %d of them with a negative and %d with a 20-byte serial or longer; answers %v; phases %v; seed %d",
		triples, full, 100*matched/triples, sets, certificates, negative, long, answers, phases, seed)
	assert.Greater(t, 3*matched, triples, "at least a third match some clause")
	assert.Less(t, w.discarded, 5*sets, "documents of which nothing is left are few")
	assert.NotZero(t, negative)
	assert.NotZero(t, long)
	assert.Len(t, answers, 4)
	assert.Len(t, phases, 5)
}
