// Package guard decides whether a smartcard's signing certificate may sign a
// prescription now.
//
// It judges the certificate against affected-issuance advisories, its validity at
// the judged instant, the profile of a signing certificate (key usage, policy), the
// strength of its key, its chain to a configured root, its revocation, and whether
// the card is on hold after a renewal. The answer is a [Verdict]: refused, undecided,
// warned or allowed, with a [Finding] for everything that was found, in plain words,
// and what to do. How strict it is, is for a [Policy] to say.
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
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/guard/weakkey"
)

// Advisories is a source of rule sets: a fixed *advisory.Set, or one that is
// refreshed. Current is called for every check and must answer from memory. A source
// that has the method Expires() time.Time too says until when its set is fresh; from
// then on it is stale (RulesStale). Zero: always fresh.
type Advisories interface {
	Current() *advisory.Set
}

// Config configures a Guard. The zero value judges by the built-in advisories.
type Config struct {
	// Advisories is the source of rules; nil is advisory.Builtin(). A source that
	// later goes backwards is not followed: the last good set stays in force.
	Advisories Advisories

	// Roots are the certificates of the CAs that are trusted. Nil: chains are not
	// checked, and each verdict says so.
	Roots []*x509.Certificate

	// Issuers are certificates of the CAs below the roots, issuing ones and those in
	// between. They are what a chain to a root is made of. A certificate's issuer is
	// told by its signature against the keys of Issuers and Roots, which advisories that
	// name an issuer by subject public key info need; where none of them signed it, such
	// advisories stay undecided unless they also name the authority key identifier.
	Issuers []*x509.Certificate

	// Revocation is the source of revocation status; it needs Roots or Issuers, because
	// lists are told by the issuer's key. Nil: revocation is not checked, and each
	// verdict says so.
	Revocation Revocation

	// Keys judges the strength of keys, by block lists for instance. Nil: as the zero
	// weakkey.Checker does.
	Keys *weakkey.Checker

	// Floor is the newest instant that is known to be past. A Guard itself takes the
	// issue of its rule set and the newest revocation list into account. Nil: nothing
	// else is known.
	Floor ClockFloor

	// Policy says how strict the Guard is. The zero value is the default.
	Policy Policy

	// Live says that this Guard stands before prescriptions for patients: it
	// refuses the simulated card and every certificate that is marked as such.
	Live bool
}

