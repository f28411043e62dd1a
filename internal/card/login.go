package card

import (
	"context"
	"fmt"
)

// Login asks the person for the passcode and presents it to the card once. It
// reads the card's flags first: a locked card is not asked, and the last try is
// spent only after an explicit yes. Nothing is tried again. The passcode is wiped
// before Login returns.
func Login(ctx context.Context, h *Handle, s Session, why Purpose) error {
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if info.Locked {
		return Errorf(PINLocked, "login", "%s", info.name())
	}
	req := PINRequest{
		Serial: info.Serial, Label: info.Label, Purpose: why,
		MinLength: info.MinPIN, MaxLength: info.MaxPIN,
		FewTries: info.CountLow, LastTry: info.FinalTry,
	}
	if info.FinalTry {
		yes := false
		if h.opts.LastTry != nil {
			if yes, err = h.opts.LastTry(ctx, req); err != nil {
				return &Error{Kind: LastTry, Op: "login", TriesLeft: 1, Detail: info.name(), Err: err}
			}
		}
		if !yes {
			return &Error{Kind: LastTry, Op: "login", TriesLeft: 1, Detail: info.name()}
		}
	}
	if h.opts.PIN == nil {
		return Errorf(PINCancelled, "login", "%s: no passcode callback is configured", info.name())
	}
	pin, err := h.opts.PIN(ctx, req)
	defer clear(pin)
	if err != nil {
		return &Error{Kind: PINCancelled, Op: "login", TriesLeft: -1, Detail: info.name(), Err: err}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// An empty passcode would reach a PKCS#11 module as NULL, which asks on a PIN
	// pad; a wrong length can spend a try on some cards.
	switch {
	case len(pin) == 0:
		return Errorf(PINLength, "login", "it is empty")
	case info.MinPIN > 0 && len(pin) < info.MinPIN:
		return Errorf(PINLength, "login", "it is shorter than %d characters", info.MinPIN)
	case info.MaxPIN > 0 && len(pin) > info.MaxPIN:
		return Errorf(PINLength, "login", "it is longer than %d characters", info.MaxPIN)
	}
	return s.Login(ctx, pin)
}

func (i Info) name() string { return fmt.Sprintf("card %q, serial %s", i.Label, i.Serial) }
