package guard

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/guard/weakkey"
)

var update = flag.Bool("update", false, "write the golden file of all texts")

const goldenTexts = "testdata/texts.golden"

// Every text that a prescriber, or who looks after cards, can meet is read and approved
// as a whole.
func TestEveryTextIsReadAndApproved(t *testing.T) {
	got := allTexts(t)
	if *update {
		require.NoError(t, os.WriteFile(goldenTexts, []byte(got), 0o644))
	}
	want, err := os.ReadFile(goldenTexts)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "read the change, then: go test ./guard -update")
}

func TestNoTextIsMissingFromTheGoldenFile(t *testing.T) {
	b, err := os.ReadFile(goldenTexts)
	require.NoError(t, err)
	golden := string(b)
	n := 0
	for _, text := range literals(t, "text.go", func(ast.Node) bool { return true }) {
		n++
		quoted := strings.Trim(strconv.Quote(text), `"`)
		assert.True(t, strings.Contains(golden, text) || strings.Contains(golden, quoted), "%q is not in %s", text, goldenTexts)
	}
	assert.Greater(t, n, 200, "the test reads text.go")
}

// What people read is in one file. Elsewhere there are names of things, what errors for
// programmers say, and forms without words.
func TestEnglishForPeopleStandsInOneFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "text.go" {
			continue
		}
		found := literals(t, name, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr: // errors, and the names of numbers that have none
				call := types.ExprString(n.Fun)
				return call != "errors.New" && call != "fmt.Errorf" && call != "panic" && call != "errorText"
			case *ast.FuncDecl:
				return n.Name.Name != "errorText" && n.Name.Name != "wanted" // of errors too
			case *ast.ImportSpec, *ast.Field: // paths; tags
				return false
			}
			return true
		})
		for _, text := range found {
			if text == SimulatedOrganization || regexp.MustCompile(`^(decision|reason|action) %d$`).MatchString(text) {
				continue
			}
			assert.NotRegexp(t, `[A-Za-z]{2,} [A-Za-z]{2,}`, text, "%s: a text for people belongs into text.go", name)
		}
	}
}

// literals are the string literals of a file, but for those below what enter refuses.
func literals(t *testing.T, name string, enter func(ast.Node) bool) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if _, isImport := n.(*ast.ImportSpec); n == nil || isImport || !enter(n) {
			return false
		}
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			text, err := strconv.Unquote(l.Value)
			require.NoError(t, err)
			all = append(all, text)
		}
		return true
	})
	return all
}

