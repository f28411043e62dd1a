package testcard

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slot is vpcd's side of a reader.
type slot struct {
	t testing.TB
	l net.Listener
}

func newSlot(t testing.TB) slot {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return slot{t, l}
}

func (s slot) addr() string { return s.l.Addr().String() }

// connection waits for a card that was put in, and looks at it.
func (s slot) connection() link {
	s.t.Helper()
	return s.emptied().looked()
}

// emptied waits for a card that was put in, which shows an empty slot first.
func (s slot) emptied() slot {
	s.t.Helper()
	l := s.next()
	l.put(vpcdATR)
	l.gone()
	return s
}

// looked is the next connection, after the reader's own look at the card.
func (s slot) looked() link {
	s.t.Helper()
	l := s.next()
	assert.Equal(s.t, ATR(), l.ask(vpcdATR))
	assert.Equal(s.t, ATR(), l.ask(vpcdATR))
	return l
}

// next waits for a connection.
func (s slot) next() link {
	s.t.Helper()
	require.NoError(s.t, s.l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
	conn, err := s.l.Accept()
	require.NoError(s.t, err)
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	s.t.Cleanup(func() { conn.Close() })
	return link{s.t, conn}
}

type link struct {
	t testing.TB
	net.Conn
}

func (l link) put(message ...byte) {
	l.t.Helper()
	_, err := l.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	require.NoError(l.t, err)
}

func (l link) ask(message ...byte) []byte {
	l.t.Helper()
	l.put(message...)
	var head [2]byte
	_, err := io.ReadFull(l, head[:])
	require.NoError(l.t, err)
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err = io.ReadFull(l, b)
	require.NoError(l.t, err)
	return b
}

// gone waits for the end of the connection.
func (l link) gone() {
	l.t.Helper()
	n, err := l.Read(make([]byte, 1))
	assert.Zero(l.t, n)
	assert.ErrorIs(l.t, err, io.EOF)
}

func plugged(t testing.TB, c *Card, s slot) *Reader {
	t.Helper()
	r, err := c.Plug(s.addr())
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestPlug(t *testing.T) {
	c, s := withKey(t, Config{}), newSlot(t)
	r := plugged(t, c, s)
	l := s.connection()
	assert.Equal(t, ATR(), l.ask(vpcdATR))
	l.put(vpcdOn)
	assert.Equal(t, ATR(), l.ask(vpcdATR))
	require.NoError(t, r.Seen(soon(t)))
	assert.Equal(t, append(pivVersion, 0x90, 0x00), l.ask(0, insVersion, 0, 0))
	assert.Equal(t, []byte{0x67, 0x00}, l.ask(0x55), "a byte that is no control message is an APDU, and not a good one")

	verify := append([]byte{0, insVerify, 0, 0x80, 8}, pin(DefaultPIN)...)
	for _, end := range []byte{vpcdOff, vpcdReset, vpcdOn} {
		assert.Equal(t, []byte{0x90, 0x00}, l.ask(verify...))
		l.put(end)
		assert.Equal(t, []byte{0x63, 0xC3}, l.ask(0, insVerify, 0, 0x80), "control message %d ends the login", end)
	}
	require.NoError(t, r.Close())
	l.gone()
	assert.True(t, c.Token().Presence().Present, "the card is as it was")
	assert.NoError(t, r.Close(), "twice is harmless")
}

func TestRemoveAndInsertAreSeenByTheReader(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	r := plugged(t, c, s)
	l := s.connection()
	c.Remove()
	l.gone()
	require.NoError(t, r.Seen(soon(t)), "there is nothing to see")
	c.Insert()
	l = s.connection()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, r.Seen(ctx), context.Canceled)
	l.put(vpcdOn)
	l.ask(vpcdATR)
	require.NoError(t, r.Seen(soon(t)))

	c.Remove()
	c.Insert()
	l.gone()
	assert.Equal(t, ATR(), s.connection().ask(vpcdATR), "however quick, it was out")
}

// pcscd 1.9.9 keeps a card for in that a program powered before its own look saw it.
func TestNoProgramSeesTheCardBeforeTheReaderDoes(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	r := plugged(t, c, s)
	for _, first := range [][]byte{{vpcdOn}, {vpcdReset}, {0, insVersion, 0, 0}} {
		l := s.emptied().next()
		assert.Equal(t, ATR(), l.ask(vpcdATR))
		l.put(first...)
		l.gone()
		l = s.looked()
		c.Remove()
		c.Insert()
		l.gone()
	}
	assert.NoError(t, r.Err())
}

func TestACardThatIsOutIsPluggedInLater(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	c.Remove()
	plugged(t, c, s)
	c.Insert()
	assert.Equal(t, ATR(), s.connection().ask(vpcdATR))
}

func TestAReaderThatComesBack(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	r := plugged(t, c, s)
	l := s.connection()
	l.put(vpcdOn)
	l.ask(vpcdATR)
	require.NoError(t, r.Seen(soon(t)))
	l.Close()
	l = s.next()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Error(t, r.Seen(ctx), "the one that came back has not seen it")
	assert.Equal(t, ATR(), l.ask(vpcdATR))

	addr := s.addr()
	s.l.Close()
	l.Close()
	require.Eventually(t, func() bool { return r.Err() != nil }, time.Minute, time.Millisecond)
	assert.ErrorContains(t, r.Err(), "no virtual reader")
	again, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { again.Close() })
	assert.Equal(t, ATR(), slot{t, again}.next().ask(vpcdATR))
	assert.NoError(t, r.Err())
}

