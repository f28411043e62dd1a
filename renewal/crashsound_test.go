package renewal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

// watch is what was seen of a case, beside the module and its journal.
type watch struct {
	vmu       sync.Mutex
	full      bool              // the card takes nothing new now
	foundFull bool              // it said so once
	written   *x509.Certificate // last, beside the new key
	proved    bool              // by this process: the new key signed, and it verifies with written
	changed   bool              // the card, since its last hold ended
	generated map[string]int    // by CKA_ID
	retired   int               // private keys of the old pair
	spent     int               // yeses to the last try
	loginFor  signing.Purpose   // of the login under way

	// Of a card without room: whether giving up its old pair gets a yes, has got it from
	// this process, and the authority answered after that; and that the pair is gone.
	says, consented, there, over bool
	renewedInPerson              bool // after that

	// What ends a hold: taken out under it, put back, and the passcode entered, all in
	// this process.
	outUnder   string
	seenReseat bool
	mayEnd     bool
}

// violated notes a broken promise, wherever it is seen.
func (r *rig) violated(format string, args ...any) {
	r.vmu.Lock()
	defer r.vmu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// presents is called before each login: P7.
func (r *rig) presents(pin []byte) {
	h := r.asks
	if len(h.entries) == 0 || h.entries[len(h.entries)-1].presented {
		r.violated("P7: a login without the passcode having been asked")
		return
	}
	e := &h.entries[len(h.entries)-1]
	e.presented, r.loginFor = true, e.why
	if string(pin) != e.was {
		r.violated("P7: another passcode is presented than was entered")
	}
	if r.sim.TriesLeft() == 1 {
		if r.spent++; r.spent > h.yeses {
			r.violated("P7: the last try is spent without a yes")
		}
	}
}

func (r *rig) loggedIn() {
	if r.loginFor == signing.ToReseat && r.seenReseat {
		r.mayEnd = true
	}
}

// signed is told each signature that the card made.
func (r *rig) signed(id, digest, sig []byte) {
	if bytes.Equal(id, testcard.SigningID()) && !r.over {
		r.violated("P1: the old signing key signed")
	}
	if r.written != nil && !bytes.Equal(id, testcard.AuthenticationID()) {
		pub, _ := r.written.PublicKey.(*rsa.PublicKey)
		r.proved = pub != nil && rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest, sig) == nil
	}
}

// changes is called before each change of the card: P4, P5, P6.
func (r *rig) changes(op testcard.Op, class card.Class, id, der []byte) {
	names := []string{r.id}
	h := r.hold()
	if h == nil || h.Phase != state.Renewing {
		r.violated("P4: %s on a card that is not on hold", op)
	}
	if len(der) > 0 {
		names = append(names, sumOfDER(der))
		c, err := x509.ParseCertificate(der)
		if err != nil || c.NotBefore.Equal(issued) || !bytes.Equal(c.RawSubject, r.old.RawSubject) {
			r.violated("P6: a certificate is written that must not be")
		} else {
			r.written = c
		}
	}
	if r.oldThere() {
		names = append(names, sumOfDER(r.old.Raw))
	}
	for _, n := range names {
		if at, err := r.dir.Hold(n); err != nil || at == nil || h != nil && at.ID != h.ID {
			r.violated("P4: %s, and the card is not on hold by its name %.8s: %v", op, n, err)
		}
	}
	if op == testcard.OpDestroy && bytes.Equal(id, testcard.SigningID()) && !r.proved && !r.over {
		r.violated("P5: the old pair is removed (class %d) before this process proved the new one", class)
	}
}

// gives is called before a key is made: P5 where that is over the old pair.
func (r *rig) gives(k card.KeySpec) {
	switch {
	case !bytes.Equal(k.ID, testcard.SigningID()) || !r.oldThere():
	case !k.Over || !r.s.noRoom && !r.foundFull:
		r.violated("P5: a key is made over the old one on a card that has room")
	case !bytes.Contains(r.journalBytes(), []byte(`"step":"replace","act":"intent"`)):
		r.violated("P5: the old pair is given up, and the journal does not say so")
	case !r.consented || !r.there:
		r.violated("P5: the old pair is given up without a yes (%t) and an authority that answered after it (%t)", r.consented, r.there)
	}
}

