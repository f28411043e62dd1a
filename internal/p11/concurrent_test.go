package p11

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// TestConcurrent signs on two tokens from eight goroutines, each with a session of its
// own, and verifies every signature with the key of its own token.
func TestConcurrent(t *testing.T) {
	const (
		full       = 10_000
		goroutines = 8
		tokens     = 2
	)
	n := full / 5
	if os.Getenv("RXGUARD_SOAK") != "" {
		n = full
	}
	t.Logf("%d signatures by %d goroutines on %d tokens (make soak: %d)", n, goroutines, tokens, full)
	s := softHSM(t)
	m := load(t, s.tokens[0].Module, "")
	var toks [tokens]*Token
	for i := range toks {
		tok, err := m.Token(t.Context(), s.decks[i].sel, nil)
		require.NoError(t, err)
		defer tok.Close()
		toks[i] = tok
	}
	var made, crossed atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, goroutines)
	began := time.Now()
	for g := range goroutines {
		wg.Go(func() {
			errs <- func() error {
				d, other := &s.decks[g%tokens], &s.decks[(g+1)%tokens]
				sess, err := toks[g%tokens].Open(t.Context())
				if err != nil {
					return err
				}
				defer sess.Close()
				for i := range n / goroutines {
					if i == 0 || g%tokens == 0 { // the key of deck 0 wants it for each signature
						if err := sess.Login(t.Context(), d.pin); err != nil {
							return fmt.Errorf("goroutine %d, login %d: %w", g, i, err)
						}
					}
					m := digest(crypto.SHA256, fmt.Sprintf("message %d of goroutine %d", i, g))
					sig, err := sess.Sign(t.Context(), testcard.SigningID(), m, crypto.SHA256)
					if err != nil {
						return fmt.Errorf("goroutine %d, signature %d: %w", g, i, err)
					}
					if err := verify(d.signing.PublicKey, m, sig, crypto.SHA256); err != nil {
						return fmt.Errorf("goroutine %d, signature %d: %w", g, i, err)
					}
					made.Add(1)
					if rsa.VerifyPKCS1v15(other.signing.PublicKey.(*rsa.PublicKey), crypto.SHA256, m, sig) == nil {
						crossed.Add(1)
					}
				}
				return nil
			}()
		})
	}
	wg.Wait()
	for range goroutines {
		assert.NoError(t, <-errs)
	}
	assert.EqualValues(t, n, made.Load())
	assert.Zero(t, crossed.Load())
	t.Logf("%d signatures in %v", made.Load(), time.Since(began).Round(time.Millisecond))
}

// TestCloseDuring closes what others sign with at that moment: a signature is made
// and verifies or there is an error, nothing crashes and nobody waits for ever, and
// work goes on with what is opened anew.
func TestCloseDuring(t *testing.T) {
	s := softHSM(t)
	m := load(t, s.tokens[1].Module, "")
	d := &s.decks[1]
	rounds := 20
	if os.Getenv("RXGUARD_SOAK") != "" {
		rounds = 200
	}
	t.Logf("%d rounds (make soak: 200)", rounds)
	const goroutines = 4
	for _, c := range []struct {
		name  string
		after card.Kind // of an error once it is closed; Other: none
		close func(tok *Token, sessions []card.Session)
	}{
		{"the sessions", card.Removed, func(_ *Token, sessions []card.Session) {
			for _, s := range sessions {
				s.Close()
			}
		}},
		{"one session of several", card.Removed, func(_ *Token, sessions []card.Session) { sessions[0].Close() }},
		{"the token", card.Other, func(tok *Token, _ []card.Session) { tok.Close() }},
		{"everything, twice", card.Removed, func(tok *Token, sessions []card.Session) {
			var wg sync.WaitGroup
			for range 2 {
				for _, s := range sessions {
					wg.Go(func() { s.Close() })
				}
				wg.Go(func() { tok.Close() })
			}
			wg.Wait()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range rounds {
				tok, err := m.Token(t.Context(), d.sel, nil)
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				var sessions []card.Session
				for range goroutines {
					sess, err := tok.Open(ctx)
					require.NoError(t, err)
					require.NoError(t, sess.Login(ctx, d.pin))
					sessions = append(sessions, sess)
				}
				var signed atomic.Int64
				ends := make(chan error, goroutines)
				for _, sess := range sessions {
					go func() {
						for {
							err := signsWith(ctx, sess, d)
							if err != nil {
								ends <- err
								return
							}
							signed.Add(1)
						}
					}()
				}
				eventually(t, func() bool { return signed.Load() > goroutines }, "nothing is signed")
				c.close(tok, sessions)
				at := signed.Load()
				if c.after == card.Other { // the sessions are good still
					eventually(t, func() bool { return signed.Load() > at }, "the sessions end with the token")
				}
				var e *card.Error
				if c.after != card.Other {
					err := <-ends
					require.True(t, errors.As(err, &e) && e.Kind == c.after, "%v", err)
					ends <- err
				}
				cancel()
				for range goroutines {
					err := <-ends
					require.True(t, errors.Is(err, context.Canceled) || card.IsKind(err, card.Removed), "%v", err)
				}
				for _, sess := range sessions {
					require.NoError(t, sess.Close())
					require.Error(t, signsWith(t.Context(), sess, d))
				}
				require.NoError(t, tok.Close())
			}
			tok, err := m.Token(t.Context(), d.sel, nil)
			require.NoError(t, err)
			defer tok.Close()
			sess, err := tok.Open(t.Context())
			require.NoError(t, err)
			defer sess.Close()
			require.NoError(t, sess.Login(t.Context(), d.pin))
			require.NoError(t, signsWith(t.Context(), sess, d))
		})
	}
}

// signsWith has a card sign with its signing key, and verifies that with its
// certificate.
func signsWith(ctx context.Context, sess card.Session, d *deck) error {
	m := digest(crypto.SHA256, "a prescription")
	sig, err := sess.Sign(ctx, testcard.SigningID(), m, crypto.SHA256)
	if err != nil {
		if sig != nil {
			return fmt.Errorf("a signature beside an error: %w", err)
		}
		return err
	}
	return verify(d.signing.PublicKey, m, sig, crypto.SHA256)
}
