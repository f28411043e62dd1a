package advisory

import (
	"iter"
	"math"
	"time"
)

// Judge yields, in the order of the set, every advisory that has something to say
// of the certificate, with what it says: those whose Membership is Yes, Unknown or
// Fixed. It is the same as asking each advisory of the set, but costs no more for
// advisories that name other issuers or other windows of issue. Like
// [Advisory.Judge] it asks neither state nor dates, and it allocates nothing.
func (s *Set) Judge(f *Facts) iter.Seq2[*Advisory, Membership] {
	return func(yield func(*Advisory, Membership) bool) { s.judge(f, yield) }
}

func (s *Set) judge(f *Facts, yield func(*Advisory, Membership) bool) {
	var lists [maxLists][]entry
	n := s.index.lists(f, &lists)
	issued, known := seconds(f.NotBefore)
	for {
		next := int32(math.MaxInt32)
		for i := range lists[:n] {
			for known && len(lists[i]) > 0 && (issued < lists[i][0].from || issued > lists[i][0].to) {
				lists[i] = lists[i][1:]
			}
			if len(lists[i]) > 0 {
				next = min(next, lists[i][0].at)
			}
		}
		if next == math.MaxInt32 {
			return
		}
		for i := range lists[:n] {
			if len(lists[i]) > 0 && lists[i][0].at == next {
				lists[i] = lists[i][1:]
			}
		}
		a := s.advisories[next]
		if m := a.Judge(f); m.speaks() && !yield(a, m) {
			return
		}
	}
}

// speaks tells whether the answer is more than a plain no.
func (m *Membership) speaks() bool { return m.In != No || m.Fixed }

// index finds the advisories of a set that may have something to say of a
// certificate. It leaves out only those whose every clause of Match is certain to
// say no, by issuer ([Issuer.holds]) or by window; what cannot be told is never left
// out. Each list is in the order of the set, with an advisory at most once.
type index struct {
	all      []entry              // every advisory
	always   []entry              // with a clause that names no issuer, or any
	onlySPKI []entry              // with a clause that names issuers by key alone
	onlyAKI  []entry              // with a clause that names issuers by key identifier alone
	bySPKI   map[[32]byte][]entry // with a clause that names this key
	byAKI    map[string][]entry   // with a clause that names this key identifier
}

// entry is an advisory by its place in the set. Its clauses that are in the list say
// no to what was issued before the second from or after the second to.
type entry struct {
	at       int32
	from, to int64
}

// maxLists is how many lists a certificate needs at most, where 7 keys signed it. One
// key does, unless somebody configured it in several forms.
const maxLists = 7 + 2

// lists finds the lists that have every advisory to be asked.
func (x *index) lists(f *Facts, out *[maxLists][]entry) (n int) {
	signer := f.IssuerKnown && len(f.IssuerSPKI) > 0
	switch {
	case !signer && len(f.AKI) == 0, len(f.IssuerSPKI) > maxLists-2:
		out[0] = x.all
		return 1
	case signer:
		for _, key := range f.IssuerSPKI {
			out[n] = x.bySPKI[key]
			n++
		}
	default:
		out[n] = x.onlySPKI
		n++
	}
	if len(f.AKI) == 0 {
		out[n] = x.onlyAKI
	} else {
		out[n] = x.byAKI[string(f.AKI)]
	}
	out[n+1] = x.always
	return n + 2
}

func newIndex(advisories []*Advisory) (x index) {
	x.bySPKI, x.byAKI = make(map[[32]byte][]entry), make(map[string][]entry)
	for at, a := range advisories {
		for i := range a.Match {
			x.add(entryOf(at, a.Match[i].NotBefore), a.Match[i].Issuer)
		}
	}
	return x
}

func (x *index) add(e entry, issuer *Issuer) {
	x.all = with(x.all, e)
	if issuer == nil || issuer.Any {
		x.always = with(x.always, e)
		return
	}
	if len(issuer.AKI) == 0 {
		x.onlySPKI = with(x.onlySPKI, e)
	}
	if len(issuer.SPKISHA256) == 0 {
		x.onlyAKI = with(x.onlyAKI, e)
	}
	for _, key := range issuer.SPKISHA256 {
		x.bySPKI[key] = with(x.bySPKI[key], e)
	}
	for _, id := range issuer.AKI {
		x.byAKI[string(id)] = with(x.byAKI[string(id)], e)
	}
}

// with adds the clause of an advisory to a list that has the clauses before it.
func with(entries []entry, e entry) []entry {
	if last := len(entries) - 1; last >= 0 && entries[last].at == e.at {
		entries[last].from = min(entries[last].from, e.from)
		entries[last].to = max(entries[last].to, e.to)
		return entries
	}
	return append(entries, e)
}

func entryOf(at int, w *Window) entry {
	e := entry{at: int32(at), from: math.MinInt64, to: math.MaxInt64}
	if w == nil {
		return e
	}
	if from, ok := seconds(w.From); ok {
		e.from = from
	}
	if to, ok := seconds(w.To); ok {
		e.to = to // a fraction of this second may be inside
	}
	return e
}

// seconds is the instant without its fraction of a second; not ok where there is
// none, or where it lies so far off that it may not fit.
func seconds(t time.Time) (s int64, ok bool) {
	year := t.Year()
	return t.Unix(), !t.IsZero() && year >= 1 && year <= 9999
}
