package renewal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// TestASecondProcess is this test in two processes: the second opens a copy of the
// card with the same state folder, as another application of the machine would.
func TestASecondProcess(t *testing.T) {
	const name = "RXGUARD_TEST_SECOND_PROCESS"
	if dir := os.Getenv(name); dir != "" {
		secondProcess(t, dir)
		return
	}
	w := newWorld(t)
	second := func(module string) string {
		t.Helper()
		require.NoError(t, w.sim.Save(filepath.Join(filepath.Dir(w.dir.Path()), "card.json")))
		cmd := exec.Command(os.Args[0], "-test.run=^TestASecondProcess$", "-test.v")
		cmd.Env = append(os.Environ(), name+"="+filepath.Dir(w.dir.Path()), moduleName+"="+module)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	for _, m := range []string{"the same module", "another module"} {
		assert.Contains(t, second(m), "signing: allowed")
	}

	said := map[string]string{}
	w.ca.answer = func(_ int, r Request) (Answer, error) {
		for _, m := range []string{"the same module", "another module"} {
			said[m] = second(m)
		}
		return w.ca.issue(r)
	}
	w.mustRenew()
	for m, said := range said {
		assert.Contains(t, said, "signing: on_hold_renewal", m)
		assert.Contains(t, said, fmt.Sprintf("renewing: refused: This card is being renewed by another program (process %d since", os.Getpid()), m)

		assert.Contains(t, second(m), "signing: on_hold\n", "not seen re-seated by that process")
	}
	w.reseat()
	for m := range said {
		assert.Contains(t, second(m), "signing: on_hold\n", m)
	}
	_, err := w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	for m := range said {
		assert.Contains(t, second(m), "signing: allowed", m)
	}
}

// moduleName says through which module the second process has the card.
const moduleName = "RXGUARD_TEST_SECOND_MODULE"

func secondProcess(t *testing.T, dir string) {
	sim, err := testcard.Load(filepath.Join(dir, "card.json"))
	require.NoError(t, err)
	w := &world{t: t, sim: sim, dir: state.At(filepath.Join(dir, "state")), person: &person{pin: thePIN}, ca: &authority{}, rec: &memory{}, now: theTime}
	if os.Getenv(moduleName) == "another module" {
		w.as = otherwise
	}
	w.g, err = guard.New(guard.Config{}) // by which the card is not affected
	require.NoError(t, err)
	w.restart()
	defer w.card.Close()
	if _, err := signing.Sign(t.Context(), w.signer(), prepared(t)); err != nil {
		var refused *guard.Refused
		require.ErrorAs(t, err, &refused)
		fmt.Printf("signing: %v\n", refused.Verdict.Findings[0].Reason)
	} else {
		fmt.Println("signing: allowed")
	}
	res, err := w.renewer().Renew(t.Context(), nil)
	fmt.Printf("renewing: %s: %s %v\n", res.Outcome, res.Text, err)
}

func TestAHoldOfAnotherCardBindsThatCardAlone(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t, func(u *setUp) { u.dir = w.dir.Path(); u.card.Serial = "other"; u.good = true })
	w.mustRenew()
	other.mustSign()
	assert.True(t, w.refused().Has(guard.OnHold))
	assert.NotEqual(t, w.id, other.id)
	assert.Equal(t, w.id, card.Info{Manufacturer: testcard.Manufacturer, Model: testcard.Model, Serial: "c0ffee"}.ID())
}

func TestADamagedHoldStopsTheRenewal(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepHold)
	file := filepath.Join(w.dir.Path(), "holds", w.id+".json")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	before := len(w.ops(changes...))
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Refusal, "cannot be told")
	assert.Len(t, w.ops(changes...), before)
	assert.True(t, w.refused().Has(guard.HoldUnknown))
}

// The old certificate seen again after a renewal, from a cache or a copy, does not
// end the hold.
func TestTheOldCertificateDoesNotEndTheHoldOfARenewedCard(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	newID := w.journal()[0].NewID
	oldKey := testcard.CachedKeys()
	_, err := oldKey(2048)
	require.NoError(t, err)
	key, err := oldKey(2048)
	require.NoError(t, err)
	w.clear(newID)
	require.NoError(t, w.sim.Provision(testcard.Pair{ID: testcard.SigningID(), Key: key, Certificate: w.old.Raw}))
	w.reseat()
	res, err := w.renewer().Finish(t.Context(), w.signer())
	ends(t, res, err, Refusal, "does not have the certificate")
	res, err = w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.NotEqual(t, guardInfo(t, w).SHA256, w.hold().Expect)
}

func guardInfo(t *testing.T, w *world) guard.CertificateInfo {
	t.Helper()
	c, err := guard.ParseCertificate(w.old.Raw)
	require.NoError(t, err)
	return c.Info()
}
