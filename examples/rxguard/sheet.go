package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rxguard/rxguard/signing/eps"
)

// sheet writes reports for people.
type sheet struct {
	w     io.Writer
	width int // 0: lines are left as they are
	bold  bool
	above string // what was said of the check above
}

// titles say in a few words what a check asks, by its name.
var titles = map[string]string{
	"elements_present":        "Signature is complete",
	"single_certificate":      "One certificate only",
	"certificate_parses":      "Certificate can be read",
	"signature_valid":         "Signature verifies",
	"matches_prescription":    "Prescription unchanged",
	"certificate_not_revoked": "Certificate not revoked",
	"ca_not_revoked":          "CA not revoked",
	"valid_when_signed":       "In date when signed",
	"issuer_trusted":          "Issuer is trusted",

	"structure":              "Reads in one way only",
	"signed_info":            "Signature has EPS form",
	"issuer_signature":       "Issuer really signed it",
	"issuer_chain":           "Issuer may issue",
	"crl_signature":          "CRL is genuine",
	"crl_age":                "CRL is up to date",
	"certificate_revocation": "Certificate not revoked",
	"arl_signature":          "ARL is genuine",
	"arl_age":                "ARL is up to date",
	"ca_revocation":          "CA not revoked",
	"validity":               "In date when judged",
	"key_usage":              "Certificate for signing",
	"policy":                 "Has signing policy",
	"key_size":               "Key is large enough",
	"prescriber":             "Is the prescriber's",
}

// title of a check; of one without, its name.
func title(c eps.Check) string {
	if t := titles[c.Name]; t != "" {
		return t
	}
	t := strings.ReplaceAll(c.Name, "_", " ")
	if t == "" {
		return c.Text
	}
	return strings.ToUpper(t[:1]) + t[1:]
}

var results = map[eps.Result]string{eps.Passed: "passed", eps.Failed: "FAILED", eps.NotDecidable: "not decidable"}

