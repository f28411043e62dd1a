// Package guard decides whether a smartcard's signing certificate may sign a
// prescription now.
//
// It judges the certificate against affected-issuance advisories, its validity at
// the judged instant, the profile of a signing certificate (key usage, policy),
// and whether the card is on hold after a renewal. The answer is a [Verdict]:
// refused, undecided, warned or allowed, with a [Finding] for everything that was
// found, in plain words, and what to do.
//
// The call to use is [Guard.Check]; [Check] is the same over a Guard with the
// built-in advisories:
//
//	v, err := guard.Check(ctx, card) // err is nil when a signature is permitted
//	fmt.Print(v)
//
// Refused, undecided and allowed are three: what could not be judged (a card that
// cannot be read, an issuer that cannot be told) is undecided, which permits no
// signature, and is never reported as affected.
//
// Check reads a snapshot from memory. It does no disk, network or card traffic
// and takes no lock that is held during any. The package needs nothing but the
// standard library.
package guard

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// Advisories is a source of rule sets: a fixed *advisory.Set, or one that is
// refreshed. Current is called for every check and must answer from memory.
type Advisories interface {
	Current() *advisory.Set
}

// Config configures a Guard. The zero value judges by the built-in advisories.
type Config struct {
	// Advisories is the source of rules; nil is advisory.Builtin(). A source that
	// later goes backwards is not followed: the last good set stays in force.
	Advisories Advisories

	// Issuers are certificates of issuing CAs. A certificate's issuer is told by
	// its signature against their keys, which advisories that name an issuer by
	// subject public key info need. Nil: such advisories stay undecided unless
	// they also name the authority key identifier.
	Issuers []*x509.Certificate

	// Live says that this Guard stands before prescriptions for patients: it
	// refuses the simulated card and every certificate that is marked as such.
	Live bool
}

// Guard judges certificates. It is made by New, immutable, and safe for
// concurrent use. The zero value refuses.
type Guard struct {
	source     Advisories
	issuers    []issuer
	live       bool
	notChecked []NotChecked

	last     atomic.Pointer[advisory.Set] // the newest good set
	rejected atomic.Pointer[rejection]

	mu    sync.Mutex // guards known, which is never held during I/O
	known map[string][][32]byte
}

type rejection struct {
	set *advisory.Set
	err error
}

// New validates c and makes a Guard.
func New(c Config) (*Guard, error) {
	g := &Guard{source: c.Advisories, live: c.Live, known: make(map[string][][32]byte)}
	if g.source == nil {
		g.source = advisory.Builtin()
	}
	set := g.source.Current()
	if set == nil {
		return nil, errors.New("guard: Config.Advisories has no current set; leave it nil for the built-in one")
	}
	g.last.Store(set)
	for i, ca := range c.Issuers {
		if ca == nil {
			return nil, fmt.Errorf("guard: Config.Issuers[%d] is nil; wanted a CA certificate", i)
		}
		if !ca.IsCA {
			return nil, fmt.Errorf("guard: Config.Issuers[%d] (%s) is not a CA certificate", i, ca.Subject)
		}
		g.issuers = append(g.issuers, newIssuer(ca))
	}
	for _, n := range []CheckName{CheckChain, CheckRevocation, CheckStrength} {
		g.notChecked = append(g.notChecked, NotChecked{Check: n, Why: notCheckedText[n]})
	}
	return g, nil
}

// Live tells whether this Guard stands before prescriptions for patients.
func (g *Guard) Live() bool { return g != nil && g.live }

// builtin is the Guard behind Check.
var builtin = sync.OnceValues(func() (*Guard, error) { return New(Config{}) })

// Check judges the card now by the built-in advisories. See [Guard.Check].
func Check(ctx context.Context, card Card) (Verdict, error) {
	g, err := builtin()
	if err != nil {
		return Verdict{}, err
	}
	return g.Check(ctx, card)
}