func TestPlugRefuses(t *testing.T) {
	s := newSlot(t)
	s.l.Close()
	_, err := newCard(t, Config{}).Plug(s.addr())
	assert.ErrorContains(t, err, "testcard: no virtual reader (pcscd with vpcd) listens at "+s.addr())
	_, err = newCard(t, Config{}).Plug("35963")
	assert.ErrorContains(t, err, `testcard: reader address "35963", expected host:port`)
}

func TestCloseDoesNotWaitForAHook(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	r := plugged(t, c, s)
	reached, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c.HookCommands(OnCommand(OpOther, Before, 1, func() []byte {
		defer close(ended)
		close(reached)
		<-release
		return nil
	}))
	l := s.connection()
	l.put(0, insVersion, 0, 0)
	<-reached
	c.Remove()
	l.gone()
	require.NoError(t, r.Close())
	close(release)
	<-ended
}

func TestAnEmptyAnswerLosesTheConnection(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	plugged(t, c, s)
	c.HookCommands(OnCommand(OpOther, Before, 1, func() []byte { return []byte{} }))
	l := s.connection()
	l.put(0, insVersion, 0, 0)
	l.gone()
	assert.Equal(t, append(pivVersion, 0x90, 0x00), s.looked().ask(0, insVersion, 0, 0))
}

func TestAnEmptySlotIsSeenByTheReadersOwnLook(t *testing.T) {
	c, s := newCard(t, Config{}), newSlot(t)
	plugged(t, c, s)
	l := s.next()
	l.put(0, insVersion, 0, 0)
	l.gone()
	l = s.next()
	l.put(vpcdOn)
	l.put(vpcdATR)
	l.gone()
	assert.Equal(t, ATR(), s.connection().ask(vpcdATR), "a program's command, and the ATR after power-up, were no look")
}

func TestPulledDuringACommandNothingIsSent(t *testing.T) {
	for _, p := range []Phase{Before, During} {
		c, s := newCard(t, Config{}), newSlot(t)
		plugged(t, c, s)
		c.HookCommands(OnCommand(OpOther, p, 1, func() []byte { c.Remove(); return nil }))
		l := s.connection()
		l.put(0, insVersion, 0, 0)
		l.gone()
	}
}
