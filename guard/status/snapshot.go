package status

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"
)

// How long a list still counts after its nextUpdate, with Result.Late.
const (
	DefaultGrace = 24 * time.Hour
	MaxGrace     = 72 * time.Hour
	NoGrace      = time.Duration(-1)
)

// graceOf reads a setting: 0 is the default.
func graceOf(d time.Duration) (time.Duration, error) {
	switch {
	case d == 0:
		return DefaultGrace, nil
	case d == NoGrace:
		return 0, nil
	case d < 0, d > MaxGrace:
		return 0, fmt.Errorf("status: a grace of %v, wanted more than 0 and at most %v; 0 is %v, NoGrace none", d, MaxGrace, DefaultGrace)
	}
	return d, nil
}

// Snapshot is the lists that are known at one time, verified. It is immutable and safe
// for concurrent use; nil knows no list.
type Snapshot struct {
	trust  *Trust
	grace  time.Duration
	series map[nameKey][]series // by the name of the lists' issuer
	newest time.Time
}

// series are the copies of one list, the newest first: they share issuer, authority
// key identifier and issuing distribution point.
type series []*held

// held is a list with who signed it.
type held struct {
	list *List
	by   []*authority // nobody: see why
	why  string
}

// NewSnapshot verifies lists and makes them ready to be asked. They may come in any
// order, several copies of one list too: as of an instant the newest counts that was
// issued by then. Lists that do not verify are kept to say why a status is unknown.
// grace is how long a list counts after its nextUpdate: 0 is DefaultGrace, NoGrace
// none, MaxGrace the most; the error is of another one.
func NewSnapshot(t *Trust, grace time.Duration, lists ...*List) (*Snapshot, error) {
	g, err := graceOf(grace)
	if err != nil {
		return nil, err
	}
	var all []*held
	for _, l := range lists {
		if l != nil {
			all = append(all, hold(t, l))
		}
	}
	return newSnapshot(t, g, all), nil
}

// hold verifies a list and lets go of what its signature is over.
func hold(t *Trust, l *List) *held {
	by, why := t.signers(l)
	for _, a := range by {
		a.worked() // here, and not when a status is asked for
	}
	short := *l
	short.tbs = nil
	return &held{&short, by, why}
}

func newSnapshot(t *Trust, grace time.Duration, lists []*held) *Snapshot {
	s := &Snapshot{trust: t, grace: grace, series: map[nameKey][]series{}}
	by := map[[sha256.Size]byte]series{}
	for _, h := range lists {
		if key := h.list.series; !slices.ContainsFunc(by[key], func(o *held) bool { return o.list.sum == h.list.sum }) {
			by[key] = append(by[key], h)
		}
		if len(h.by) > 0 && h.list.thisUpdate.After(s.newest) {
			s.newest = h.list.thisUpdate
		}
	}
	keys := slices.SortedFunc(maps.Keys(by), func(a, b [sha256.Size]byte) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		of := by[key]
		slices.SortStableFunc(of, func(a, b *held) int {
			c := b.list.thisUpdate.Compare(a.list.thisUpdate)
			if c == 0 && a.list.number != nil && b.list.number != nil {
				c = b.list.number.Cmp(a.list.number)
			}
			return cmp.Or(c, slices.Compare(a.list.sum[:], b.list.sum[:]))
		})
		issuer := of[0].list.issuer
		s.series[issuer] = append(s.series[issuer], of)
	}
	return s
}

// Floor is the newest thisUpdate among the verified lists, in UTC: a clock that shows
// less is wrong. The zero time: there is none.
func (s *Snapshot) Floor() time.Time {
	if s == nil {
		return time.Time{}
	}
	return s.newest
}

// Bytes is how much memory the lists' entries take.
func (s *Snapshot) Bytes() int {
	n := 0
	for _, h := range s.held() {
		n += h.list.Bytes()
	}
	return n
}

// Held is a list of a Snapshot; Why says why it is not verified, and is empty where it
// is.
type Held struct {
	List *List
	Why  string
}

// Lists are all lists of the snapshot, by issuer and then the newest first.
func (s *Snapshot) Lists() []Held {
	var all []Held
	for _, h := range s.held() {
		why := ""
		if len(h.by) == 0 {
			why = h.why
		}
		all = append(all, Held{h.list, why})
	}
	return all
}

func (s *Snapshot) held() []*held {
	if s == nil {
		return nil
	}
	var all []*held
	for _, k := range slices.SortedFunc(maps.Keys(s.series), func(a, b nameKey) int { return slices.Compare(a[:], b[:]) }) {
		for _, of := range s.series[k] {
			all = append(all, of...)
		}
	}
	return all
}

// Status says what the lists say of a certificate as of an instant (RFC 5280 6.3.3,
// without delta lists). It reads the snapshot alone, waits for nothing and allocates
// nothing.
//
// Revoked needs a list that covers the certificate and is signed by its issuer's key,
// or by a CRL issuer whose path leads to the same root: an entry counts however old
// its list is, and also where the list could not say good. Good needs more: lists
// that together are about all reasons, each of which holds nothing unknown that is
// critical, was issued by the instant, is in date or within the grace, and if its
// signer is not the certificate's issuer, that signer's path is valid at the instant
// and none of it revoked. Everything else is Unknown.
func (s *Snapshot) Status(c *Subject, at time.Time) Result {
	return s.status(c, at, false, nil)
}

