package signing

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// ask is what another process is to do.
type ask struct {
	Card, State string // the file of the card or the record; the state folder
	Do          string // sign, hold, or record
	Hold        state.Hold
	Otherwise   bool      // through a module that words the card otherwise
	Clock       time.Time // what the machine's clock shows there; zero: as of an instant
}

// told is what it answers.
type told struct {
	Error   string
	Reasons []guard.Reason
	Signed  int
	Asked   int
}

const childEnv = "RXGUARD_TEST_CHILD"

// TestMain is also the other process.
func TestMain(m *testing.M) {
	in := os.Getenv(childEnv)
	if in == "" {
		os.Exit(m.Run())
	}
	var a ask
	if err := json.Unmarshal([]byte(in), &a); err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a.answer()); err != nil {
		panic(err)
	}
}

// failing is for what must not fail in the other process.
type failing struct{}

func (a ask) answer() (out told) {
	switch a.Do {
	case "hold":
		if err := state.At(a.State).SetHold(a.Hold); err != nil {
			out.Error = err.Error()
		}
		return out
	case "record":
		r, err := OpenRecord(a.Card)
		for i := 0; i < 20 && err == nil; i++ {
			err = r.Record(context.Background(), numbered(i))
		}
		if err != nil {
			panic(err)
		}
		return out
	}
	sim, err := testcard.Load(a.Card)
	if err != nil {
		panic(err)
	}
	p, token := &person{pin: thePIN}, sim.Token()
	if a.Otherwise {
		token = otherwise(token)
	}
	c, err := Open(context.Background(), Config{Reader: card.NewReader(token, a.State), PIN: p.enter})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	w := &world{at: allowedAt}
	s, err := NewAsOf(c, builtin(failing{}), &memory{}, w.clock)
	if err == nil && !a.Clock.IsZero() {
		s, err = New(c, builtin(failing{}), &memory{})
		s.now = func() time.Time { return a.Clock }
	}
	if err != nil {
		panic(err)
	}
	if _, err := Sign(context.Background(), s, document(failing{}, "one")); err != nil {
		out.Error = err.Error()
		var refused *guard.Refused
		var undecided *guard.Undecided
		var v guard.Verdict
		switch {
		case errors.As(err, &refused):
			v = refused.Verdict
		case errors.As(err, &undecided):
			v = undecided.Verdict
		}
		for _, f := range v.Findings {
			out.Reasons = append(out.Reasons, f.Reason)
		}
	}
	out.Signed, out.Asked = reached(sim, testcard.OpSign), len(p.requests())
	return out
}

// elsewhere has another process do something.
func (w *world) elsewhere(a ask) told {
	w.t.Helper()
	a.State = w.dir.Path()
	a.Card = filepath.Join(w.t.TempDir(), "card.json")
	require.NoError(w.t, w.sim.Save(a.Card))
	in, err := json.Marshal(a)
	require.NoError(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(in), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(w.t, err)
	var answer told
	require.NoError(w.t, json.Unmarshal(out, &answer))
	return answer
}