// did is called after each change.
func (r *rig) did(op testcard.Op, class card.Class, id []byte) {
	r.changed, r.mayEnd = true, false
	switch {
	case op == testcard.OpGenerate:
		if r.generated == nil {
			r.generated = map[string]int{}
		}
		if r.generated[string(id)]++; r.generated[string(id)] > 1 {
			r.violated("a second key was made in one renewal")
		}
		r.written = nil
	case op == testcard.OpDestroy && class == card.PrivateKeyObject && bytes.Equal(id, testcard.SigningID()):
		if r.retired++; r.retired > 1 {
			r.violated("the old key was retired twice")
		}
	}
}

// look reads the card itself, in the reader or not: what is on it but for the
// authentication pair.
func (r *rig) look() map[string]pair {
	if !r.sim.Token().Presence().Present {
		r.sim.Insert()
		defer r.sim.Remove()
	}
	s, err := r.sim.Token().Open(context.Background())
	require.NoError(r.t, err)
	defer s.Close()
	objects, err := s.Objects(context.Background())
	require.NoError(r.t, err)
	out := map[string]pair{}
	for _, o := range objects {
		if bytes.Equal(o.ID, testcard.AuthenticationID()) {
			continue
		}
		p := out[string(o.ID)]
		switch o.Class {
		case card.CertificateObject:
			if p.cert, err = parsed(o.DER); err != nil {
				r.violated("an unreadable certificate is on the card")
			}
		case card.PrivateKeyObject:
			p.key = true
		}
		out[string(o.ID)] = p
	}
	for _, o := range objects {
		if p := out[string(o.ID)]; o.Class == card.PublicKeyObject && p.cert != nil && !card.SameKey(o.Public, p.cert.PublicKey) {
			r.violated("container %x holds a certificate and a key that are no pair", o.ID)
		}
	}
	return out
}

var parsedBefore sync.Map

func parsed(der []byte) (*x509.Certificate, error) {
	if c, ok := parsedBefore.Load(string(der)); ok {
		return c.(*x509.Certificate), nil
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		parsedBefore.Store(string(der), c)
	}
	return c, err
}

// oldThere tells whether the old pair is on the card.
func (r *rig) oldThere() bool {
	p := r.look()[string(testcard.SigningID())]
	return p.key && p.cert != nil && p.cert.Equal(r.old)
}

// oldGone tells whether a new pair alone is on the card.
func (r *rig) oldGone() bool {
	all := r.look()
	for _, p := range all {
		return len(all) == 1 && p.key && p.cert != nil && !p.cert.Equal(r.old)
	}
	return false
}

// sound asserts what holds whenever a renewal stopped, the right card in the reader.
func (r *rig) sound() {
	all, pairs := r.look(), 0
	for _, p := range all {
		if p.key && p.cert != nil {
			pairs++
		}
	}
	if pairs == 0 && !r.over {
		r.violated("P5: nothing is left to sign with")
	}
	if !r.over && r.sim.Signatures(testcard.SigningID()) > 0 {
		r.violated("P1: the old signing key signed")
	}
	for _, e := range r.asks.entries {
		if slices.ContainsFunc(e.pin, func(b byte) bool { return b != 0 }) {
			r.violated("P7: a passcode was not wiped")
		}
	}
	h, err := r.dir.Hold(r.id)
	if err != nil {
		r.violated("P4: the hold cannot be read: %v", err)
	}
	// Not while it is being ended, nor by a certificate that this renewal did not bring.
	if h != nil && r.changed && !r.mayEnd && !r.renewedInPerson {
		for _, p := range all {
			if p.key && p.cert != nil {
				if at, err := r.dir.Hold(sumOfDER(p.cert.Raw)); err != nil || at == nil {
					r.violated("P4: the card is on no hold by its certificate %x: %v", p.cert.SerialNumber, err)
				}
			}
		}
	}
	if h == nil && r.changed {
		if !r.mayEnd {
			r.violated("P4: the hold was ended, and the card was not seen re-seated or its passcode not entered")
		}
		r.changed = false
	}
	r.sign(h, pairs)
	if len(r.changesOf(r.other)) > 0 {
		r.violated("the wrong card was changed")
	}
	if h, err := r.dir.Hold(r.otherID); h != nil || err != nil {
		r.violated("the wrong card is on hold: %v", err)
	}
	if r.keep {
		r.secrets()
	}
	r.stops()
}

