package p11_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

const thePIN = "704139"

// memory is a Recorder.
type memory struct {
	mu      sync.Mutex
	entries []signing.Entry
}

func (m *memory) Record(ctx context.Context, e signing.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.entries = append(m.entries, e)
	return nil
}

func (m *memory) all() []signing.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.entries)
}

func (m *memory) count(ev signing.Event) int {
	n := 0
	for _, e := range m.all() {
		if e.Event == ev {
			n++
		}
	}
	return n
}

// document is a $prepare answer with a digest of its own.
func document(t testing.TB, name string) *eps.Prepared {
	t.Helper()
	digest := sha256.Sum256([]byte(name))
	info, err := eps.SignedInfo(eps.RS256, digest[:])
	require.NoError(t, err)
	type parameter struct {
		Name  string `json:"name"`
		Value string `json:"valueString"`
	}
	answer, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []parameter{
		{"digest", base64.StdEncoding.EncodeToString(info)},
		{"timestamp", time.Now().UTC().Format(time.RFC3339)},
		{"algorithm", "RS256"},
	}})
	require.NoError(t, err)
	p, err := eps.ParsePrepared(answer)
	require.NoError(t, err)
	return p
}

// open opens a token as signing does a card, with a state folder of the test's own.
func open(t *testing.T, tok card.Token, pin string) (*signing.Card, *signing.Signer, *memory, string) {
	t.Helper()
	dir := t.TempDir()
	c, err := signing.Open(t.Context(), signing.Config{
		Reader: card.NewReader(tok, filepath.Join(dir, "state")),
		PIN:    func(context.Context, signing.PINRequest) ([]byte, error) { return []byte(pin), nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	g, err := guard.New(guard.Config{})
	require.NoError(t, err)
	rec := &memory{}
	s, err := signing.New(c, g, rec)
	require.NoError(t, err)
	return c, s, rec, dir
}

// TestRemovalReleasesNothing pulls the card of a prescriber who signs documents: no
// signature is released, the record says so, and once the card is back the same Signer
// signs.
func TestRemovalReleasesNothing(t *testing.T) {
	type cell struct {
		when   string
		pull   func(t *testing.T, r p11.InReader)
		events []signing.Event // of one that is not released
		wedges string          // the module that may be wedged by it
	}
	cells := []cell{
		{"before", func(t *testing.T, r p11.InReader) { r.Card.Remove(); r.Reaches(t, false) }, []signing.Event{signing.EventRefused}, ""},
		{"just before", func(_ *testing.T, r p11.InReader) { r.Card.Remove() }, []signing.Event{signing.EventNotSigned, signing.EventRefused}, "opensc"},
		{"before the passcode", func(_ *testing.T, r p11.InReader) { r.PullAt(testcard.OpLogin, testcard.Before) }, []signing.Event{signing.EventNotSigned}, ""},
		{"after the passcode", func(_ *testing.T, r p11.InReader) { r.PullAt(testcard.OpLogin, testcard.During) }, []signing.Event{signing.EventNotSigned}, ""},
		{"at the start", func(_ *testing.T, r p11.InReader) { r.PullAt(testcard.OpSign, testcard.Before) }, []signing.Event{signing.EventNotSigned}, ""},
		{"in the middle", func(_ *testing.T, r p11.InReader) { r.PullAt(testcard.OpSign, testcard.During) }, []signing.Event{signing.EventNotSigned}, ""},
	}
	modules := []string{"opensc", "ykcs11"}
	var names []string
	for _, module := range modules {
		for _, c := range cells {
			names = append(names, module+"/"+c.when)
		}
	}
	elsewhere := p11.Alone(t, names)
	for _, module := range modules {
		for _, c := range cells {
			t.Run(module+"/"+c.when, func(t *testing.T) {
				if elsewhere(t) {
					return
				}
				r := p11.NewInReader(t, module)
				require.NoError(t, r.Card.SetPIN([]byte(thePIN)))
				handle, signer, rec, dir := open(t, r.Token, thePIN)
				first, err := signing.Sign(t.Context(), signer, document(t, "first"))
				require.NoError(t, err)
				require.NotNil(t, first)
				made := r.Card.Signatures(testcard.SigningID())
				require.Equal(t, 1, rec.count(signing.EventSigned))

				c.pull(t, r)
				second, err := signing.Sign(t.Context(), signer, document(t, "second"))
				require.Error(t, err)
				assert.Nil(t, second)
				r.Card.HookCommands(nil)
				var e *signing.CardError
				require.ErrorAs(t, err, &e)
				last := rec.all()[len(rec.all())-1]
				assert.Contains(t, c.events, last.Event)
				assert.Equal(t, 1, rec.count(signing.EventSigned))
				assert.Contains(t, e.Advice(), "nothing was signed")
				assert.LessOrEqual(t, r.Card.Signatures(testcard.SigningID()), made+1)
				if e.Kind == signing.CardWedged {
					assert.Equal(t, c.wedges, module)
					assert.Equal(t, "restart the application; nothing was signed", e.Advice())
					t.Logf("%s is wedged", module)
					return
				}
				if last.Event == signing.EventNotSigned {
					assert.Equal(t, e.Kind.String(), last.Cause)
				}
				assert.Equal(t, "insert your smartcard; nothing was signed", e.Advice(), "%v", err)

				r.Reaches(t, false)
				s := until(t, handle, func(s guard.Snapshot) bool { return s.Err != nil })
				assert.ErrorIs(t, s.Err, guard.ErrNoCard)
				r.Card.Insert()
				until(t, handle, func(s guard.Snapshot) bool { return s.Certificate != nil })
				third, err := signing.Sign(t.Context(), signer, document(t, "third"))
				require.NoError(t, err)
				require.NotNil(t, third)
				assert.Equal(t, 2, rec.count(signing.EventSigned))

				// The passcode is in nothing that is kept.
				kept, err := json.Marshal(rec.all())
				require.NoError(t, err)
				assert.NotContains(t, string(kept), thePIN)
				require.NoError(t, filepath.Walk(dir, func(path string, i os.FileInfo, err error) error {
					if err != nil || !i.Mode().IsRegular() {
						return err
					}
					b, err := os.ReadFile(path)
					if err == nil && bytes.Contains(b, []byte(thePIN)) {
						err = fmt.Errorf("%s holds the passcode", path)
					}
					return err
				}))
			})
		}
	}
}

// until waits for a snapshot of the card.
func until(t *testing.T, c *signing.Card, is func(guard.Snapshot) bool) guard.Snapshot {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		changed := c.Changed()
		s, err := c.Snapshot(t.Context())
		require.NoError(t, err)
		if is(s) {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(t, "the snapshot does not change", "%+v", s)
		}
	}
}

// TestSignerCloseDuring closes the Signer, and then the card, while documents are
// signed with them on a real module: each document is released and recorded, or there
// is an error; nobody waits for ever.
func TestSignerCloseDuring(t *testing.T) {
	c, signer, rec, _ := open(t, p11.SoftToken(t, 1), testcard.DefaultPIN)
	const goroutines = 4
	var released atomic.Int64
	var wg sync.WaitGroup
	ends := make(chan error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := signing.Sign(context.Background(), signer, document(t, fmt.Sprintf("%d of %d", i, g)))
				switch {
				case err == nil:
					released.Add(1)
					continue
				case card.Closed(c):
					ends <- err
					return
				}
			}
		})
	}
	signs := func() {
		at := released.Load()
		require.Eventually(t, func() bool { return released.Load() > at+goroutines }, time.Minute, time.Millisecond)
	}
	for range 10 {
		signs()
		require.NoError(t, signer.Close())
	}
	signs()
	require.NoError(t, c.Close())
	wg.Wait()
	for range goroutines {
		assert.Error(t, <-ends)
	}
	assert.EqualValues(t, rec.count(signing.EventSigned), released.Load())
	_, err := signing.Sign(t.Context(), signer, document(t, "late"))
	assert.ErrorIs(t, err, card.ErrClosed)
	t.Logf("%d documents released, %d not", released.Load(), rec.count(signing.EventNotSigned))
}
