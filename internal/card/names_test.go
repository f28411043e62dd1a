package card_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

func sum(o card.Object) string { return fmt.Sprintf("%x", sha256.Sum256(o.DER)) }

func TestWhatACardGoesBy(t *testing.T) {
	signA, signB := cert(2, "sign", issue(t, testcard.Signing, keyA(), 0xa1)), cert(3, "sign too", issue(t, testcard.Signing, keyB(), 0xb1))
	authA, authC := cert(1, "log in", issue(t, testcard.Authentication, keyA(), 0xc1)), cert(4, "log in too", issue(t, testcard.Authentication, keyC(), 0xc2))
	auth := authC
	damaged := cert(9, "damaged", []byte("x"))
	of := func(objects ...card.Object) card.Certificates { return card.CertificatesOf(objects, false) }
	here := card.Info{Manufacturer: "Yubico", Model: "YubiKey", Serial: "77", Label: "a"}
	there := card.Info{Manufacturer: "piv_II", Model: "PKCS#15 emulated", Serial: "b80c", Label: "b"}

	full := of(auth, signA, private(2, nil), damaged)
	assert.Equal(t, []string{sum(signA)}, full.Candidates())
	assert.Equal(t, []string{here.ID(), sum(signA)}, full.Names(here))
	assert.Equal(t, []string{there.ID(), sum(signA)}, full.Names(there), "by the certificate through each module")
	assert.Equal(t, []string{sum(signA), sum(signB)}, of(signB, signA, auth).Candidates(), "any of several")
	assert.Equal(t, []string{sum(signA)}, of(signB, signA, private(2, nil)).Candidates(), "but not one that has no key beside one that has")
	assert.Equal(t, []string{here.ID()}, of(auth).Names(here))
	assert.Equal(t, []string{here.ID()}, card.Certificates(nil).Names(here), "a card of which no more was read")
	assert.Empty(t, full.Names(card.Info{}), "a card that did not say who it is")

	// Without a serial number the certificates tell it from others of the model.
	silent := card.Info{Manufacturer: "Yubico", Model: "YubiKey"}
	id := full.ID(silent)
	assert.Len(t, id, len(here.ID()))
	assert.Equal(t, []string{id, sum(signA), silent.ID()}, full.Names(silent))
	assert.Equal(t, id, of(auth, signB, private(3, nil)).ID(silent), "a renewal leaves it its name")
	assert.Equal(t, id, of(auth, signA, signB).ID(silent))
	all := map[string]string{}
	for name, cs := range map[string]card.Certificates{
		"one card": full, "another": of(authA, signB, private(3, nil)), "no authentication": of(signA), "nor the other": of(signB), "nothing": nil,
	} {
		id := cs.ID(silent)
		assert.NotEqual(t, silent.ID(), id)
		assert.Empty(t, all[id], "%s and %s share a name", name, all[id])
		all[id] = name
	}
}

// flaky is a token whose sessions are counted.
type flaky struct {
	card.Token
	in     bool
	opened int
	closed int
}

func (f *flaky) Presence() card.Presence { return card.Presence{Present: f.in, Insertion: 1} }

func (f *flaky) Open(context.Context) (card.Session, error) {
	f.opened++
	return &flakySession{f: f}, nil
}

type flakySession struct {
	card.Session
	f *flaky
}

func (s *flakySession) Insertion() uint64 { return 1 }

func (s *flakySession) Close() error {
	s.f.closed++
	return nil
}

func TestAStaleSessionIsReadOnceMore(t *testing.T) {
	stale, fault := card.Errorf(card.Removed, "read", "stale"), card.Errorf(card.Fault, "read", "fault")
	for _, c := range []struct {
		name   string
		out    bool
		ended  bool
		fails  []error
		opened int
		kind   card.Kind // of the error; Other: none
	}{
		{name: "at once", fails: []error{nil}, opened: 1},
		{name: "stale", fails: []error{stale, nil}, opened: 2},
		{name: "stale twice", fails: []error{stale, stale, nil}, opened: 2, kind: card.Removed},
		{name: "then something else", fails: []error{stale, fault, nil}, opened: 2, kind: card.Fault},
		{name: "something else", fails: []error{fault, nil}, opened: 1, kind: card.Fault},
		{name: "the card is out", out: true, fails: []error{stale, nil}, opened: 1, kind: card.Removed},
		{name: "pulled in the middle", out: true, fails: []error{fault, nil}, opened: 1, kind: card.Absent},
		{name: "nobody waits", ended: true, fails: []error{stale, nil}, opened: 1, kind: card.Removed},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.ended {
				cancel()
			}
			f := &flaky{in: !c.out}
			s, err := card.Read(ctx, f, func(card.Session) error { return c.fails[f.opened-1] })
			assert.Equal(t, c.opened, f.opened)
			if c.kind == card.Other {
				assert.NoError(t, err)
				assert.NotNil(t, s)
				assert.Equal(t, f.opened-1, f.closed)
				return
			}
			assert.Nil(t, s)
			assert.True(t, card.IsKind(err, c.kind), "%v", err)
			assert.Equal(t, f.opened, f.closed, "none is left open")
		})
	}
}