// screens are verdicts as a prescriber meets them, one beside another.
func screens(t testing.TB) (names []string, of map[string]Verdict) {
	all := situations(t)
	ca := newAuthority(t, "CA", []byte{1})
	of = map[string]Verdict{}
	add := func(name string, v Verdict) {
		names = append(names, name)
		of[name] = v
	}
	notice := func(name string, s Snapshot, when string, p Policy, changes ...func(*advisory.Advisory)) {
		g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, append([]func(*advisory.Advisory){func(a *advisory.Advisory) {
			a.RenewBy = at("2026-03-20T00:00:00Z")
			a.Message = "Please renew your smartcard. It takes three minutes."
			a.Remedies = []advisory.Remedy{
				{Kind: advisory.Renew, Text: "Renew this smartcard here."},
				{Kind: advisory.Portal, Text: "Log in with this smartcard, open the renewal page and choose “Renew”.", URL: "https://renewal.example"},
				{Kind: advisory.ServiceDesk, Text: "Call the service desk.", Phone: "0300 000 0000"},
				{Kind: advisory.RegistrationAuthority, Text: "Ask your local Registration Authority to renew the smartcard."},
				toPaper,
			}
		}}, changes...)...)), Issuers: certs(ca), Policy: p})
		add(name, g.Judge(s, at(when)))
	}
	card := Snapshot{Certificate: ca.issue(t, issuedThen)}
	other := newAuthority(t, "CA", []byte{1}) // a twin that nobody configured
	early := Policy{RenewalWindow: SelfRenewalWindow}
	mayNot := func(a *advisory.Advisory) { a.CardMayAuthenticate = false }

	notice("a notice is in force", card, "2026-03-10T00:00:00Z", Policy{})
	notice("a notice is in force, the last day has passed", card, "2026-03-20T00:00:00Z", Policy{})
	notice("a notice is in force, too early to renew", card, "2026-03-10T00:00:00Z", early)
	notice("a notice is in force, the last day has passed, too early to renew", card, "2026-03-20T00:00:00Z", early)
	notice("a notice is in force, and the card may not ask for its own renewal", card, "2026-03-10T00:00:00Z", Policy{}, mayNot)
	notice("a notice is in force, and the card has expired", card, "2028-03-10T00:00:00Z", Policy{})
	held := card
	held.Hold.State = HoldReseat
	notice("a notice is in force, and the card is on hold", held, "2026-03-10T00:00:00Z", Policy{})
	notice("a notice takes effect later", card, "2026-03-02T00:00:00Z", Policy{})
	notice("a notice takes effect later, too early to renew", card, "2026-03-02T00:00:00Z", early)
	notice("a notice in force that may cover the card", Snapshot{Certificate: other.issue(t, issuedThen)}, "2026-03-10T00:00:00Z", Policy{})
	notice("a notice that takes effect later and may cover the card", Snapshot{Certificate: other.issue(t, issuedThen)}, "2026-03-02T00:00:00Z", Policy{})
	for _, r := range []Reason{AffectedEnded, AffectedFixed, AffectedShadow} {
		add("a notice that asks for nothing: "+r.String(), all[r].judge(t, Policy{}))
	}
	builtin := newGuard(t, Config{})
	autumn := Snapshot{Certificate: ca.issue(t, at("2020-09-29T08:00:00Z"))}
	for _, when := range []string{"2020-09-29T12:00:00Z", "2020-09-30T09:00:00Z", "2020-10-02T09:00:00Z"} {
		add("the notice of 2020 on "+when[:10], builtin.Judge(autumn, at(when)))
	}
	add("nothing was found", builtin.Judge(Snapshot{Certificate: ca.issue(t, at("2026-02-10T12:00:00Z"))}, judgedThen))
	add("nobody made the verdict", Verdict{})
	blind := all[ClockBehind]
	blind.seen = all[CardUnreadable].seen
	add("the card cannot be read, and the clock is behind", blind.judge(t, Policy{}))
	unusual := all[KeySmall]
	unusual.now = at("2026-04-01T12:00:00Z")
	config := unusual.config
	unusual.config = func() Config {
		c := config()
		c.Advisories = datedRules{c.Advisories.Current(), at("2026-03-31T00:00:00Z")}
		return c
	}
	add("two things to note", unusual.judge(t, Policy{}))
	add("expired, by a policy that only warns of it", all[Expired].judge(t, Policy{Validity: UnsafeWarn}))
	return names, of
}

// said is what crypto/x509 says, which is not ours and changes with it.
var said = regexp.MustCompile(`x509: [^;]*`)

