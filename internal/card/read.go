package card

import "context"

// Read opens a session and has read read the card in it. Where the module says that
// the session is of an earlier insertion, though a card is in (some answer so after
// another program reset the card), it is done once more: for reading alone, before
// anybody logged in. What was signed or logged in is never done again by itself.
//
// The session is open after nil alone. The errors are those of Open and of read, after
// Pulled.
func Read(ctx context.Context, t Token, read func(Session) error) (Session, error) {
	for again := false; ; again = true {
		s, err := t.Open(ctx)
		if err == nil {
			if err = read(s); err == nil {
				return s, nil
			}
			err = Pulled(t, s.Insertion(), err)
			_ = s.Close()
		}
		if again || !IsKind(err, Removed) || !t.Presence().Present || ctx.Err() != nil {
			return nil, err
		}
	}
}
