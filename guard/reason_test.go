package guard

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// incomplete says what a reason's description lacks.
func incomplete(d description) string {
	switch {
	case !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(d.name):
		return "name"
	case d.text == "":
		return "text"
	case d.check == "":
		return "check"
	case !d.effect.Permits() && d.wanted == "":
		return "wanted"
	case !d.effect.Permits() && len(d.remedies) == 0:
		return "remedies"
	}
	return ""
}

func TestEveryReasonIsDescribed(t *testing.T) {
	names := map[string]Reason{}
	for r := Unspecified; r < reasons; r++ {
		assert.Empty(t, incomplete(descriptions[r]), "of %s (%d)", r, r)
		other, taken := names[r.String()]
		assert.False(t, taken, "%d and %d are both named %s", r, other, r)
		names[r.String()] = r
	}
}

func TestAReasonWithoutTextIsFound(t *testing.T) {
	whole := descriptions[Affected]
	for lacks, d := range map[string]description{
		"name":     {"", whole.check, whole.effect, whole.text, whole.wanted, whole.remedies},
		"text":     {whole.name, whole.check, whole.effect, "", whole.wanted, whole.remedies},
		"check":    {whole.name, "", whole.effect, whole.text, whole.wanted, whole.remedies},
		"wanted":   {whole.name, whole.check, whole.effect, whole.text, "", whole.remedies},
		"remedies": {whole.name, whole.check, whole.effect, whole.text, whole.wanted, nil},
	} {
		assert.Equal(t, lacks, incomplete(d))
	}
}

// The comments beside the constants are what a reader of the documentation goes by.
func TestEveryReasonHasTheEffectOfItsComment(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	require.NoError(t, err)
	said := map[string]string{}
	var order []string
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if name := v.Names[0].Name; v.Comment != nil && len(v.Values) == 0 || name == "Unspecified" {
				said[name] = regexp.MustCompile(`^[a-z]+`).FindString(v.Comment.Text())
				order = append(order, name)
			}
		}
	}
	require.Equal(t, "reasons", order[len(order)-1])
	order = order[:len(order)-1]
	require.Len(t, order, int(reasons), "each reason has a comment")
	for r, name := range order {
		assert.Equal(t, descriptions[r].effect.String(), said[name], name)
	}
}

func TestReasonAsText(t *testing.T) {
	for r := Unspecified; r < reasons; r++ {
		b, err := r.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, r.String(), string(b))
		back := Reason(-1)
		require.NoError(t, back.UnmarshalText(b))
		assert.Equal(t, r, back)
	}
	for _, r := range []Reason{-1, reasons} {
		_, err := r.MarshalText()
		assert.ErrorContains(t, err, "guard: no reason has the number")
		assert.Contains(t, r.String(), "reason ")
	}
	var r Reason
	assert.EqualError(t, r.UnmarshalText([]byte("bad")), `guard: "bad" is no reason`)
	assert.Error(t, r.UnmarshalText(nil))
}

// situation is something that can be met: a Guard, what it sees, and when.
type situation struct {
	config func() Config
	meddle func(*Guard) // what New would refuse; nil: nothing
	seen   Snapshot
	now    time.Time
}

func (s situation) judge(t require.TestingT, p Policy) Verdict {
	c := s.config()
	c.Policy = p
	g, err := New(c)
	require.NoError(t, err)
	if s.meddle != nil {
		s.meddle(g)
	}
	return g.JudgeNow(s.seen, s.now)
}

// toldStatus is a source of revocation status that tells the same of every
// certificate, and the same of every CA.
type toldStatus struct{ card, ca RevocationStatus }

func (s toldStatus) Prepare(chain []*x509.Certificate) (func(time.Time) RevocationStatus, error) {
	told := s.card
	if chain[0].IsCA {
		told = s.ca
	}
	return func(time.Time) RevocationStatus { return told }, nil
}

func (toldStatus) Floor() time.Time { return at("2026-01-10T00:00:00Z") }

// knownPast is a clock floor.
type knownPast time.Time

func (p knownPast) Floor() time.Time { return time.Time(p) }

// datedRules is a set with an expiry.
type datedRules struct {
	*advisory.Set
	until time.Time
}

func (r datedRules) Expires() time.Time { return r.until }

// rsaKeys are public keys of random primes, by length: nobody signs with them.
var rsaKeys sync.Map

