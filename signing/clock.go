package signing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/state"
)

// LastRun is the clock floor of this machine, for guard.Config.Floor: the newest
// instant at which a Signer or a renewal recorded a decision about a real card, in
// whatever process, less one to two minutes, so that a clock that is set right by a
// moment is not behind. With it guard.Check says of the clock what Sign will say; a
// Signer keeps to the floor with or without.
//
//	g, err := guard.New(guard.Config{Advisories: set, Floor: signing.LastRun{}})
//
// It answers from memory: the floor is read by Open and Cards, and once a second while
// a real card is open. It is kept in the file clock.json of the machine's state folder,
// which survives restarts. A clock that was wrong, and is right again, can be behind
// it: the finding guard.ClockBehind of a Signer names the file, which is then to be
// removed. Running programs see that it is gone.
type LastRun struct{}

// Floor returns the floor, in UTC; zero where none is known.
func (LastRun) Floor() time.Time {
	c := machineClock()
	if c == nil {
		return time.Time{}
	}
	return c.Floor()
}

// machineClock is one for all cards of the process; nil where the machine's folder
// cannot be found, without which no real card is opened.
var machineClock = sync.OnceValue(func() *state.Clock { // changed by tests
	dir, err := state.Machine()
	if err != nil {
		return nil
	}
	return dir.Clock()
})

// readLastRun reads the floor for LastRun where dir is the machine's folder. What is
// wrong with it a Signer finds and says.
func readLastRun(dir state.Dir) {
	if c := machineClock(); c != nil && c.Dir() == dir {
		_ = c.Refresh()
	}
}

// clockOf is the clock floor of the folder that a card's holds are in.
func clockOf(dir state.Dir) *state.Clock {
	if c := machineClock(); c != nil && c.Dir() == dir {
		return c
	}
	return dir.Clock()
}

// JudgeNow is g.JudgeNow for the card c, and finds guard.ClockBehind also where now is
// before the clock floor that is kept beside the card's holds (see LastRun), whatever floor g was
// configured with: that is read from disk. It is what a Signer and a renewal judge by.
// The error is that the floor is not known, because its file is damaged or cannot be
// read; the verdict is then g's alone, and nothing is to be signed on it.
func JudgeNow(c *Card, g *guard.Guard, s guard.Snapshot, now time.Time) (guard.Verdict, error) {
	dir, err := stateOf(c)
	if err != nil {
		return g.JudgeNow(s, now), fmt.Errorf("signing: %w", err)
	}
	return judgeNow(clockOf(dir), g, s, now)
}

// errClockUnknown is wrapped where the floor cannot be read.
var errClockUnknown = errors.New("signing: it is not known whether the clock of this computer is behind")

func judgeNow(c *state.Clock, g *guard.Guard, s guard.Snapshot, now time.Time) (guard.Verdict, error) {
	err := c.Refresh()
	if err != nil {
		err = fmt.Errorf("%w: %w", errClockUnknown, err)
	}
	v, floor := g.JudgeNow(s, now), c.Floor()
	if !now.Before(floor) {
		return v, err
	}
	isClock := func(f guard.Finding) bool { return f.Reason == guard.ClockBehind }
	v.Findings = slices.Clone(v.Findings)
	i := slices.IndexFunc(v.Findings, isClock)
	if i < 0 {
		f := behind(floor, now)
		if i = slices.IndexFunc(v.Findings, func(o guard.Finding) bool { return o.Effect > f.Effect }); i < 0 {
			i = len(v.Findings)
		}
		v.Findings = slices.Insert(v.Findings, i, f)
		v.Decision = v.Findings[0].Effect
	}
	v.Findings[i].Is += fmt.Sprintf("; decisions were recorded here up to %s UTC, as %s says: remove that file if this instant is yet to come",
		floor.Format(time.DateTime), c.Path())
	return v, err
}

// known is an instant that is known to be past.
type known time.Time

func (k known) Floor() time.Time { return time.Time(k) }

// behind is a guard's own finding that now is before floor.
func behind(floor, now time.Time) guard.Finding {
	g, err := guard.New(guard.Config{Floor: known(floor)})
	if err == nil {
		for _, f := range g.JudgeNow(guard.Snapshot{}, now).Findings {
			if f.Reason == guard.ClockBehind {
				return f
			}
		}
	}
	return guard.Finding{Reason: guard.ClockBehind, Effect: guard.DecisionUndecided, Check: guard.CheckClock} // cannot be
}

// judge asks the guard about the card by this Signer's clock. An as-of instant is a
// question, and has no floor. The error is that the floor is not known.
func (s *Signer) judge(snap guard.Snapshot, at time.Time) (guard.Verdict, error) {
	if s.asOf {
		return s.g.Judge(snap, at), nil
	}
	return judgeNow(s.clock, s.g, snap, at)
}

// keep raises the clock floor to the instant of a decision.
func (s *Signer) keep(ctx context.Context, v guard.Verdict) error {
	if s.asOf {
		return nil
	}
	if err := s.clock.Raise(ctx, v.At, v.Certificate.NotAfter); err != nil {
		return fmt.Errorf("signing: the instant of the decision could not be kept for this computer's clock: %w", err)
	}
	return nil
}
