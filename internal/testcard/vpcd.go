package testcard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Control messages of vpcd, each one byte long; every other message is an APDU
// (https://frankmorgner.github.io/vsmartcard/virtualsmartcard/api.html).
const (
	vpcdOff   = 0
	vpcdOn    = 1
	vpcdReset = 2
	vpcdATR   = 4
)

const (
	dialTimeout = 5 * time.Second
	redial      = 100 * time.Millisecond // pause before a reader that went away is tried again
)

// Reader is the virtual reader in which a card is plugged, see Card.Plug.
type Reader struct {
	c    *Card
	addr string
	stop context.CancelFunc
	done chan struct{} // closed when the reader is left alone

	mu      sync.Mutex
	seen    uint64 // the insertion that the reader last powered or asked for
	changed chan struct{}
	err     error // of the last dial; nil while connected
}

// Plug gives the card a slot of the virtual smartcard reader vpcd, which listens at
// addr (host:port). While the card is inserted it keeps a connection there, over
// which it is a PIV smartcard: Card.Remove closes the connection, which is what
// pulling a card out is, Card.Insert dials again, and so does the card when the
// reader went away and came back. Power-down and reset end its security status, as
// removal does.
//
// A card that is in dials before Plug returns; the error says that nobody listens at
// addr, or that it is no address. A slot holds one card, and a card is in one slot
// at a time. Close the Reader to leave the slot.
func (c *Card) Plug(addr string) (*Reader, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("testcard: reader address %q, expected host:port as 127.0.0.1:35963: %w", addr, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Reader{c: c, addr: addr, stop: stop, done: make(chan struct{}), changed: make(chan struct{})}
	var conn net.Conn
	p := c.Token().Presence()
	if p.Present {
		var err error
		if conn, err = r.dial(ctx); err != nil {
			stop()
			return nil, err
		}
	}
	go r.run(ctx, conn, p.Insertion)
	return r, nil
}

func (r *Reader) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.addr)
	if err == nil && conn.LocalAddr().String() == conn.RemoteAddr().String() {
		// With nobody listening, TCP may connect a dynamic port with itself.
		conn.Close()
		conn, err = nil, errors.New("connected with itself")
	}
	if err != nil {
		err = fmt.Errorf("testcard: no virtual reader (pcscd with vpcd) listens at %s: %w", r.addr, err)
	}
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	return conn, err
}

// Close takes the card out of the slot for good; the Card itself stays as it is. It
// does not wait for a hook.
func (r *Reader) Close() error {
	r.stop()
	<-r.done
	return nil
}

// Err is why an inserted card has no connection to the reader now, or nil.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Seen waits until the reader has powered the card as it is in now: programs find it
// from then on, or a moment later. It answers at once for a card that is out. The error is ctx's, with
// the last one of dialling.
func (r *Reader) Seen(ctx context.Context) error {
	for {
		p := r.c.Token().Presence()
		r.mu.Lock()
		seen, changed, err := r.seen, r.changed, r.err
		r.mu.Unlock()
		if !p.Present || seen == p.Insertion {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("testcard: the reader at %s has not noticed the card: %w", r.addr, ctx.Err()), err)
		case <-r.done:
			return fmt.Errorf("testcard: the reader at %s is closed", r.addr)
		case <-changed:
		}
	}
}

// run keeps the connection while the card is in. The first one may be there already,
// made for an insertion.
func (r *Reader) run(ctx context.Context, conn net.Conn, made uint64) {
	defer close(r.done)
	for ctx.Err() == nil {
		r.c.mu.Lock()
		p, moved := r.c.presence(), r.c.moved
		r.c.mu.Unlock()
		if conn != nil && (!p.Present || p.Insertion != made) {
			conn.Close()
			conn = nil
		}
		var lost, again <-chan struct{}
		if p.Present && conn == nil {
			var err error
			if conn, err = r.dial(ctx); err != nil {
				again = after(redial)
			}
		}
		if conn != nil {
			lost = r.start(conn, newApplet(r.c, p.Insertion))
		}
		select {
		case <-ctx.Done():
		case <-moved:
		case <-again:
		case <-lost:
			select {
			case <-ctx.Done():
			case <-moved:
			case <-after(redial):
			}
		}
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
}

func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// start serves a connection until it ends. Whoever closes it does not wait: a hook
// may be holding up a command.
func (r *Reader) start(conn net.Conn, a *applet) <-chan struct{} {
	r.mu.Lock()
	r.seen = 0
	r.mu.Unlock()
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		defer conn.Close()
		r.serve(conn, a)
	}()
	return lost
}

// serve answers messages: two bytes of length, then the message.
func (r *Reader) serve(conn net.Conn, a *applet) {
	var head [2]byte
	powered := false
	for {
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		acknowledge(conn)
		message := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		var answer []byte
		sent := func() {}
		switch {
		case len(message) == 1 && message[0] <= vpcdReset:
			powered = message[0] != vpcdOff
			a.reset()
			continue
		case len(message) == 1 && message[0] == vpcdATR:
			if a.alive() {
				answer = ATR()
				if powered { // asked for unpowered, it is a look whether a card is there
					r.noticed(a.insertion)
				}
			}
		default:
			answer, sent = a.transmit(message)
			clear(message) // it may hold a passcode
		}
		if len(answer) == 0 || len(answer) > 1<<16-1 { // the card is out, or a script makes no answer of it
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
		sent()
	}
}

func (r *Reader) noticed(insertion uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen != insertion {
		r.seen = insertion
		close(r.changed)
		r.changed = make(chan struct{})
	}
}
