package card

import "slices"

// Candidates are the SHA-256 of the certificates that the card may sign with, of which
// Signing takes one or none, lower-case hexadecimal. A PKCS#11 module may word a card's
// maker, model and serial number as it likes; certificates are the same behind all.
func (cs Certificates) Candidates() []string {
	var sums []string
	for _, t := range cs.signing() {
		if sum := t.Certificate.Info().SHA256; !slices.Contains(sums, sum) {
			sums = append(sums, sum)
		}
	}
	return sums
}

// ID is the name under which a renewal of the card is kept: that of its Info, or
// without a serial number, which would tell it from others of the model, one made of
// the certificate that it logs in with, which a renewal leaves alone.
func (cs Certificates) ID(i Info) string {
	if i.Serial != "" {
		return i.ID()
	}
	sum := ""
	if p, err := cs.Authentication(); err == nil {
		sum = p.Certificate.Info().SHA256
	} else if all := cs.Candidates(); len(all) > 0 {
		sum = all[0] // such a card is not renewed
	}
	return digest("no serial number", sum)
}

// Names are all that a hold on the card may go by: its ID, which comes first, its
// Candidates, and for a card without a serial number the ID of its Info, by which an
// earlier version of this program kept its holds. There are none of the zero Info, of a
// card that did not say who it is.
func (cs Certificates) Names(i Info) []string {
	if i == (Info{}) {
		return nil
	}
	names := append([]string{cs.ID(i)}, cs.Candidates()...)
	if i.Serial == "" {
		names = append(names, i.ID())
	}
	return names
}
