package advisory

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const maxAKI = 64

var (
	idPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{2,63}$`)
	oidPattern = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]*))+$`)
	urlPattern = regexp.MustCompile(`^https?://[!-~]+$`)
)

// The words of the document's closed lists.
var (
	states      = []State{Draft, Shadow, Active, Resolved, Withdrawn, Superseded}
	bases       = []Basis{SerialList, IssuanceLog, NotBeforeWindow, Assumed}
	remedyKinds = []RemedyKind{Renew, Portal, ITSupport, RegistrationAuthority, ServiceDesk, Reseat, Paper}
	weaknesses  = []string{"roca", "fermat", "small_factor", "exponent", "blocklisted"}

	// As crypto/x509 spells them; MD2 has no spelling there.
	signatureAlgorithms = []string{
		"MD5-RSA", "SHA1-RSA", "SHA256-RSA", "SHA384-RSA", "SHA512-RSA",
		"SHA256-RSAPSS", "SHA384-RSAPSS", "SHA512-RSAPSS", "DSA-SHA1", "DSA-SHA256",
		"ECDSA-SHA1", "ECDSA-SHA256", "ECDSA-SHA384", "ECDSA-SHA512", "Ed25519",
	}
)

// ended tells whether the state is one of those that never come back.
func (s State) ended() bool { return s == Resolved || s == Withdrawn || s == Superseded }