func allTexts(t *testing.T) string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	chapter := func(title string) { put("\n%s\n%s", title, strings.Repeat("=", len(title))) }
	finding := func(f *Finding) {
		put("    %s", f.Text)
		for i, m := range f.Remedies {
			put("    %d. %s", i+1, remedyText(m))
		}
	}
	put("All that a prescriber, or who looks after smartcards, can read of the guard.")
	put("Written by: go test ./guard -update")
	all := situations(t)

	chapter("What is found, by default: for the prescriber, then what is and what is wanted")
	for r := Unspecified; r < reasons; r++ {
		v := all[r].judge(t, Policy{})
		f := findingOf(t, v, r)
		put("\n%s (%s; check %s)", r, f.Effect, f.Check)
		finding(&f)
		if f.Is != "" {
			put("    is: %s", said.ReplaceAllString(f.Is, "(what crypto/x509 says)"))
		}
		if f.Wanted != "" {
			put("    wanted: %s", f.Wanted)
		}
	}

	chapter("What a policy makes of it, for the prescriber")
	for _, row := range settingRows {
		for a := Refuse; a < actions; a++ {
			if o := row.outcome(a); o != "" && o != off && o != row.byDefault {
				for _, r := range row.reasons {
					var p Policy
					*fieldOf(&p, row.field) = a
					f := findingOf(t, all[r].judge(t, p), r)
					put("\n%s, %s by Policy.%s %s", r, f.Effect, row.field, a)
					finding(&f)
				}
			}
		}
	}

	chapter("What the prescriber's screen shows")
	names, of := screens(t)
	for _, name := range names {
		put("\n%s", name)
		for line := range strings.Lines(of[name].ForPrescriber()) {
			b.WriteString("    " + line)
		}
	}

	chapter("What those who look after smartcards read")
	trialAndMore := goldenVerdict(t, "refused")
	trialAndMore.Findings[0].RenewalFrom = at("2023-07-01T09:00:00Z")
	for _, v := range []Verdict{trialAndMore, all[RevocationUnknown].judge(t, Policy{Validity: UnsafeWarn, Chain: UnsafeOff})} {
		put("")
		for line := range strings.Lines(v.String()) {
			b.WriteString("    " + line)
		}
	}

	chapter("What was not checked")
	for _, check := range slices.Sorted(maps.Keys(notCheckedText)) {
		put("    %s: %s", check, notCheckedText[check])
	}
	chapter("What is weaker than the default")
	for _, field := range slices.Sorted(maps.Keys(weakenedText)) {
		for _, a := range slices.Sorted(maps.Keys(weakenedText[field])) {
			put("    Policy.%s %s: %s", field, a, weakenedText[field][a])
		}
	}
	chapter("Weaknesses of keys")
	for w := weakkey.None + 1; !strings.HasPrefix(w.String(), "weakness "); w++ {
		put("    %s: %s (%s)", w, w.Text(), w.Source())
	}

	chapter("Forms and pieces, as text.go has them")
	file, err := parser.ParseFile(token.NewFileSet(), "text.go", nil, 0)
	require.NoError(t, err)
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		put("")
		for _, s := range g.Specs {
			s := s.(*ast.ValueSpec)
			put("    %s: %s", s.Names[0].Name, types.ExprString(s.Values[0]))
		}
	}
	return b.String()
}

// jargon is what a prescriber need not know.
var jargon = regexp.MustCompile(`(?i)certificat|\bpki\b|\bcrls?\b|\barl\b|\bocsp\b|revo[ck]|x\.?509|issuer|\bchain|\broots?\b|\bkeys?\b|token|pkcs|` +
	`algorithm|\brsa\b|\becdsa\b|not ?before|not ?after|validity|\boids?\b|serial|\bpolic(y|ies)\b|extension|spki|\bder\b|\bpem\b|` +
	`content ?commitment|repudiation|advisor(y|ies)|sha-?\d|\bcas?\b|\btls\b|crypto|hash|\bbits?\b|modulus|\butc\b`)

// sentences are those of a text.
func sentences(text string) []string {
	return regexp.MustCompile(`[^.:?!]+[.:?!]+(\d[^.:?!]*[.:?!]+)*`).FindAllString(text, -1)
}

// plainEnglish fails where a text has jargon, long sentences, or no full stop.
func plainEnglish(t *testing.T, what, text string) {
	t.Helper()
	assert.NotRegexp(t, jargon, text, what)
	assert.Regexp(t, `^[A-Z][^!]*\.$`, text, "%s: whole sentences", what)
	for _, s := range sentences(text) {
		assert.LessOrEqual(t, len(strings.Fields(s)), 20, "%s: %s", what, s)
	}
}

func TestTextsAreForPeopleWhoDoNotKnowWhatACertificateIs(t *testing.T) {
	all := situations(t)
	policies := []Policy{
		{}, {RenewalWindow: SelfRenewalWindow},
		{Validity: UnsafeWarn, Profile: UnsafeWarn, Chain: UnsafeWarn, Revocation: UnsafeWarn, RevocationLapsed: UnsafeWarn, WeakKey: UnsafeWarn, KeySize: UnsafeWarn},
		{ProfileDetails: Refuse, RevocationUnknown: Refuse, RevocationLapsed: Refuse, KeySize: Refuse, StaleRules: Refuse},
	}
	for r := Unspecified; r < reasons; r++ {
		for _, p := range policies {
			v := all[r].judge(t, p)
			for _, f := range v.Findings {
				plainEnglish(t, r.String(), f.Text)
				for _, m := range f.Remedies {
					plainEnglish(t, r.String(), m.Text)
				}
			}
			screenIsPlain(t, r.String(), v)
		}
	}
	names, of := screens(t)
	for _, name := range names {
		if !strings.HasPrefix(name, "the notice of 2020") { // its words, and it names a button
			screenIsPlain(t, name, of[name])
		}
	}
	assert.Regexp(t, jargon, "an instant before notAfter", "the test finds jargon")
	assert.Regexp(t, jargon, "It is revoked.")
	assert.Len(t, sentences("Before 3 November 2027, 12:00 UK time. Then this."), 2)
}

