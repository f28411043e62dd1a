package advisory

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	longMessage = 600 // characters; more does not fit beside a form
	longText    = 300
)

// Lint lists what a valid advisory had better not have, each with its path, in
// the order of the document. Nothing in the list makes the advisory invalid.
func (a *Advisory) Lint() []string {
	var out []string
	warn := func(path, format string, args ...any) {
		out = append(out, path+": "+fmt.Sprintf(format, args...))
	}
	if n := utf8.RuneCountInString(a.Title); n > 120 {
		warn("title", "%d characters, better at most 120", n)
	}
	if a.State == Active && a.BlockFrom.IsZero() {
		warn("block_from", "absent: cards are refused from published on, without an announcement")
	}
	if a.State == Active && a.RenewBy.IsZero() {
		warn("renew_by", "absent while active: holders are not told by when to renew")
	}
	if a.State == Draft {
		warn("state", "draft: the advisory is never evaluated")
	}
	listed, onlyLists := 0, true
	for i := range a.Match {
		c, path := &a.Match[i], fmt.Sprintf("match.any[%d]", i)
		lists := c.Serials != nil || len(c.SPKISHA256) > 0 || len(c.ModulusSHA256) > 0
		if c.Issuer != nil && c.Issuer.Any {
			warn(path+".issuer", `"any": certificates of every authority are matched`)
		}
		if c.Issuer != nil && !c.Issuer.Any && len(c.Issuer.AKI) == 0 {
			warn(path+".issuer.aki", "absent: where the CA certificate is not configured, nobody can tell who issued a certificate")
		}
		if c.NotBefore != nil && !lists {
			warn(path+".not_before", "a window without serials: a CA can back-date notBefore")
		}
		if c.NotBefore != nil && c.NotBefore.To.IsZero() {
			warn(path+".not_before.to", "open-ended: every certificate to come is matched unless fixed_when says otherwise")
		}
		if c.Issuer != nil && c.NotBefore == nil && !lists && len(c.WeakKey) == 0 {
			warn(path, "neither window nor serials nor keys: everything that the issuer ever issued may match")
		}
		if c.Serials != nil {
			listed += c.Serials.Len()
		}
		onlySerials := Clause{Issuer: c.Issuer, Serials: c.Serials}
		if c.Serials == nil || c.Serials.ranges.first.n > 0 || !reflect.DeepEqual(*c, onlySerials) {
			onlyLists = false
		}
	}
	if a.Basis == Assumed {
		warn("basis", "assumed: refusals rest on an assumption")
	}
	if a.Basis != Assumed && a.BasisNote == "" {
		warn("basis_note", "absent: nobody can check what the population rests on")
	}
	has := func(kind RemedyKind) bool {
		return slices.ContainsFunc(a.Remedies, func(r Remedy) bool { return r.Kind == kind })
	}
	if !has(RegistrationAuthority) {
		warn("remedies", "no %s: the way that is left when renewal is not offered or the date has passed", RegistrationAuthority)
	}
	if !has(Paper) {
		warn("remedies", "no %s: nothing for a patient who is waiting", Paper)
	}
	if !a.CardMayAuthenticate && has(Renew) {
		warn("remedies", "%s is offered, but card_may_authenticate is false: it cannot work", Renew)
	}
	for i, r := range a.Remedies {
		path := fmt.Sprintf("remedies[%d]", i)
		if r.Kind == ServiceDesk && r.Phone == "" {
			warn(path+".phone", "absent: nobody can call the service desk")
		}
		if strings.HasPrefix(r.URL, "http:") {
			warn(path+".url", "http: better https")
		}
		if n := utf8.RuneCountInString(r.Text); n > longText {
			warn(path+".text", "%d characters, better at most %d", n, longText)
		}
	}
	switch n := utf8.RuneCountInString(strings.TrimSpace(a.Message)); {
	case n < 20:
		warn("message", "%d characters: too short to say what is wrong and what to do", n)
	case n > longMessage:
		warn("message", "%d characters, better at most %d", n, longMessage)
	}
	if word := jargon(a.Message); word != "" {
		warn("message", "%q is not a word that every prescriber knows", word)
	}
	if len(a.References) == 0 {
		warn("references", "absent: nothing to read more in")
	}
	switch {
	case a.ExpectedCount == 0:
		warn("expected_count", "absent: nobody can tell whether the population is as large as meant")
	case onlyLists && listed != a.ExpectedCount:
		warn("expected_count", "%d, but %d serials are listed", a.ExpectedCount, listed)
	}
	return out
}

// jargon returns the first word of the text that belongs to public key
// infrastructure rather than to a surgery.
func jargon(text string) string {
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return r < 'a' || r > 'z' }) {
		switch word {
		case "certificate", "certificates", "notbefore", "issuer", "serial", "serials", "pki", "rsa", "ca", "csr", "modulus", "spki":
			return word
		}
	}
	return ""
}
