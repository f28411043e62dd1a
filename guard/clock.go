package guard

import (
	"fmt"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// ClockFloor is a source of the newest instant that is known to be past, such as that
// of the last recorded run. It is asked for every check and answers from memory. Zero:
// nothing is known.
type ClockFloor interface {
	Floor() time.Time
}

// expiring is a source of advisories that says until when its set counts as fresh.
type expiring interface {
	Expires() time.Time
}

// JudgeNow is Judge for the clock of this machine: it also asks whether the clock is
// behind what is known to be past (ClockBehind), and whether the rule set is past its
// expiry (RulesStale). What signs by a clock judges with it; an instant that is a
// question is for Judge.
func (g *Guard) JudgeNow(s Snapshot, now time.Time) Verdict { return g.judge(s, now, true) }

// judgeClock compares now with the newest of the rule set's issue, the revocation
// lists' thisUpdate and the configured floor.
func (g *Guard) judgeClock(fs []Finding, set *advisory.Set, now time.Time) []Finding {
	var floor time.Time
	var of string
	later := func(t time.Time, what string) {
		if t.After(floor) {
			floor, of = t, what
		}
	}
	if set != nil {
		later(set.Issued(), ofRules)
	}
	if g.revocation != nil {
		later(g.revocation.Floor(), ofLists)
	}
	if g.floor != nil {
		later(g.floor.Floor(), ofLastRun)
	}
	if now.Before(floor) {
		f := finding(ClockBehind)
		f.Is = fmt.Sprintf(isClock, instant(now), of, instant(floor))
		fs = append(fs, f)
	}
	if e, ok := g.source.(expiring); ok {
		if until := e.Expires(); !until.IsZero() && !now.Before(until) {
			f := finding(RulesStale)
			f.Is = fmt.Sprintf(isStale, instant(until))
			fs = append(fs, f)
		}
	}
	return fs
}
