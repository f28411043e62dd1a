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
// reader went away and came back. However soon a card is put back, the reader sees
// first that it was out; however soon a program asks, the reader sees it before the
// program does. Power-down and reset end its security status, as removal does.
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
	if c.Token().Presence().Present {
		var err error
		if conn, err = r.dial(ctx); err != nil {
			stop()
			return nil, err
		}
	}
	go r.run(ctx, conn)
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

// run keeps the connection while the card is in. The first one may be there already.
func (r *Reader) run(ctx context.Context, conn net.Conn) {
	defer close(r.done)
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	absent := uint64(0) // the insertion before which the reader is known to have seen no card
	for ctx.Err() == nil {
		r.c.mu.Lock()
		p, moved := r.c.presence(), r.c.moved
		r.c.mu.Unlock()
		if !p.Present {
			select {
			case <-ctx.Done():
			case <-moved:
			}
			continue
		}
		if conn == nil {
			var err error
			if conn, err = r.dial(ctx); err != nil {
				pause(ctx, moved)
				continue
			}
		}
		work := noCard
		if absent == p.Insertion {
			work = func(conn net.Conn) bool { r.serve(conn, newApplet(r.c, p.Insertion)); return false }
		}
		select {
		case <-ctx.Done():
		case <-moved:
		case seen := <-detach(conn, work):
			if seen {
				absent = p.Insertion
			} else {
				pause(ctx, moved)
			}
		}
		conn.Close()
		conn = nil
		r.noticed(0)
	}
}

// pause waits a little before the reader is tried again.
func pause(ctx context.Context, moved <-chan struct{}) {
	t := time.NewTimer(redial)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-moved:
	case <-t.C:
	}
}

// detach works on a connection until work is over. Whoever closes the connection does
// not wait for that: a hook may be holding up a command.
func detach(conn net.Conn, work func(net.Conn) bool) <-chan bool {
	done := make(chan bool, 1)
	go func() {
		defer conn.Close()
		done <- work(conn)
	}()
	return done
}

// receive reads a message: two bytes of length, then the message.
func receive(conn net.Conn) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	acknowledge(conn)
	message := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(conn, message)
	return message, err
}

// noCard has the reader look into an empty slot: it answers nothing, and the
// connection ends. pcscd looks every 400 ms whether a card is there; a card that is
// taken out while a program works on it, and put back before the next look, would be
// taken for one that was never out. It tells whether it was pcscd's look that found
// nothing, not a program's command.
func noCard(conn net.Conn) bool {
	for powered := false; ; powered = true {
		message, err := receive(conn)
		if err != nil || len(message) != 1 || message[0] > vpcdReset {
			return err == nil && !powered && len(message) == 1 && message[0] == vpcdATR
		}
	}
}

// serve is the card on a connection. No program gets at it before pcscd's own look
// has seen it: a card that a program powers first, and that is taken out before the
// next look, stays in for that pcscd (1.9.9) until another one comes. pcscd asks for
// the ATR before it powers a card for anybody, and once more before that when it looks.
func (r *Reader) serve(conn net.Conn, a *applet) {
	powered, asked := false, 0
	for {
		message, err := receive(conn)
		if err != nil {
			return
		}
		var answer []byte
		sent := func() {}
		switch {
		case asked < 2 && (len(message) != 1 || message[0] != vpcdATR):
			return
		case len(message) == 1 && message[0] <= vpcdReset:
			powered = message[0] != vpcdOff
			a.reset()
			continue
		case len(message) == 1 && message[0] == vpcdATR:
			asked = min(asked+1, 2)
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
	if r.seen != insertion { // 0: the reader is another one now, or will be
		r.seen = insertion
		close(r.changed)
		r.changed = make(chan struct{})
	}
}