// check finds the first value that is not allowed and the first contradiction.
func (a *Advisory) check() *Error {
	for _, check := range []func() *Error{
		a.checkNames, a.checkTexts, a.checkDates, a.checkRemedies, a.checkClauses, a.checkBasis, a.checkFixedWhen,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (a *Advisory) checkNames() *Error {
	switch {
	case !idPattern.MatchString(a.ID):
		return problem("id", "found %s, wanted 3 to 64 of a-z, 0-9 and -, not starting with -", quote(a.ID))
	case a.Revision < 1:
		return problem("revision", "found %d, wanted 1 or more", a.Revision)
	case a.ExpectedCount < 0:
		return problem("expected_count", "found %d, wanted 0 (not known) or more", a.ExpectedCount)
	case a.State != Superseded && a.SupersededBy != "":
		return problem("superseded_by", "found it in state %s, wanted it in state superseded only", quote(string(a.State)))
	case a.State == Superseded && !idPattern.MatchString(a.SupersededBy):
		return problem("superseded_by", "found %s, wanted the id of the advisory that replaces this one", quote(a.SupersededBy))
	case a.State == Superseded && a.SupersededBy == a.ID:
		return problem("superseded_by", "found the advisory's own id, wanted the id of another advisory")
	}
	if err := checkWord("state", a.State, states); err != nil {
		return err
	}
	return checkWord("basis", a.Basis, bases)
}

func checkWord[T ~string](path string, word T, known []T) *Error {
	if !slices.Contains(known, word) {
		return problem(path, "found %s, wanted %s", quote(string(word)), oneOf(known))
	}
	return nil
}

func (a *Advisory) checkTexts() *Error {
	texts := []struct {
		path, text string
		required   bool
	}{
		{"title", a.Title, true},
		{"message", a.Message, true},
		{"basis_note", a.BasisNote, a.Basis == Assumed},
	}
	for _, t := range texts {
		if err := checkText(t.path, t.text, t.required); err != nil {
			return err
		}
	}
	for i, ref := range a.References {
		if err := checkURL(fmt.Sprintf("references[%d]", i), ref); err != nil {
			return err
		}
	}
	return checkUnique("references", a.References)
}

// checkText refuses what a screen or a log would not show as it is written.
func checkText(path, text string, required bool) *Error {
	if strings.TrimSpace(text) == "" && (required || text != "") {
		return problem(path, "found %s, wanted a text that is not blank", quote(text))
	}
	for i, r := range text {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return problem(path, "found the control character %U at byte %d, wanted one line of plain text", r, i)
		case r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return problem(path, "found the direction control %U at byte %d, which makes text read otherwise than it is written", r, i)
		case r == utf8.RuneError:
			return problem(path, "found the replacement character U+FFFD at byte %d: the text was damaged, or holds half a surrogate pair", i)
		}
	}
	return nil
}

func checkURL(path, s string) *Error {
	u, err := url.Parse(s)
	if err != nil || !urlPattern.MatchString(s) || u.Hostname() == "" || u.User != nil {
		return problem(path, "found %s, wanted an http or https URL with a host, without user name and without white space", quote(s))
	}
	return nil
}

func checkUnique[T comparable](path string, values []T) *Error {
	seen := make(map[T]int, len(values))
	for i, v := range values {
		if first, ok := seen[v]; ok {
			return problem(fmt.Sprintf("%s[%d]", path, i), "found what index %d has already, wanted each once", first)
		}
		seen[v] = i
	}
	return nil
}

func (a *Advisory) checkDates() *Error {
	switch {
	case a.Published.IsZero():
		return problem("published", "found nothing, wanted an instant")
	case a.Modified.Before(a.Published):
		return problem("modified", "found %s, before published (%s)", show(a.Modified), show(a.Published))
	case a.State.ended() && a.EndedAt.IsZero():
		return problem("ended_at", "found nothing, wanted an instant in state %s", a.State)
	case !a.State.ended() && !a.EndedAt.IsZero():
		return problem("ended_at", "found %s in state %s, wanted it in state resolved, withdrawn or superseded only", show(a.EndedAt), a.State)
	case a.State.ended() && a.EndedAt.Before(a.Published):
		return problem("ended_at", "found %s, before published (%s)", show(a.EndedAt), show(a.Published))
	case a.State.ended() && a.EndedAt.Before(a.BlockFrom):
		return problem("block_from", "found %s, after ended_at (%s); an advisory that never took effect has block_from equal to ended_at",
			show(a.BlockFrom), show(a.EndedAt))
	case !a.RenewBy.IsZero() && a.RenewBy.Before(a.EnforcedFrom()):
		return problem("renew_by", "found %s, before the advisory is enforced (%s)", show(a.RenewBy), show(a.EnforcedFrom()))
	}
	return nil
}

func show(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (a *Advisory) checkRemedies() *Error {
	if len(a.Remedies) == 0 {
		return problem("remedies", "found nothing, wanted at least one way out for the holder")
	}
	seen := make(map[RemedyKind]int)
	for i, r := range a.Remedies {
		path := fmt.Sprintf("remedies[%d]", i)
		if err := checkWord(path+".kind", r.Kind, remedyKinds); err != nil {
			return err
		}
		if first, ok := seen[r.Kind]; ok {
			return problem(path+".kind", "found %s again, first at index %d; wanted each kind once", r.Kind, first)
		}
		seen[r.Kind] = i
		if err := checkText(path+".text", r.Text, true); err != nil {
			return err
		}
		if err := checkText(path+".phone", r.Phone, false); err != nil {
			return err
		}
		if r.URL != "" {
			if err := checkURL(path+".url", r.URL); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Advisory) checkClauses() *Error {
	if len(a.Match) == 0 {
		return problem("match.any", "found no clause, wanted at least one")
	}
	for _, list := range []struct {
		path    string
		clauses []Clause
	}{{"match.any", a.Match}, {"except", a.Except}, {"fixed_when", a.FixedWhen}} {
		for i := range list.clauses {
			path := fmt.Sprintf("%s[%d]", list.path, i)
			if err := list.clauses[i].check(path); err != nil {
				return err
			}
			if list.path != "match.any" && list.clauses[i].Issuer != nil && list.clauses[i].Issuer.Any {
				return problem(path+".issuer", `found "any", wanted a CA key, or the field left out`)
			}
		}
	}
	for i := range a.Match {
		c, path := &a.Match[i], fmt.Sprintf("match.any[%d]", i)
		switch {
		case c.Issuer == nil && len(c.SPKISHA256) == 0 && len(c.ModulusSHA256) == 0 && len(c.WeakKey) == 0:
			return problem(path+".issuer", "found nothing, wanted a CA key, unless the clause names keys (spki_sha256, modulus_sha256) or weak_key")
		case c.Issuer != nil && c.Issuer.Any && a.Basis != Assumed:
			return problem(path+".issuer", `found "any" with basis %s, wanted a CA key; "any" goes with basis assumed only`, a.Basis)
		case c.NotBefore != nil && c.NotBefore.To.IsZero() && len(a.FixedWhen) == 0:
			return problem(path+".not_before.to", "found nothing, wanted an instant, or a fixed_when that says what makes a renewed certificate good")
		}
	}
	return nil
}

func (c *Clause) check(path string) *Error {
	if c.Issuer == nil && c.NotBefore == nil && c.Serials == nil && len(c.SPKISHA256) == 0 && len(c.ModulusSHA256) == 0 &&
		len(c.WeakKey) == 0 && len(c.PolicyOID) == 0 && len(c.KeyUsage) == 0 && len(c.SignatureAlgorithm) == 0 && c.KeyBits == nil {
		return problem(path, "found a clause without any condition, wanted at least one")
	}
	if err := c.Issuer.check(path + ".issuer"); err != nil {
		return err
	}
	if err := c.NotBefore.check(path + ".not_before"); err != nil {
		return err
	}
	if c.Serials != nil {
		switch {
		case c.Serials.empty():
			return problem(path+".serials", "found no serials, wanted inline, ranges or file")
		case c.Issuer == nil || c.Issuer.Any:
			return problem(path+".serials", "found serials without an issuer's key, wanted issuer with spki_sha256 or aki: a serial is unique for one CA only (RFC 5280 section 4.1.2.2)")
		}
	}
	if b := c.KeyBits; b != nil {
		switch {
		case b.Min == 0 && b.Max == 0:
			return problem(path+".key_bits", "found neither min nor max, wanted at least one")
		case b.Min < 0 || b.Max < 0 || b.Max != 0 && b.Min > b.Max:
			return problem(path+".key_bits", "found min %d and max %d, wanted min at or below max", b.Min, b.Max)
		}
	}
	if err := checkUnique(path+".spki_sha256", c.SPKISHA256); err != nil {
		return err
	}
	if err := checkUnique(path+".modulus_sha256", c.ModulusSHA256); err != nil {
		return err
	}
	for _, list := range []struct {
		field string
		words []string
		check func(path, word string) *Error
	}{
		{".weak_key", c.WeakKey, func(path, word string) *Error { return checkWord(path, word, weaknesses) }},
		{".policy_oid", c.PolicyOID, checkOID},
		{".key_usage", c.KeyUsage, func(path, word string) *Error { return checkWord(path, word, keyUsageNames) }},
		{".signature_algorithm", c.SignatureAlgorithm, func(path, word string) *Error { return checkWord(path, word, signatureAlgorithms) }},
	} {
		for i, word := range list.words {
			if err := list.check(fmt.Sprintf("%s%s[%d]", path, list.field, i), word); err != nil {
				return err
			}
		}
		if err := checkUnique(path+list.field, list.words); err != nil {
			return err
		}
	}
	return nil
}

func checkOID(path, oid string) *Error {
	if _, err := x509.ParseOID(oid); err != nil || !oidPattern.MatchString(oid) {
		return problem(path, "found %s, wanted an object identifier in dotted decimals, such as 2.23.140.1.2.1", quote(oid))
	}
	return nil
}

func (i *Issuer) check(path string) *Error {
	switch {
	case i == nil:
		return nil
	case i.Any && (len(i.SPKISHA256) > 0 || len(i.AKI) > 0):
		return problem(path, `found "any" beside keys, wanted one of them`)
	case !i.Any && len(i.SPKISHA256) == 0 && len(i.AKI) == 0:
		return problem(path, "found no key, wanted spki_sha256 or aki: two CAs may share a name")
	}
	if err := checkText(path+".name", i.Name, false); err != nil {
		return err
	}
	if err := checkUnique(path+".spki_sha256", i.SPKISHA256); err != nil {
		return err
	}
	ids := make([]string, len(i.AKI))
	for n, id := range i.AKI {
		if len(id) == 0 || len(id) > maxAKI {
			return problem(fmt.Sprintf("%s.aki[%d]", path, n), "found %d bytes, wanted 1 to %d", len(id), maxAKI)
		}
		ids[n] = string(id)
	}
	return checkUnique(path+".aki", ids)
}

func (w *Window) check(path string) *Error {
	switch {
	case w == nil:
		return nil
	case w.From.IsZero():
		return problem(path+".from", "found nothing, wanted an instant")
	case w.To.IsZero():
		return nil
	case w.To.Equal(w.From):
		return problem(path+".to", "found an empty window: from and to are both %s; wanted to after from, because from is inside and to is not", show(w.To))
	case w.To.Before(w.From):
		return problem(path+".to", "found %s, before from (%s); wanted an instant after from", show(w.To), show(w.From))
	}
	return nil
}

// checkBasis compares what the population is said to rest on with what it does
// rest on.
func (a *Advisory) checkBasis() *Error {
	windows := 0
	for i := range a.Match {
		c, path := &a.Match[i], fmt.Sprintf("match.any[%d]", i)
		listed := c.Serials != nil || len(c.SPKISHA256) > 0 || len(c.ModulusSHA256) > 0
		if c.NotBefore != nil {
			windows++
		}
		switch {
		case a.Basis == SerialList && !listed:
			return problem(path+".serials", "found nothing with basis serial_list, wanted serials, spki_sha256 or modulus_sha256")
		case a.Basis == NotBeforeWindow && !listed && c.NotBefore == nil:
			return problem(path+".not_before", "found nothing with basis not_before_window, wanted a window")
		}
	}
	if a.Basis == NotBeforeWindow && windows == 0 {
		return problem("basis", "found not_before_window, but no clause of match has not_before; wanted a window, or basis serial_list")
	}
	return nil
}

// checkFixedWhen refuses an exception or a fix that takes the whole population
// out: every window of match lies inside a window that is asked alone.
func (a *Advisory) checkFixedWhen() *Error {
	for _, list := range []struct {
		path    string
		clauses []Clause
	}{{"except", a.Except}, {"fixed_when", a.FixedWhen}} {
		covers, last := true, 0
		for i := range a.Match {
			n := slices.IndexFunc(list.clauses, func(c Clause) bool { return c.covers(&a.Match[i]) })
			covers = covers && n >= 0
			last = max(last, n)
		}
		if covers {
			return problem(fmt.Sprintf("%s[%d].not_before", list.path, last),
				"found a window that takes the whole population out: match would refuse nobody; wanted it to start after the window of match")
		}
	}
	return nil
}

// covers tells whether c, which asks for nothing but a window, holds for every
// certificate that other holds for.
func (c *Clause) covers(other *Clause) bool {
	w, o := c.NotBefore, other.NotBefore
	if w == nil || o == nil || w.From.After(o.From) {
		return false
	}
	if c.Issuer != nil || c.Serials != nil || c.KeyBits != nil || len(c.SPKISHA256)+len(c.ModulusSHA256)+len(c.WeakKey)+
		len(c.PolicyOID)+len(c.KeyUsage)+len(c.SignatureAlgorithm) > 0 {
		return false
	}
	return w.To.IsZero() || !o.To.IsZero() && !w.To.Before(o.To)
}
