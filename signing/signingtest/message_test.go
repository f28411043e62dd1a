package signingtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

var at = time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)

func TestMessagesCanBeSignedWithEveryPrefix(t *testing.T) {
	var plain []byte
	for _, prefix := range []string{"", "hl7", "v3"} {
		m, err := eps.ParseMessage(signingtest.Message(signingtest.MessageConfig{At: at, Prescriptions: 3, Items: 4, User: "555000000001", Prefix: prefix}), eps.ReadOptions{})
		require.NoError(t, err)
		require.Len(t, m.Prescriptions(), 3)
		p := m.Prescriptions()[1]
		require.NoError(t, p.Err())
		assert.Equal(t, at, p.Time())
		assert.Equal(t, "00000002-5EED-4000-8000-000000000001", p.ID())
		assert.Equal(t, "000001-Z99999-5EED0X", p.ShortID())
		assert.Equal(t, 4, strings.Count(string(p.Fragments()), "<Fragment><pertinentLineItem"))
		if prefix == "" {
			plain = p.Fragments()
		}
		assert.Equal(t, string(plain), string(p.Fragments()), "prefixes are not signed")
	}
}

// The way of an application: parse, sign all under one passcode entry, and get the
// message with the signatures in it.
func TestAMessageIsSignedWithASimulatedCard(t *testing.T) {
	kit, err := signingtest.New(signingtest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, kit.Close()) })
	card, err := signing.Open(t.Context(), signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, card.Close()) })
	g, err := guard.New(guard.Config{})
	require.NoError(t, err)
	record, err := signing.OpenRecord(t.TempDir() + "/record.jsonl")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, record.Close()) })
	signer, err := signing.New(card, g, record)
	require.NoError(t, err)

	m, err := eps.ParseMessage(signingtest.Message(signingtest.MessageConfig{Prescriptions: 3}), eps.ReadOptions{})
	require.NoError(t, err)
	outcomes, err := signing.SignEach(t.Context(), signer, m.Prescriptions(), nil)
	require.NoError(t, err)
	var signatures []*eps.SignedPrescription
	for _, o := range outcomes {
		signatures = append(signatures, o.Signed)
	}
	message, err := m.Fill(signatures...)
	require.NoError(t, err)

	again, err := eps.ParseMessage(message, eps.ReadOptions{})
	require.NoError(t, err)
	for i, p := range again.Prescriptions() {
		require.NoError(t, p.Err())
		assert.Equal(t, m.Prescriptions()[i].Fragments(), p.Fragments())
		_, err := signing.Sign(t.Context(), signer, p)
		assert.ErrorContains(t, err, "signed already")
	}
}