// StatusThen is Status for a signature that was made at the instant, and is judged
// later: a list that was issued after the instant tells of it too, if the certificate
// had not expired by then. Lists leave out those that have (RFC 5280 5).
func (s *Snapshot) StatusThen(c *Subject, at time.Time) Result {
	return s.status(c, at, true, nil)
}

// asking is a list that is being asked, to end when the status of its signer depends on
// the list itself.
type asking struct {
	list  *List
	up    *asking
	depth int
}

// maxDepth bounds how many CRL issuers may vouch for one another.
const maxDepth = 4

func (a *asking) has(l *List) bool {
	for ; a != nil; a = a.up {
		if a.list == l {
			return true
		}
	}
	return false
}

// status is StatusThen where then is set, and Status otherwise.
func (s *Snapshot) status(c *Subject, at time.Time, then bool, up *asking) Result {
	j := judgement{best: Result{at: at}}
	if s == nil || c == nil {
		return j.best
	}
	for _, issuer := range c.issuers {
		for _, of := range s.series[issuer] {
			about := of[0].list.Covers(c)
			if about == 0 {
				continue
			}
			for _, h := range of { // the newest first
				if s.ask(&j, h, c, about, at, then, up) {
					break
				}
			}
			if j.best.State == Revoked {
				return j.best
			}
		}
	}
	switch {
	case c.bad != nil:
		return Result{Why: BadPoints, at: at, detail: c.bad.Error()}
	case j.fresh == AllReasons, j.fresh|j.late == AllReasons:
		return Result{State: Good, Late: j.fresh != AllReasons, List: j.ends, at: at}
	case j.fresh|j.late != 0:
		return Result{Why: PartOfReasons, List: j.ends, at: at}
	}
	return j.best
}

// judgement is what the lists have said so far.
type judgement struct {
	fresh, late Reasons // that lists in date, or within the grace, are about
	ends        *List   // of those, the one that ends first
	best        Result
}

func (j *judgement) unknown(why Why, l *List, detail string) {
	if j.best.List == nil || why > j.best.Why {
		j.best = Result{Why: why, List: l, at: j.best.at, detail: detail}
	}
}

// ask asks one list about a certificate. done: older copies no longer count.
func (s *Snapshot) ask(j *judgement, h *held, c *Subject, about Reasons, at time.Time, then bool, up *asking) (done bool) {
	l := h.list
	signed, way, why := h.signedFor(c, at)
	if !signed {
		j.unknown(why, l, h.why)
		return false
	}
	if e, ok := l.Find(c); ok && e.revokes(at) {
		j.best = Result{State: Revoked, List: l, Entry: e, at: at}
		return true
	}
	later := l.thisUpdate.After(at)
	if later && (!then || l.thisUpdate.After(c.ends)) {
		j.unknown(Future, l, "")
		return false
	}
	switch {
	case l.unusable != "":
		j.unknown(Unusable, l, l.unusable)
	case why == SignerPath:
		j.unknown(SignerPath, l, "")
	case way != nil && !s.stands(way, l, at, then, up):
		j.unknown(SignerStatus, l, "")
	case l.nextUpdate.IsZero():
		j.unknown(NoNextUpdate, l, "")
	case at.After(l.nextUpdate.Add(s.grace)):
		j.unknown(Ended, l, "")
	default:
		if at.After(l.nextUpdate) {
			j.late |= about
		} else {
			j.fresh |= about
		}
		if j.ends == nil || l.nextUpdate.Before(j.ends.nextUpdate) {
			j.ends = l
		}
	}
	return !later
}

// signedFor tells whether one who may signed the list for the certificate. Where that
// is not the key that issued the certificate, it returns the signer's way to the
// certificate's root; why is SignerPath where none is valid at the instant, and where
// the list is not signed, the reason.
func (h *held) signedFor(c *Subject, at time.Time) (signed bool, way *path, why Why) {
	switch {
	case len(h.by) == 0:
		return false, nil, Unverified
	case !c.issued:
		return false, nil, NoIssuer
	}
	own, why := h.list.issuer == c.issuer, AnotherCA
	for _, a := range h.by {
		if own && a.key == c.issuerKey {
			return true, nil, 0
		}
	}
	for _, a := range h.by {
		w := a.worked()
		if own && !slices.Contains(w.speaksFor, c.issuerKey) {
			continue
		}
		if !signed {
			why = SignerPath
		}
		for i := range w.paths {
			switch p := &w.paths[i]; {
			case p.root != c.rootKey:
			case at.Before(p.from) || at.After(p.until):
				signed = true
			default:
				return true, p, 0
			}
		}
	}
	return signed, nil, why
}

// stands tells whether the certificates of a way are good, but for what only the list
// itself could say.
func (s *Snapshot) stands(way *path, l *List, at time.Time, then bool, up *asking) bool {
	if up.has(l) {
		return true
	}
	here := asking{list: l, up: up}
	if up != nil {
		if here.depth = up.depth + 1; here.depth >= maxDepth {
			return false
		}
	}
	for _, c := range way.subjects {
		if s.status(c, at, then, &here).State != Good {
			return false
		}
	}
	return true
}