// Check judges the card now. The error is nil exactly when the verdict permits a
// signature; else it is a *Refused or an *Undecided, which carries the verdict.
// The verdict is complete in all cases.
func (g *Guard) Check(ctx context.Context, card Card) (Verdict, error) {
	return g.CheckAt(ctx, card, time.Now())
}

// CheckAt judges the card as of the instant at: what would be said then, by the
// rules as they are known now. It is a question, not a clock: no signature is
// made on its answer. Errors as those of Check.
func (g *Guard) CheckAt(ctx context.Context, card Card, at time.Time) (Verdict, error) {
	var s Snapshot
	var err error
	switch {
	case card == nil:
		err = errors.New("guard: no card was given")
	default:
		s, err = card.Snapshot(ctx)
	}
	if err != nil {
		s = Snapshot{Err: err, Serial: s.Serial, Label: s.Label, Insertion: s.Insertion, Simulated: s.Simulated, Hold: s.Hold}
	}
	v := g.Judge(s, at)
	return v, v.Err()
}

// Judge is the decision itself, a pure function of what was seen, the instant and
// the rules: the checks of the package comment, each its own small piece.
func (g *Guard) Judge(s Snapshot, at time.Time) Verdict {
	v := Verdict{
		Version: VerdictVersion,
		At:      at.UTC(),
		Card:    CardInfo{Serial: s.Serial, Label: s.Label, Simulated: s.Simulated},
	}
	if g == nil || g.source == nil { // the zero Guard: Unspecified refuses
		v.Findings = append(v.Findings, finding(Unspecified))
		return v
	}
	v.NotChecked = g.notChecked
	v.Findings = judgeHold(v.Findings, s.Hold)
	v.Findings = g.judgeCard(v.Findings, s)
	set, rejected := g.rules()
	if set == nil {
		v.Findings = append(v.Findings, finding(RulesMissing))
	} else {
		v.RuleSet = RuleSet{Version: set.Version(), Issued: set.Issued()}
	}
	if rejected != nil {
		f := finding(RulesBackwards)
		f.Is = rejected.Error()
		v.Findings = append(v.Findings, f)
	}
	if c := s.Certificate; c != nil && s.Err == nil {
		v.Certificate = &c.info
		if set != nil {
			v.Findings = g.judgeIssuance(v.Findings, set, c, v.At)
		}
		v.Findings = judgeValidity(v.Findings, c, v.At)
		v.Findings = judgeProfile(v.Findings, c)
	}
	v.Decision = weigh(v.Findings)
	return v
}

// rules returns the newest good set, and why a later one was not taken. A set
// that does not follow the last good one (lower version, earlier, an active
// advisory gone) is left aside.
func (g *Guard) rules() (*advisory.Set, error) {
	last, now := g.last.Load(), g.source.Current()
	if now == last {
		return last, nil
	}
	if r := g.rejected.Load(); r != nil && r.set == now {
		return last, r.err
	}
	err := errors.New("guard: the source of advisories has no set")
	if now != nil {
		err = now.Follows(last)
	}
	if err != nil {
		g.rejected.Store(&rejection{now, err})
		return last, err
	}
	if g.last.CompareAndSwap(last, now) {
		return now, nil
	}
	return g.last.Load(), nil
}

// weigh orders the findings and returns the decision: the weightiest effect, or
// Allowed where nothing was found.
func weigh(fs []Finding) Decision {
	d := DecisionAllowed
	for i := 1; i < len(fs); i++ { // stable, and few: no allocation
		for j := i; j > 0 && fs[j].Effect < fs[j-1].Effect; j-- {
			fs[j], fs[j-1] = fs[j-1], fs[j]
		}
	}
	if len(fs) > 0 {
		d = fs[0].Effect
	}
	return d
}

// finding starts a finding from what is known of its reason.
func finding(r Reason) Finding {
	d := &described[r]
	return Finding{Reason: r, Effect: d.effect, Check: d.check, Text: d.text, Wanted: d.wanted, Remedies: d.remedies}
}
