package advisory_test

import (
	"encoding/json"
	"math/big"
	"strings"
	"time"
)

// The second evaluator: what a document means for a certificate, from the field
// definitions of the schema alone. It shares no code with the package, reads the
// document with encoding/json, compares texts, and looks at every entry of every
// list. What is not known it tries both ways.

// could is the set of answers that are possible: no, yes, or both.
type could struct{ no, yes bool }

var (
	surely  = could{yes: true}
	never   = could{no: true}
	perhaps = could{no: true, yes: true}
)

func tells(b bool) could { return could{no: !b, yes: b} }

func (c could) not() could { return could{no: c.yes, yes: c.no} }

// both tries every pair of possible answers.
func both(a, b could) (out could) {
	for _, x := range []bool{false, true} {
		for _, y := range []bool{false, true} {
			if (x && a.yes || !x && a.no) && (y && b.yes || !y && b.no) {
				if x && y {
					out.yes = true
				} else {
					out.no = true
				}
			}
		}
	}
	return out
}

func either(a, b could) could { return both(a.not(), b.not()).not() }

// opinion is what the second evaluator holds of a certificate and a document at an
// instant.
type opinion struct {
	in     could
	fixed  bool
	clause int // the first of match that surely holds, or -1
	phase  string
}

type texts map[string]bool

// meaning is a document, ready to be asked.
type meaning struct {
	id                      string
	match, except, fixed    []condition
	state, from, block, end string
}

type condition struct {
	issuer                                  any
	from, to                                string
	serials                                 *numbers
	spki, modulus, weak, policy, usage, alg texts
	min, max                                float64
}

// numbers are serials: decimal texts, and ranges.
type numbers struct {
	listed texts
	ranges [][2]*big.Int
}

// meaningOf reads a document; files are serial files by their SHA-256 in hex.
func meaningOf(doc []byte, files map[string][]byte) meaning {
	var d map[string]any
	if err := json.Unmarshal(doc, &d); err != nil {
		panic(err)
	}
	m := meaning{id: d["id"].(string), state: d["state"].(string), from: d["published"].(string)}
	m.block, _ = d["block_from"].(string)
	m.end, _ = d["ended_at"].(string)
	read := func(list any) (out []condition) {
		clauses, _ := list.([]any)
		for _, c := range clauses {
			out = append(out, conditionOf(c.(map[string]any), files))
		}
		return out
	}
	m.match = read(d["match"].(map[string]any)["any"])
	m.except, m.fixed = read(d["except"]), read(d["fixed_when"])
	return m
}

func conditionOf(c map[string]any, files map[string][]byte) (out condition) {
	list := func(field string) texts {
		values, asked := c[field].([]any)
		if !asked {
			return nil
		}
		t := texts{}
		for _, v := range values {
			t[v.(string)] = true
		}
		return t
	}
	out.issuer = c["issuer"]
	if w, asked := c["not_before"].(map[string]any); asked {
		out.from = w["from"].(string)
		out.to, _ = w["to"].(string)
	}
	if s, asked := c["serials"].(map[string]any); asked {
		out.serials = numbersOf(s, files)
	}
	out.spki, out.modulus, out.weak = list("spki_sha256"), list("modulus_sha256"), list("weak_key")
	out.policy, out.usage, out.alg = list("policy_oid"), list("key_usage"), list("signature_algorithm")
	if b, asked := c["key_bits"].(map[string]any); asked {
		out.min, _ = b["min"].(float64)
		out.max, _ = b["max"].(float64)
	}
	return out
}

func numbersOf(s map[string]any, files map[string][]byte) *numbers {
	n := &numbers{listed: texts{}}
	number := func(hex any) *big.Int {
		x, ok := new(big.Int).SetString(hex.(string), 16)
		if !ok {
			panic(hex)
		}
		return x
	}
	inline, _ := s["inline"].([]any)
	for _, hex := range inline {
		n.listed[number(hex).String()] = true
	}
	ranges, _ := s["ranges"].([]any)
	for _, r := range ranges {
		r := r.(map[string]any)
		n.ranges = append(n.ranges, [2]*big.Int{number(r["first"]), number(r["last"])})
	}
	if f, named := s["file"].(map[string]any); named {
		content, width := files[f["sha256"].(string)], int(f["width"].(float64))
		for ; len(content) > 0; content = content[width:] {
			n.listed[new(big.Int).SetBytes(content[:width]).String()] = true
		}
	}
	return n
}