// Guard judges certificates. New makes it; it is safe for concurrent use, and what
// it was configured with does not change. The zero value and nil refuse.
type Guard struct {
	source      Advisories
	roots       roots
	authorities []configuredCA // issuers and roots
	revocation  Revocation
	keys        *weakkey.Checker
	floor       ClockFloor
	live        bool

	treatments                   [reasons]treatment
	refuseRSABelow, warnRSABelow int
	renewalWindow                time.Duration
	notChecked                   []NotChecked
	weakened                     []Weakening

	last     atomic.Pointer[adopted] // the newest good set
	rejected atomic.Pointer[rejection]

	mu      sync.Mutex         // never held during I/O
	records map[string]*record // by SHA-256 of the certificate
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

// New makes a Guard. The error names the field of c that is wrong: a source that has
// no set yet, in Roots or Issuers what is not a parsed CA certificate, revocation
// without any CA, or a setting of the policy that does not exist.
func New(c Config) (*Guard, error) {
	g := &Guard{
		source: c.Advisories, revocation: c.Revocation, keys: c.Keys, floor: c.Floor, live: c.Live,
		records: make(map[string]*record),
	}
	if g.source == nil {
		g.source = advisory.Builtin()
	}
	set := g.source.Current()
	if set == nil || set.Len() == 0 {
		return nil, errors.New("guard: Config.Advisories has no current set, or an empty one; leave it nil for the built-in one")
	}
	g.last.Store(adopt(set))
	if g.keys == nil {
		g.keys = new(weakkey.Checker)
	}
	roots, err := authorities("Roots", c.Roots)
	if err != nil {
		return nil, err
	}
	issuers, err := authorities("Issuers", c.Issuers)
	if err != nil {
		return nil, err
	}
	g.roots = newRoots(roots, issuers)
	g.authorities = distinct(append(issuers, roots...))
	if g.revocation != nil && len(g.authorities) == 0 {
		return nil, errors.New("guard: Config.Revocation without Roots and Issuers; wanted the CA certificates, because a list is told by its issuer's key")
	}
	if err := g.set(&c.Policy); err != nil {
		return nil, err
	}
	return g, nil
}

// set takes a policy, and notes what is not checked and what is weakened.
func (g *Guard) set(p *Policy) error {
	if err := p.check(); err != nil {
		return err
	}
	g.treatments = p.treatments()
	g.refuseRSABelow = cmp.Or(p.RefuseRSABelow, refuseRSABelow)
	g.warnRSABelow = cmp.Or(p.WarnRSABelow, warnRSABelow)
	g.renewalWindow = p.RenewalWindow
	g.weakened, g.notChecked = p.weakened()
	if g.roots.roots == nil {
		g.notChecked = append(g.notChecked, NotChecked{CheckChain, notCheckedText[CheckChain]})
	}
	if g.revocation == nil {
		g.notChecked = append(g.notChecked, NotChecked{CheckRevocation, notCheckedText[CheckRevocation]})
	}
	if g.weakened == nil {
		g.weakened = nothingWeakened
	}
	if g.notChecked == nil {
		g.notChecked = allIsChecked
	}
	return nil
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
	v := g.JudgeNow(seen(ctx, card), time.Now())
	return v, v.Err()
}

// CheckAt judges the card as of the instant at: what would be said then, by the
// rules as they are known now. It is a question, not a clock: no signature is
// made on its answer. Errors as those of Check.
func (g *Guard) CheckAt(ctx context.Context, card Card, at time.Time) (Verdict, error) {
	v := g.Judge(seen(ctx, card), at)
	return v, v.Err()
}

// seen is a card as it was last seen.
func seen(ctx context.Context, card Card) Snapshot {
	if card == nil {
		return Snapshot{Err: errNoCardGiven}
	}
	s, err := card.Snapshot(ctx)
	if err != nil {
		s.Certificate, s.Err = nil, err // what was seen earlier is no evidence
	}
	return s
}

var errNoCardGiven = errors.New("guard: no card was given to check")

// No findings, and nothing left out: JSON writes [] and not null.
var (
	noFindings      = []Finding{}
	allIsChecked    = []NotChecked{}
	nothingWeakened = []Weakening{}
)

// Judge is the decision itself, made of what was seen, the instant and the rules
// alone: the checks of the package comment, each its own small piece. It does no
// I/O and asks no clock: the instant is a question. For an instant that a clock
// shows, see JudgeNow.
func (g *Guard) Judge(s Snapshot, at time.Time) Verdict { return g.judge(s, at, false) }

func (g *Guard) judge(s Snapshot, at time.Time, isNow bool) Verdict {
	v := Verdict{
		Version:    VerdictVersion,
		At:         at.UTC(), // without the monotonic reading, which nobody can set back
		Card:       CardInfo{Serial: s.Serial, Label: s.Label, Simulated: s.Simulated},
		Findings:   noFindings,
		NotChecked: allIsChecked,
		Weakened:   nothingWeakened,
	}
	if g == nil || g.source == nil { // not made by New: Unspecified refuses
		v.Findings = append(v.Findings, finding(Unspecified))
		return v
	}
	v.NotChecked, v.Weakened = g.notChecked, g.weakened
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
	if isNow {
		v.Findings = g.judgeClock(v.Findings, set, v.At)
	}
	if c := s.Certificate; c.readable() && s.Err == nil {
		v.Findings = g.judgeCertificate(v.Findings, set, c, v.At)
		v.Certificate = c.info
	}
	if len(v.Findings) > 0 {
		v.Findings = g.apply(v.Findings)
	}
	v.Decision = weigh(v.Findings)
	return v
}

// judgeCertificate makes the checks that ask the certificate alone.
func (g *Guard) judgeCertificate(fs []Finding, set *advisory.Set, c *Certificate, at time.Time) []Finding {
	r := g.known(c)
	if set != nil {
		fs = g.judgeIssuance(fs, set, r, c, at)
	}
	fs = judgeValidity(fs, c, at)
	fs = judgeProfile(fs, c)
	if g.roots.roots != nil || g.revocation != nil {
		s := g.chains(r, c, at)
		fs = judgeChain(fs, s)
		fs = judgeRevocation(fs, s, at)
	}
	return g.judgeStrength(fs, c, &r.key)
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
