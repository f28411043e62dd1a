//go:build cgo

package renewal_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/signing"
)

// has tells whether a journal holds an entry.
func has(es []renewal.JournalEntry, s renewal.Step, a renewal.Act) bool {
	return slices.ContainsFunc(es, func(e renewal.JournalEntry) bool { return e.Step == s && e.Act == a })
}

// held are the reasons for which a card on hold is refused.
var held = []guard.Reason{guard.OnHold, guard.OnHoldRenewal, guard.OnHoldLogin}

// sound asserts what holds at every moment: es is the journal, and found what another
// application found on the card.
func (r *killed) sound(es []renewal.JournalEntry, found findings) {
	r.t.Helper()
	on := found.Objects
	if r.sim != nil {
		on = r.inside()
	}
	certs, keys := certificates(whole(on)), privateKeys(whole(on))
	auth, old := hex.EncodeToString(testcard.AuthenticationID()), hex.EncodeToString(testcard.SigningID())
	was := certificates(r.before)

	// P5: the old pair stays until the new one has signed and verified.
	if !has(es, renewal.StepProve, renewal.Done) {
		require.Equal(r.t, was[old], certs[old], "the old certificate is gone")
	}
	if !has(es, renewal.StepRetire, renewal.Intent) {
		require.Equal(r.t, was[old].Key, keys[old].Key, "the old key is gone")
	}
	require.Equal(r.t, was[auth], certs[auth])
	require.Equal(r.t, was[auth].Key, keys[auth].Key)

	// P4: from before the first change on nothing signs, until the card was re-seated.
	changed := len(on) != len(r.before) || slices.ContainsFunc(on, func(o object) bool { return !slices.Contains(r.before, o) })
	require.Empty(r.t, found.Err)
	switch {
	case found.Signed == "":
		require.True(r.t, slices.ContainsFunc(found.Reasons, func(x guard.Reason) bool { return slices.Contains(held, x) }), "%v", found.Reasons)
	case r.reseated && has(es, renewal.StepReseat, renewal.Done):
		require.NotEqual(r.t, r.old, found.Signed)
	default:
		require.Equal(r.t, r.old, found.Signed)
		require.False(r.t, changed, "a card that was changed signs")
		require.False(r.t, has(es, renewal.StepHold, renewal.Done), "a card on hold signs")
	}

	// One renewal, one new key, one retirement.
	for _, e := range es {
		require.Equal(r.t, es[0].Renewal, e.Renewal)
		require.NotEqual(r.t, renewal.StepGivenUp, e.Step)
	}
	for id := range keys {
		if id != auth && id != old {
			require.NotEmpty(r.t, es)
			require.Equal(r.t, hex.EncodeToString(es[0].NewID), id, "a stray key")
		}
	}
	require.LessOrEqual(r.t, r.retired, 1)
	r.nothingSecret()
}

// settled asserts the one valid end: the new pair alone, apart from what the module
// cannot remove; re-seated and signing, or where the card cannot be taken out, on hold.
func (r *killed) settled() {
	r.t.Helper()
	es := r.journal()
	found := r.look()
	r.sound(es, found)
	require.Empty(r.t, r.end.Err)
	on := found.Objects
	if r.sim != nil {
		on = r.inside()
	}
	certs, keys := certificates(whole(on)), privateKeys(whole(on))
	auth, old, fresh := hex.EncodeToString(testcard.AuthenticationID()), hex.EncodeToString(testcard.SigningID()), hex.EncodeToString(es[0].NewID)
	require.ElementsMatch(r.t, []string{auth, fresh}, slices.Collect(maps.Keys(certs)))
	require.NotEmpty(r.t, certs[fresh].Key)
	require.Equal(r.t, certs[fresh].Key, keys[fresh].Key)
	last := es[len(es)-1]
	require.Equal(r.t, renewal.Done, last.Act)
	holds, err := filepath.Glob(filepath.Join(r.job.State, "holds", "*.json"))
	require.NoError(r.t, err)
	if r.sim == nil {
		require.Len(r.t, keys, 2)
		require.Equal(r.t, renewal.ReseatCard, r.end.Outcome)
		require.Positive(r.t, r.end.Remedies)
		require.Equal(r.t, renewal.StepReseat, last.Step)
		require.Empty(r.t, found.Signed)
		require.Contains(r.t, found.Reasons, guard.OnHold)
		require.NotEmpty(r.t, holds)
	} else {
		require.ElementsMatch(r.t, []string{auth, old, fresh}, slices.Collect(maps.Keys(keys)), "a PIV card removes no key")
		require.True(r.t, r.end.Completed, r.end.Text)
		require.Equal(r.t, renewal.StepDone, last.Step)
		require.Equal(r.t, certs[fresh].Sum, found.Signed)
		require.Equal(r.t, certs[fresh].Sum, sum(r.end.Certificate))
		digest := sha256.Sum256(r.end.SignedInfo)
		require.NoError(r.t, rsa.VerifyPKCS1v15(parsed(r.t, r.end.Certificate).PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], r.end.Signature))
		require.Empty(r.t, holds)
		r.once()
	}
	_, err = signing.VerifyRecord(r.job.Record, nil)
	require.NoError(r.t, err)
}

// once asserts of the commands that reached a PIV card: the old certificate was removed
// once, after the new key had signed the request and a challenge.
func (r *killed) once() {
	r.t.Helper()
	signed, removed := 0, 0
	for _, c := range r.sim.Commands() {
		switch {
		case c.Phase != testcard.During || c.SW != testcard.SWOK:
		case c.Op == testcard.OpSign && !bytes.Equal(c.ID, testcard.AuthenticationID()) && !bytes.Equal(c.ID, testcard.SigningID()):
			signed++
		case c.Op == testcard.OpDestroy && bytes.Equal(c.ID, testcard.SigningID()):
			require.GreaterOrEqual(r.t, signed, 2)
			removed++
		}
	}
	require.Equal(r.t, 1, removed)
}

// nothingSecret asserts that no file of the machine holds the passcode, the security
// officer's secret or a private key.
func (r *killed) nothingSecret() {
	r.t.Helper()
	secrets := map[string][]byte{"the passcode": []byte(processPIN), "a private key": []byte("PRIVATE KEY")}
	if r.job.Officer != "" {
		secrets["the management key"] = testcard.DefaultManagementKey()
		secrets["the management key as it is entered"] = []byte(r.job.Officer)
		keys := testcard.CachedKeys()
		for i := range 4 {
			k, err := keys(2048)
			require.NoError(r.t, err)
			secrets[fmt.Sprintf("private key %d", i)] = k.D.Bytes()
			secrets[fmt.Sprintf("a prime of key %d", i)] = k.Primes[0].Bytes()
		}
	}
	err := filepath.WalkDir(r.job.State, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		require.NoError(r.t, err)
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) { // the process that goes on has just removed it
			return nil
		}
		require.NoError(r.t, err)
		for what, s := range secrets {
			for _, form := range [][]byte{s, []byte(hex.EncodeToString(s)), []byte(base64.RawStdEncoding.EncodeToString(s))} {
				require.False(r.t, bytes.Contains(b, form), "%s holds %s", file, what)
			}
		}
		return nil
	})
	require.NoError(r.t, err)
}