func rsaKeyOf(t testing.TB, bits int) *rsa.PublicKey {
	t.Helper()
	if key, ok := rsaKeys.Load(bits); ok {
		return key.(*rsa.PublicKey)
	}
	for {
		p, err := rand.Prime(rand.Reader, (bits+1)/2+8)
		require.NoError(t, err)
		q, err := rand.Prime(rand.Reader, bits/2-8)
		require.NoError(t, err)
		if n := new(big.Int).Mul(p, q); n.BitLen() == bits {
			key, _ := rsaKeys.LoadOrStore(bits, &rsa.PublicKey{N: n, E: 65537})
			return key.(*rsa.PublicKey)
		}
	}
}

// divisibleBy3 is a weak key of 2048 bits: its modulus is 2^2047 + 1.
func divisibleBy3() *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

func withKey(key any) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.PublicKey = key }
}

func ed25519Key(t testing.TB) ed25519.PublicKey {
	t.Helper()
	key, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return key
}

// situations has, for each reason, one in which it is found.
func situations(t testing.TB) map[Reason]situation {
	root := newAuthority(t, "Root", []byte{1})
	ca := root.below(t, "CA")
	stranger := newAuthority(t, "Stranger", []byte{9})
	ended := root.below(t, "Ended CA", func(c *x509.Certificate) { c.NotAfter = at("2026-03-01T00:00:00Z") })
	last := root.below(t, "Last CA", func(c *x509.Certificate) { c.MaxPathLenZero = true })
	beyond := last.below(t, "CA beyond the last")

	const good, affected = "2026-02-10T12:00:00Z", "2026-02-01T12:00:00Z"
	good1 := RevocationStatus{State: StatusGood}
	config := func(changes ...func(*Config)) func() Config {
		return func() Config {
			c := Config{
				Advisories: newSet(t, 2, noticeBy(ca)), Roots: certs(root), Issuers: certs(ca, ended, last, beyond),
				Revocation: toldStatus{good1, good1},
			}
			for _, change := range changes {
				change(&c)
			}
			return c
		}
	}
	card := func(issued string, changes ...func(*x509.Certificate)) situation {
		return situation{config: config(), seen: Snapshot{Certificate: ca.issue(t, at(issued), changes...)}, now: judgedThen}
	}
	configured := func(issued string, change func(*Config)) situation {
		s := card(issued)
		s.config = config(change)
		return s
	}
	rules := func(changes ...func(*advisory.Advisory)) func(*Config) {
		return func(c *Config) { c.Advisories = newSet(t, 2, noticeBy(ca, changes...)) }
	}
	seen := func(change func(*Snapshot)) situation {
		s := card(good)
		change(&s.seen)
		return s
	}
	cardError := func(err error) situation {
		return seen(func(s *Snapshot) { s.Certificate, s.Err = nil, err })
	}
	held := func(state HoldState) situation {
		return seen(func(s *Snapshot) { s.Hold = Hold{State: state, Since: at("2026-03-31T10:00:00Z")} })
	}
	judged := func(s situation, now string) situation { s.now = at(now); return s }
	by := func(a authority) situation {
		s := card(good)
		s.seen.Certificate = a.issue(t, at(good))
		return s
	}
	told := func(card, ca RevocationStatus) situation {
		return configured(good, func(c *Config) { c.Revocation = toldStatus{card, ca} })
	}
	bits := func(b byte, critical bool) func(*x509.Certificate) {
		return extension(oidKeyUsage, critical, []byte{3, 2, 0, b})
	}
	gone := RevocationStatus{State: StatusRevoked, Reason: "keyCompromise", Since: at("2026-03-01T00:00:00Z"), Detail: "on the list of the CA"}

	unspecified := card(good)
	unspecified.meddle = func(g *Guard) { g.source = nil }
	missing := card(good)
	missing.meddle = func(g *Guard) { g.source = &source{}; g.last.Store(nil) }
	backwards := card(good)
	backwards.meddle = func(g *Guard) { g.source = newSet(t, 1, noticeBy(ca)) }

	return map[Reason]situation{
		Unspecified:          unspecified,
		CardAbsent:           cardError(ErrNoCard),
		CardUnreadable:       cardError(errors.New("the reader does not answer")),
		NoSigningCertificate: cardError(ErrNoSigningCertificate),
		SeveralCertificates:  cardError(ErrSeveralCertificates),
		CertificateDamaged:   cardError(ErrCertificateDamaged),
		SimulatedCard: func() situation {
			s := configured(good, func(c *Config) { c.Live = true })
			s.seen.Simulated = true
			return s
		}(),

		Affected:      card(affected),
		AffectedSoon:  judged(card(affected), "2026-03-02T00:00:00Z"),
		AffectedEnded: configured(affected, rules(func(a *advisory.Advisory) { a.State, a.EndedAt = advisory.Resolved, at("2026-03-20T00:00:00Z") })),
		AffectedShadow: configured(affected, rules(func(a *advisory.Advisory) {
			a.State = advisory.Shadow
		})),
		AffectedFixed: configured(affected, rules(func(a *advisory.Advisory) {
			a.FixedWhen = []advisory.Clause{{NotBefore: &advisory.Window{From: at("2026-02-01T11:00:00Z")}}}
		})),
		AffectedUndecidable: configured(affected, func(c *Config) { c.Roots, c.Issuers, c.Revocation = nil, nil, nil }),
		RulesMissing:        missing,
		RulesBackwards:      backwards,
		RulesStale: configured(good, func(c *Config) {
			c.Advisories = datedRules{newSet(t, 2, noticeBy(ca)), at("2026-03-31T00:00:00Z")}
		}),

		OnHold:        held(HoldReseat),
		OnHoldRenewal: held(HoldRenewal),
		OnHoldLogin:   held(HoldLogin),
		HoldUnknown:   seen(func(s *Snapshot) { s.Hold = Hold{State: HoldUnread, Err: errors.New("the folder is locked")} }),
		ClockBehind:   configured(good, func(c *Config) { c.Floor = knownPast(at("2026-04-02T00:00:00Z")) }),

		NotYetValid: card("2026-06-01T12:00:00Z"),
		Expired:     card("2024-03-01T12:00:00Z"),
		DatesImpossible: card(good, func(c *x509.Certificate) {
			c.NotAfter = c.NotBefore.Add(-time.Hour)
		}),
		LifetimeUnusual:       card(good, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(8, 0, 0) }),
		PrivateKeyUsagePassed: card(good, privateKeyUsage("20260301000000Z")),

		NotForSigning:       card(good, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
		CriticalExtension:   card(good, extension(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0})),
		KeyUsageNotCritical: card(good, bits(0x40, false)),
		KeyUsageExtra:       card(good, bits(0xc0, true)),
		ExtendedKeyUsage:    card(good, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		PolicyMissing:       card(good, func(c *x509.Certificate) { c.Policies = nil }),
		UserIDMissing:       card(good, func(c *x509.Certificate) { c.Subject.CommonName = "Test_Card" }),
		SerialUnusual:       card(good, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 160) }),

		ChainUntrusted: by(stranger),
		ChainExpired:   by(ended),
		ChainInvalid:   by(beyond),

		Revoked:           told(gone, good1),
		CARevoked:         told(good1, gone),
		RevocationLapsed:  told(RevocationStatus{Covered: true, Detail: "the list ended on 1 March 2026"}, good1),
		RevocationUnknown: told(RevocationStatus{Detail: "no list covers it"}, good1),
		RevocationStale:   told(RevocationStatus{State: StatusGood, Late: true, Detail: "the list ended an hour ago"}, good1),

		WeakKey:      card(good, withKey(divisibleBy3())),
		KeyTooSmall:  card(good, withKey(rsaKeyOf(t, 1023))),
		KeySmall:     card(good, withKey(rsaKeyOf(t, 1024))),
		KeyNotJudged: card(good, withKey(ed25519Key(t))),
	}
}

// Each reason is one that somebody can meet, with the effect that its comment says and
// its text, and what stops a signature says so.
func TestEveryReasonIsFoundInSomeSituation(t *testing.T) {
	all := situations(t)
	for r := Unspecified; r < reasons; r++ {
		t.Run(r.String(), func(t *testing.T) {
			require.Contains(t, all, r)
			v := all[r].judge(t, Policy{})
			f := findingOf(t, v, r)
			assert.Equal(t, []Reason{r}, reasonsOf(v), "and nothing else is found")
			assert.Equal(t, descriptions[r].effect, f.Effect)
			assert.Equal(t, descriptions[r].effect, v.Decision)
			assert.Equal(t, descriptions[r].check, f.Check)
			assert.True(t, strings.HasPrefix(f.Text, descriptions[r].text), f.Text)
			assert.Equal(t, !f.Effect.Permits(), strings.Contains(f.Text, "Nothing was signed."), f.Text)
			assert.Equal(t, f.Effect.Permits(), v.Err() == nil)
		})
	}
}