func screenIsPlain(t *testing.T, name string, v Verdict) {
	t.Helper()
	for line := range strings.Lines(v.ForPrescriber()) {
		line = strings.TrimSuffix(line, "\n")
		assert.NotRegexp(t, jargon, line, name)
		for _, s := range sentences(line) {
			assert.LessOrEqual(t, len(strings.Fields(s)), 20, "%s: %s", name, s)
		}
	}
}

// A text stands beside others: only what stops a signature may say that nothing
// was signed, and nothing may promise that something will be.
func TestTextsSayWhetherTheyStopASignature(t *testing.T) {
	const signed, stops = "Nothing was signed.", "stop you from signing"
	check := func(name string, effect Decision, text string) {
		switch effect {
		case DecisionRefused, DecisionUndecided:
			assert.Contains(t, text, signed, name)
			assert.NotContains(t, text, stops, name)
		case DecisionWarned:
			assert.NotContains(t, text, signed, name)
			assert.Contains(t, text, stops, name)
		case DecisionAllowed:
			assert.NotContains(t, text, signed, name)
			assert.True(t, strings.HasSuffix(text, "You do not need to do anything."), name)
		}
		assert.NotContains(t, text, "You can still", name)
	}
	for r := Unspecified; r < reasons; r++ {
		d := descriptions[r]
		check(r.String(), d.effect, d.text)
		if r != AffectedSoon { // which says until when
			assert.True(t, strings.HasSuffix(d.text, " "+endings[d.effect]), "%s: a policy changes the ending", r)
		}
	}
	check("announced and undecidable", DecisionWarned, undecidableYet)
	for d, heading := range map[Decision]string{DecisionRefused: headRefused, DecisionUndecided: headUndecided} {
		assert.True(t, strings.HasSuffix(heading, endings[d]))
	}
	assert.NotContains(t, headWarned+headAllowed, signed)
}

func TestWhatStopsWorkNamesPaperLast(t *testing.T) {
	names, of := screens(t)
	for r, s := range situations(t) {
		names = append(names, r.String())
		of[r.String()] = s.judge(t, Policy{})
	}
	for _, name := range names {
		v := of[name]
		for _, f := range v.Findings {
			paper := slices.Index(kindsOf(f.Remedies), advisory.Paper)
			if f.Effect.Permits() {
				assert.Equal(t, -1, paper, "%s: who can sign needs no paper", name)
				continue
			}
			assert.Equal(t, len(f.Remedies)-1, paper, name)
			assert.Positive(t, paper, "%s: paper is not the only way out", name)
		}
		if !v.Decision.Permits() {
			lines := strings.Split(strings.TrimSpace(v.ForPrescriber()), "\n")
			assert.Contains(t, lines[0], "Nothing was signed.", name)
			assert.Contains(t, lines, "What to do now:", name)
			assert.Contains(t, lines[len(lines)-1], "paper", name)
		}
	}
}

func TestWhatIsNotCheckedHasAText(t *testing.T) {
	g := newGuard(t, Config{})
	assert.Len(t, g.notChecked, len(notCheckedText))
	for _, n := range g.notChecked {
		assert.NotEmpty(t, n.Why, n.Check)
	}
}

func TestInstantsForThoseWhoLookAfterCardsAreInUTC(t *testing.T) {
	summer := time.Date(2026, time.July, 1, 0, 30, 0, 0, time.FixedZone("", 3600))
	assert.Equal(t, "2026-06-30 23:30:00 UTC", instant(summer))
}