func (n *numbers) have(x *big.Int) bool {
	if n.listed[x.String()] {
		return true
	}
	for _, r := range n.ranges {
		if r[0].Cmp(x) <= 0 && x.Cmp(r[1]) <= 0 {
			return true
		}
	}
	return false
}

// described is a certificate in the terms of the documents, as it was made.
type described struct {
	notBefore string // RFC 3339
	serial    *big.Int
	aki       string // hex; empty: none
	spki      string // SHA-256 in hex
	modulus   string // SHA-256 in hex; empty: not RSA
	bits      int    // 0: not known
	alg       string // empty: not known
	policies  texts
	usage     texts

	weak       texts // nil: not judged
	signers    texts // SHA-256 of the keys that are known to have signed it; nil: not known
	notSigners texts // of those that are known not to have
}

func (c *condition) holds(d *described) could {
	all := surely
	ask := func(asked bool, answer func() could) {
		if asked {
			all = both(all, answer())
		}
	}
	ask(c.issuer != nil, func() could { return issuerHolds(c.issuer, d) })
	ask(c.from != "", func() could { return tells(c.from <= d.notBefore && (c.to == "" || d.notBefore < c.to)) })
	ask(c.serials != nil, func() could { return tells(c.serials.have(d.serial)) })
	ask(c.spki != nil, func() could { return tells(c.spki[d.spki]) })
	ask(c.modulus != nil, func() could { return tells(c.modulus[d.modulus]) })
	ask(c.weak != nil, func() could {
		if d.weak == nil {
			return perhaps
		}
		return tells(meet(c.weak, d.weak))
	})
	ask(c.policy != nil, func() could { return tells(meet(c.policy, d.policies)) })
	ask(c.usage != nil, func() could {
		for name := range c.usage {
			if !d.usage[name] {
				return never
			}
		}
		return surely
	})
	ask(c.alg != nil, func() could {
		if d.alg == "" {
			return perhaps
		}
		return tells(c.alg[d.alg])
	})
	ask(c.min > 0 || c.max > 0, func() could {
		if d.bits == 0 {
			return perhaps
		}
		return tells(float64(d.bits) >= c.min && (c.max == 0 || float64(d.bits) <= c.max))
	})
	return all
}

func meet(a, b texts) bool {
	for x := range a {
		if b[x] {
			return true
		}
	}
	return false
}

// issuerHolds: the key that signed decides where the document names keys and it is
// known; else the key identifier; the name never.
func issuerHolds(issuer any, d *described) could {
	if issuer == "any" {
		return surely
	}
	i := issuer.(map[string]any)
	keys, byKey := i["spki_sha256"].([]any)
	ids, byID := i["aki"].([]any)
	switch {
	case byKey && d.signers != nil:
		for _, k := range keys {
			if d.signers[k.(string)] {
				return surely
			}
		}
		return never
	case byID && d.aki != "":
		for _, id := range ids {
			if id == d.aki {
				return surely
			}
		}
		return never
	case byKey && !byID:
		for _, k := range keys {
			if !d.notSigners[k.(string)] {
				return perhaps
			}
		}
		return never // it was none of those that are named
	}
	return perhaps
}

// of judges the certificate at an instant.
func (m *meaning) of(d *described, at time.Time) opinion {
	o := opinion{clause: -1, phase: m.phase(at)}
	match, except, fixed := never, never, never
	for i := range m.match {
		holds := m.match[i].holds(d)
		if holds == surely && o.clause < 0 {
			o.clause = i
		}
		match = either(match, holds)
	}
	for i := range m.except {
		except = either(except, m.except[i].holds(d))
	}
	for i := range m.fixed {
		fixed = either(fixed, m.fixed[i].holds(d))
	}
	affected := both(match, except.not())
	o.in = both(affected, fixed.not())
	o.fixed = affected == surely && fixed == surely
	return o
}

// phase compares instants as texts, to the nanosecond.
func (m *meaning) phase(at time.Time) string {
	now := at.UTC().Format("2006-01-02T15:04:05.000000000Z")
	reached := func(instant string) bool { return strings.TrimSuffix(instant, "Z")+".000000000Z" <= now }
	start := m.block
	if start == "" {
		start = m.from
	}
	switch {
	case m.state == "draft":
		return "silent"
	case m.state == "shadow":
		return "observed"
	case m.state == "withdrawn", m.state != "active" && reached(m.end):
		return "ended"
	case reached(start):
		return "enforced"
	}
	return "announced"
}
