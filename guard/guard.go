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
	"bytes"
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

// Guard judges certificates. New makes it; it is safe for concurrent use, and what
// it was configured with does not change. The zero value and nil refuse.
type Guard struct {
	source     Advisories
	issuers    []issuer
	live       bool
	notChecked []NotChecked

	last     atomic.Pointer[adopted] // the newest good set
	rejected atomic.Pointer[rejection]

	mu    sync.Mutex        // never held during I/O
	known map[string]issued // keys of the issuers, by SHA-256 of the certificate
}

// adopted is a set that is in force: as the source has it, to tell when that
// changes, and the Guard's own copy, which nobody else can.
type adopted struct{ source, own *advisory.Set }

func adopt(s *advisory.Set) *adopted { return &adopted{s, s.Clone()} }

// rejection is why set does not follow last.
type rejection struct {
	last *adopted
	set  *advisory.Set
	err  error
}

// New makes a Guard. The error names the field of c that is wrong: a source that
// has no set yet, or in Issuers what is not a parsed CA certificate.
func New(c Config) (*Guard, error) {
	g := &Guard{source: c.Advisories, live: c.Live, known: make(map[string]issued)}
	if g.source == nil {
		g.source = advisory.Builtin()
	}
	set := g.source.Current()
	if set == nil || set.Len() == 0 {
		return nil, errors.New("guard: Config.Advisories has no current set, or an empty one; leave it nil for the built-in one")
	}
	g.last.Store(adopt(set))
	for i, ca := range c.Issuers {
		if ca == nil {
			return nil, fmt.Errorf("guard: Config.Issuers[%d] is nil; wanted a CA certificate", i)
		}
		own, err := x509.ParseCertificate(bytes.Clone(ca.Raw)) // the caller's may change
		if err != nil {
			return nil, fmt.Errorf("guard: Config.Issuers[%d] does not parse; wanted a certificate from x509.ParseCertificate: %w", i, err)
		}
		if !own.IsCA {
			return nil, fmt.Errorf("guard: Config.Issuers[%d] (%s) is not a CA certificate; wanted basic constraints with cA", i, own.Subject)
		}
		g.issuers = append(g.issuers, newIssuer(own))
	}
	for _, n := range []CheckName{CheckChain, CheckRevocation, CheckStrength} {
		g.notChecked = append(g.notChecked, NotChecked{Check: n, Why: notCheckedText[n]})
	}
	return g, nil
}

// Live tells whether this Guard stands before prescriptions for patients.
func (g *Guard) Live() bool { return g != nil && g.live }

// builtin makes the Guard behind Check, once.
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
// The verdict is complete in all cases: an error of card.Snapshot is one of its
// findings. Check waits for nothing but card.Snapshot, which answers from memory,
// and may be called from many goroutines.
func (g *Guard) Check(ctx context.Context, card Card) (Verdict, error) {
	return g.CheckAt(ctx, card, time.Now())
}

// CheckAt judges the card as of the instant at: what would be said then, by the
// rules as they are known now. It is a question, not a clock: no signature is
// made on its answer. Errors as those of Check.
func (g *Guard) CheckAt(ctx context.Context, card Card, at time.Time) (Verdict, error) {
	s := Snapshot{Err: errNoCardGiven}
	if card != nil {
		var err error
		if s, err = card.Snapshot(ctx); err != nil {
			s.Certificate, s.Err = nil, err // what was seen earlier is no evidence
		}
	}
	v := g.Judge(s, at)
	return v, v.Err()
}

var errNoCardGiven = errors.New("guard: no card was given to check")

// No findings, and nothing left out: JSON writes [] and not null.
var (
	noFindings   = []Finding{}
	allIsChecked = []NotChecked{}
)

// Judge is the decision itself, made of what was seen, the instant and the rules
// alone: the checks of the package comment, each its own small piece. It does no
// I/O and asks no clock.
func (g *Guard) Judge(s Snapshot, at time.Time) Verdict {
	v := Verdict{
		Version:    VerdictVersion,
		At:         at.UTC(),
		Card:       CardInfo{Serial: s.Serial, Label: s.Label, Simulated: s.Simulated},
		Findings:   noFindings,
		NotChecked: allIsChecked,
	}
	if g == nil || g.source == nil { // not made by New: Unspecified refuses
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
	if c := s.Certificate; c.readable() && s.Err == nil {
		if set != nil {
			v.Findings = g.judgeIssuance(v.Findings, set, c, v.At)
		}
		v.Findings = judgeValidity(v.Findings, c, v.At)
		v.Findings = judgeProfile(v.Findings, c)
		v.Certificate = c.info
	}
	v.Decision = weigh(v.Findings)
	return v
}

// rules returns the newest good set, and why the source's was not taken where it
// is another. A set that does not follow the last good one (lower version, earlier,
// an active advisory gone), no set and an empty one are left aside.
func (g *Guard) rules() (*advisory.Set, error) {
	for {
		last, now := g.last.Load(), g.source.Current()
		if last == nil || now == last.source {
			return last.set(), nil
		}
		if r := g.rejected.Load(); r != nil && r.last == last && r.set == now {
			return last.own, r.err
		}
		err := errNoSet
		if now != nil && now.Len() > 0 {
			err = now.Follows(last.own)
		}
		switch {
		case err != nil && g.last.Load() == last:
			g.rejected.Store(&rejection{last, now, err})
			return last.own, err
		case err == nil:
			if took := adopt(now); g.last.CompareAndSwap(last, took) {
				return took.own, nil
			}
		}
		// Another goroutine took a newer set meanwhile: compare with that one.
	}
}

// set is the Guard's copy; nil where there is none.
func (a *adopted) set() *advisory.Set {
	if a == nil {
		return nil
	}
	return a.own
}

var errNoSet = errors.New("guard: the source of advisories has no set, or an empty one")

// weigh orders the findings and returns the decision: the weightiest effect, or
// allowed where nothing was found.
func weigh(fs []Finding) Decision {
	for i := 1; i < len(fs); i++ { // stable, and few: no allocation
		for j := i; j > 0 && fs[j].Effect < fs[j-1].Effect; j-- {
			fs[j], fs[j-1] = fs[j-1], fs[j]
		}
	}
	if len(fs) == 0 {
		return DecisionAllowed
	}
	return fs[0].Effect
}

// finding starts a finding from what is known of its reason.
func finding(r Reason) Finding {
	d := &descriptions[r]
	return Finding{Reason: r, Effect: d.effect, Check: d.check, Text: d.text, Wanted: d.wanted, Remedies: d.remedies}
}