func (s *sheet) line(format string, args ...any) {
	fmt.Fprintln(s.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (s *sheet) strong(text string) string {
	if s.bold {
		return "\x1b[1m" + text + "\x1b[0m"
	}
	return text
}

// report writes one: what was judged, both lists of checks, both conclusions.
func (s *sheet) report(file string, r eps.Report) {
	name := "a prescription without an id"
	if r.ShortID != "" {
		name = "prescription " + r.ShortID
	} else if r.ID != "" {
		name = "prescription " + r.ID
	}
	s.line("%s", s.strong(harmless(fmt.Sprintf("%s, line %d: %s", file, r.Line, name))))
	s.field("UUID", r.ID)
	s.field("signed at", date(r.SignedAt))
	if !r.JudgedAt.Equal(r.SignedAt) {
		s.field("judged as of", date(r.JudgedAt)+" by rxguard; the national service goes by the time of signing")
	}
	if c := r.Certificate; c != nil {
		s.field("certificate", fmt.Sprintf("serial number %s (hexadecimal), %s to %s", c.Serial, date(c.NotBefore), date(c.NotAfter)))
		s.field("issued by", c.Issuer)
	}
	s.line("")
	s.line("  %-40s %s", "The national service's checks", "what it says if one fails")
	s.above = ""
	for _, c := range r.National.Checks {
		s.check(c, c.Text)
	}
	s.line("")
	s.line("  rxguard's own checks")
	s.above = ""
	for _, c := range r.Rxguard.Checks {
		s.check(c, "")
	}
	s.line("")
	for _, c := range []string{national(r), rxguard(r)} {
		s.line("  %s", wrap(harmless(c), 4, s.width))
	}
	s.line("")
}

func date(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return t.UTC().Format("2006-01-02 15:04:05.999999999 UTC")
}

func (s *sheet) field(name, value string) {
	if value != "" {
		s.line("  %-13s %s", name, wrap(harmless(value), 16, s.width))
	}
}

// check writes a row of a table, and below it what there is to say.
func (s *sheet) check(c eps.Check, text string) {
	result := results[c.Result]
	pad := strings.Repeat(" ", max(0, 13-utf8.RuneCountInString(result)))
	if c.Result == eps.Failed {
		result = s.strong(result)
	}
	s.line("  %2d %s%s %-23s %s", c.Number, result, pad, harmless(title(c)), harmless(text))
	switch {
	case c.Why != "" && c.Why == s.above && c.Result != eps.Failed:
		s.line("     as above")
	case c.Why != "":
		s.line("     %s", wrap(harmless(c.Why), 5, s.width))
	}
	s.above = c.Why
	if c.Warning != "" {
		s.line("     %s", wrap(harmless("warning: "+c.Warning), 5, s.width))
	}
}

// national is what the national service would do, in plain words.
func national(r eps.Report) string {
	open := pick(r.National.Checks, eps.NotDecidable)
	switch r.National.Accept {
	case eps.Passed:
		s := "The national service would accept this signature."
		if len(open) > 0 {
			numbers := list(open, func(c eps.Check) string { return fmt.Sprint(c.Number) }, " and ")
			s += " Open: check " + numbers + "; it refuses where its own lists say so, and accepts where it has none."
		}
		return s
	case eps.Failed:
		return "The national service would refuse this signature with: " + list(pick(r.National.Checks, eps.Failed), text, "; ") + "."
	}
	// Without a list it accepts, so that is not what keeps its answer open.
	open = slices.DeleteFunc(open, func(c eps.Check) bool { return c.Number == 6 || c.Number == 7 })
	return "Whether the national service would accept this signature cannot be decided: " + list(open, why, "; ") + "."
}

// rxguard is what rxguard would do, in plain words.
func rxguard(r eps.Report) string {
	switch r.Rxguard.Accept {
	case eps.Passed:
		warned := 0
		for _, c := range r.Rxguard.Checks {
			if c.Warning != "" {
				warned++
			}
		}
		if warned > 0 {
			return "rxguard would accept this signature, with " + plural(warned, "warning") + "."
		}
		return "rxguard would accept this signature."
	case eps.Failed:
		failed := append(pick(r.National.Checks, eps.Failed), pick(r.Rxguard.Checks, eps.Failed)...)
		return "rxguard would refuse this signature with: " + list(failed, text, "; ") + "."
	}
	open := pick(r.Rxguard.Checks, eps.NotDecidable)
	if len(open) == 0 {
		open = pick(r.National.Checks, eps.NotDecidable)
	}
	return "Whether rxguard would accept this signature cannot be decided: " + list(open, why, "; ") +
		". CA certificates are given with --ca, CRLs and ARLs with --crl."
}

func pick(checks []eps.Check, result eps.Result) []eps.Check {
	var picked []eps.Check
	for _, c := range checks {
		if c.Result == result {
			picked = append(picked, c)
		}
	}
	return picked
}

func text(c eps.Check) string { return c.Text }
func why(c eps.Check) string  { return c.Why }

// list says what there is to say of checks, each thing once.
func list(checks []eps.Check, what func(eps.Check) string, between string) string {
	var said []string
	for _, c := range checks {
		if s := what(c); !slices.Contains(said, s) {
			said = append(said, s)
		}
	}
	return strings.Join(said, between)
}

// summary writes how many of several came out how.
func (s *sheet) summary(messages int, c count) {
	s.line("%s", s.strong(fmt.Sprintf("%s in %s:", plural(c.prescriptions, "prescription"), plural(messages, "message"))))
	s.line("  %6d would be accepted by the national service and by rxguard", c.accepted)
	s.line("  %6d would not be accepted by one of them", c.refused)
	s.line("  %6d cannot be decided", c.undecided)
	if c.unread > 0 {
		s.line("  %6d of the messages could not be read, and nothing is said of what is in them", c.unread)
	}
}