// stops ends a case in which a promise was broken.
func (r *rig) stops() {
	r.vmu.Lock()
	defer r.vmu.Unlock()
	if len(r.wrong) > 0 {
		r.t.Errorf("%s", r.wrong[0])
		r.t.FailNow()
	}
}

// changesOf lists the changes that a card did.
func (r *rig) changesOf(c *testcard.Card) []testcard.Event {
	return slices.DeleteFunc(c.Trace(), func(e testcard.Event) bool { return !e.After || !slices.Contains(changes, e.Op) })
}

// sign tries to sign, in another process and, while the renewal goes on, in this one.
// A card that is on hold is refused for that; the old one for its notice.
func (r *rig) sign(h *state.Hold, pairs int) {
	v, signed := r.stranger()
	switch {
	case signed && (h != nil || r.oldThere()):
		r.violated("P4: the card signed in the midst of its renewal")
	case h != nil && pairs > 0 && !onHold(v):
		r.violated("P4: the card is on hold, and another process finds %v", v.Findings)
	case h == nil && r.oldThere() && !v.Has(guard.Affected):
		r.violated("the old certificate is not refused: %v", v.Findings)
	}
	if r.dead || h == nil || h.Phase != state.Renewing {
		return
	}
	r.quietly(func() {
		v, signed := verdictOf(r, r.signs)
		if signed || pairs > 0 && !onHold(v) {
			r.violated("P4: the card is on hold, and its own process finds %v", v.Findings)
		}
	})
}

// onHold tells whether the hold is among what speaks against a signature.
func onHold(v guard.Verdict) bool {
	return slices.ContainsFunc(v.Findings, func(f guard.Finding) bool { return f.Check == guard.CheckHold && !f.Effect.Permits() })
}

// stranger has another process try to sign; it has the passcode only where the card
// is on no hold.
func (r *rig) stranger() (guard.Verdict, bool) {
	c, err := signing.Open(context.Background(), signing.Config{
		Reader: card.NewReader(r.slot.Token(), r.dir.Path()),
		PIN: func(context.Context, signing.PINRequest) ([]byte, error) {
			if r.hold() != nil {
				r.violated("P4: another process asks for the passcode of a card that is on hold")
			}
			return []byte(thePIN), nil
		},
	})
	require.NoError(r.t, err)
	defer c.Close()
	s, err := signing.NewAsOf(c, r.g, &memory{}, r.peek)
	require.NoError(r.t, err)
	return verdictOf(r, s)
}

func verdictOf(r *rig, s *signing.Signer) (guard.Verdict, bool) {
	_, err := signing.Sign(context.Background(), s, aPrescription())
	var no *guard.Refused
	var dontKnow *guard.Undecided
	switch {
	case err == nil:
		return guard.Verdict{}, true
	case errors.As(err, &no):
		return no.Verdict, false
	case errors.As(err, &dontKnow):
		return dontKnow.Verdict, false
	}
	r.violated("signing failed of something else than the verdict: %v", err)
	return guard.Verdict{}, false
}

var aPrescription = sync.OnceValue(func() *eps.Prepared { return prepared(panicTB{}) })

// lastRenewal is what the journal on disk says; nil: nothing.
func (r *rig) lastRenewal() *progress {
	es, _, err := ReadJournal(journalPath(r.dir.Path(), r.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(r.t, err)
	return (&journal{entries: es}).last()
}
