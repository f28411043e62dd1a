package guard

import (
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// What an advisory in each state does to a card of its population, at each of its
// dates.
func TestAffectedIssuanceOverTheLifeOfAnAdvisory(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	card := ca.issue(t, at("2026-02-01T12:00:00Z"))
	block, end := at("2026-03-03T00:00:00Z"), at("2026-03-20T00:00:00Z")
	published := at("2026-03-01T09:00:00Z")
	state := func(s advisory.State) func(*advisory.Advisory) {
		return func(a *advisory.Advisory) {
			a.State = s
			switch s {
			case advisory.Resolved, advisory.Withdrawn:
				a.EndedAt = end
			case advisory.Superseded:
				a.EndedAt, a.SupersededBy = end, "test-next"
			}
		}
	}
	noBlockFrom := func(a *advisory.Advisory) { a.BlockFrom = time.Time{} }
	for _, tt := range []struct {
		name   string
		change []func(*advisory.Advisory)
		at     time.Time
		want   []Reason
	}{
		{"active, a second before block_from", nil, block.Add(-time.Second), []Reason{AffectedSoon}},
		{"active, at block_from", nil, block, []Reason{Affected}},
		{"active, a second after block_from", nil, block.Add(time.Second), []Reason{Affected}},
		{"active without block_from, a second before it is published", []func(*advisory.Advisory){noBlockFrom}, published.Add(-time.Second), []Reason{AffectedSoon}},
		{"active without block_from, when it is published", []func(*advisory.Advisory){noBlockFrom}, published, []Reason{Affected}},
		{"draft", []func(*advisory.Advisory){state(advisory.Draft)}, block, nil},
		{"shadow", []func(*advisory.Advisory){state(advisory.Shadow)}, block, []Reason{AffectedShadow}},
		{"resolved, a second before block_from", []func(*advisory.Advisory){state(advisory.Resolved)}, block.Add(-time.Second), []Reason{AffectedSoon}},
		{"resolved, a second before its end", []func(*advisory.Advisory){state(advisory.Resolved)}, end.Add(-time.Second), []Reason{Affected}},
		{"resolved, at its end", []func(*advisory.Advisory){state(advisory.Resolved)}, end, []Reason{AffectedEnded}},
		{"resolved, a second after its end", []func(*advisory.Advisory){state(advisory.Resolved)}, end.Add(time.Second), []Reason{AffectedEnded}},
		{"withdrawn, a second before its end", []func(*advisory.Advisory){state(advisory.Withdrawn)}, end.Add(-time.Second), []Reason{AffectedEnded}},
		{"withdrawn, at its end", []func(*advisory.Advisory){state(advisory.Withdrawn)}, end, []Reason{AffectedEnded}},
		{"superseded, a second before its end", []func(*advisory.Advisory){state(advisory.Superseded)}, end.Add(-time.Second), []Reason{Affected}},
		{"superseded, at its end", []func(*advisory.Advisory){state(advisory.Superseded)}, end, []Reason{AffectedEnded}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := noticeBy(ca, tt.change...)
			all := []*advisory.Advisory{a}
			if a.SupersededBy != "" {
				all = append(all, noticeBy(ca, func(n *advisory.Advisory) { // of another day
					n.ID, n.Match[0].NotBefore = a.SupersededBy, &advisory.Window{From: at("2026-02-05T00:00:00Z"), To: at("2026-02-06T00:00:00Z")}
				}))
			}
			v := newGuard(t, Config{Advisories: newSet(t, 7, all...), Issuers: []*x509.Certificate{ca.cert}}).Judge(Snapshot{Certificate: card}, tt.at)
			require.ElementsMatch(t, tt.want, reasonsOf(v), v)
			assert.Equal(t, RuleSet{Version: 7, Issued: at("2026-01-01T07:00:00Z")}, v.RuleSet)
			if len(tt.want) == 0 {
				assert.Equal(t, DecisionAllowed, v.Decision)
				return
			}
			f := v.Findings[0]
			assert.Equal(t, "issuer CN=CA,O=test, serial 5dc9ad00, issued 2026-02-01 12:00:00 UTC", f.Is)
			assert.Equal(t, &AdvisoryRef{
				ID: "test-2026", Revision: 1, Title: a.Title, State: a.State, Basis: a.Basis, CardMayAuthenticate: true,
				From: at("2026-02-01T00:00:00Z"), To: at("2026-02-02T00:00:00Z"), EndedAt: a.EndedAt,
			}, f.Advisory)
			assert.Equal(t, "https://example.org/notice", f.Link)
			switch f.Reason {
			case Affected, AffectedSoon:
				assert.Equal(t, descriptions[f.Reason].text+" Please renew your card.", f.Text)
				assert.Equal(t, "a certificate that the notice does not cover: affected are those issued from 2026-02-01 00:00:00 UTC and before 2026-02-02 00:00:00 UTC", f.Wanted)
				assert.Equal(t, suited(a.Remedies, f.Effect), f.Remedies, "who can still sign needs no paper")
			default:
				assert.Equal(t, descriptions[f.Reason].text, f.Text, "an advisory that asks for nothing does not give its message")
				assert.Empty(t, f.Remedies)
				assert.Zero(t, f.By)
			}
			if f.Reason == AffectedSoon {
				assert.Equal(t, a.EnforcedFrom(), f.By)
			}
		})
	}
}

func TestWindowOfIssueIsHalfOpen(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: []*x509.Certificate{ca.cert}})
	for issued, want := range map[string]bool{
		"2026-01-31T23:59:59Z": false, "2026-02-01T00:00:00Z": true, "2026-02-01T00:00:01Z": true,
		"2026-02-01T23:59:59Z": true, "2026-02-02T00:00:00Z": false, "2026-02-02T00:00:01Z": false,
	} {
		v := g.Judge(Snapshot{Certificate: ca.issue(t, at(issued))}, at("2026-03-10T00:00:00Z"))
		assert.Equal(t, want, v.Has(Affected), issued)
		assert.Equal(t, !want, v.Decision.Permits(), issued)
	}
}

func TestFixedWhenAndExcept(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	open := func(a *advisory.Advisory) {
		a.Match[0].NotBefore.To = time.Time{}
		a.FixedWhen = []advisory.Clause{{NotBefore: &advisory.Window{From: at("2026-03-05T00:00:00Z")}}}
	}
	except := func(a *advisory.Advisory) {
		a.Except = []advisory.Clause{{NotBefore: &advisory.Window{From: at("2026-02-01T12:00:00Z"), To: at("2026-02-01T13:00:00Z")}}}
	}
	state := func(s advisory.State) func(*advisory.Advisory) {
		return func(a *advisory.Advisory) {
			if a.State = s; s == advisory.Resolved {
				a.EndedAt = at("2026-03-04T00:00:00Z")
			}
		}
	}
	for _, tt := range []struct {
		name   string
		change []func(*advisory.Advisory)
		issued string
		want   []Reason
	}{
		{"a second before it is fixed", []func(*advisory.Advisory){open}, "2026-03-04T23:59:59Z", []Reason{Affected}},
		{"when it is fixed", []func(*advisory.Advisory){open}, "2026-03-05T00:00:00Z", []Reason{AffectedFixed}},
		{"fixed, in trial", []func(*advisory.Advisory){open, state(advisory.Shadow)}, "2026-03-05T00:00:00Z", []Reason{}},
		{"fixed, and ended", []func(*advisory.Advisory){open, state(advisory.Resolved)}, "2026-03-05T00:00:00Z", []Reason{}},
		{"fixed, in draft", []func(*advisory.Advisory){open, state(advisory.Draft)}, "2026-03-05T00:00:00Z", []Reason{}},
		{"a second before the exception", []func(*advisory.Advisory){except}, "2026-02-01T11:59:59Z", []Reason{Affected}},
		{"in the exception", []func(*advisory.Advisory){except}, "2026-02-01T12:00:00Z", []Reason{}},
		{"a second before the end of the exception", []func(*advisory.Advisory){except}, "2026-02-01T12:59:59Z", []Reason{}},
		{"after the exception", []func(*advisory.Advisory){except}, "2026-02-01T13:00:00Z", []Reason{Affected}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, tt.change...)), Issuers: []*x509.Certificate{ca.cert}})
			v := g.Judge(Snapshot{Certificate: ca.issue(t, at(tt.issued))}, at("2026-03-10T00:00:00Z"))
			assert.Equal(t, tt.want, reasonsOf(v))
			if v.Has(Affected) && len(tt.change) > 0 {
				f := findingOf(t, v, Affected)
				assert.Equal(t, f.Advisory.To.IsZero(), tt.issued == "2026-03-04T23:59:59Z")
			}
		})
	}
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, open)), Issuers: []*x509.Certificate{ca.cert}})
	v := g.Judge(Snapshot{Certificate: ca.issue(t, at("2026-03-01T00:00:00Z"))}, at("2026-03-10T00:00:00Z"))
	assert.Equal(t, "a certificate that the notice does not cover: affected are those issued from 2026-02-01 00:00:00 UTC on", v.Findings[0].Wanted)
}

func TestRemediesOfARefusal(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	card := ca.issue(t, at("2026-02-01T12:00:00Z"))
	by := at("2026-03-10T00:00:00Z")
	renewBy := func(a *advisory.Advisory) { a.RenewBy = by }
	noLogin := func(a *advisory.Advisory) { a.CardMayAuthenticate = false }
	renewOnly := func(a *advisory.Advisory) { a.Remedies = a.Remedies[:1] }
	own := noticeBy(ca).Remedies
	renew, ra, paper := own[0], own[1], own[2]
	for _, tt := range []struct {
		name   string
		change []func(*advisory.Advisory)
		at     time.Time
		want   []advisory.Remedy
		helps  bool
	}{
		{"no renew_by", nil, by, []advisory.Remedy{renew, ra, paper}, true},
		{"a second before renew_by", []func(*advisory.Advisory){renewBy}, by.Add(-time.Second), []advisory.Remedy{renew, ra, paper}, true},
		{"at renew_by", []func(*advisory.Advisory){renewBy}, by, []advisory.Remedy{ra, renew, paper}, true},
		{"a second after renew_by", []func(*advisory.Advisory){renewBy}, by.Add(time.Second), []advisory.Remedy{ra, renew, paper}, true},
		{"the card may not authenticate", []func(*advisory.Advisory){noLogin}, by, []advisory.Remedy{ra, paper}, false},
		{"the card may not authenticate, after renew_by", []func(*advisory.Advisory){noLogin, renewBy}, by, []advisory.Remedy{ra, paper}, false},
		{"paper is named though the notice forgot it", []func(*advisory.Advisory){renewOnly}, by, []advisory.Remedy{renew, toPaper}, true},
		{"RA and paper are named though the notice forgot them", []func(*advisory.Advisory){renewOnly, renewBy}, by, []advisory.Remedy{toRA, renew, toPaper}, true},
		{"nothing is left of a notice that offers renewal alone", []func(*advisory.Advisory){renewOnly, noLogin}, by, []advisory.Remedy{toRA, toPaper}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := noticeBy(ca, tt.change...)
			before := append([]advisory.Remedy(nil), a.Remedies...)
			g := newGuard(t, Config{Advisories: newSet(t, 1, a), Issuers: []*x509.Certificate{ca.cert}})
			v, err := g.CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: card}}, tt.at)
			var refused *Refused
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tt.helps, refused.RenewalHelps())
			assert.Equal(t, tt.want, v.Findings[0].Remedies)
			assert.Equal(t, a.RenewBy, v.Findings[0].By)
			assert.Equal(t, a.CardMayAuthenticate, v.Findings[0].Advisory.CardMayAuthenticate)
			assert.Equal(t, before, a.Remedies, "the advisory's own list is left alone")
		})
	}
	soon := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, renewOnly)), Issuers: []*x509.Certificate{ca.cert}}).
		Judge(Snapshot{Certificate: card}, at("2026-03-02T00:00:00Z"))
	assert.Equal(t, []advisory.Remedy{renew}, soon.Findings[0].Remedies, "who can still sign needs no paper")
}

// An issuer is told by the key that made the signature. Names and key identifiers
// are copied easily.
func TestIssuerIsToldByItsSignature(t *testing.T) {
	twin, other := newAuthority(t, "CA", []byte{1}), newAuthority(t, "CA", []byte{1})
	renamed := newAuthority(t, "CA two", []byte{1})
	card := twin.issue(t, at("2026-02-01T12:00:00Z"))
	keys := func(as ...authority) func(*advisory.Advisory) {
		return func(n *advisory.Advisory) {
			n.Match[0].Issuer.SPKISHA256 = nil
			for _, a := range as {
				n.Match[0].Issuer.SPKISHA256 = append(n.Match[0].Issuer.SPKISHA256, a.spki())
			}
		}
	}
	aki := func(ids ...[]byte) func(*advisory.Advisory) {
		return func(n *advisory.Advisory) { n.Match[0].Issuer.AKI = ids }
	}
	for _, tt := range []struct {
		name    string
		issuers []authority
		change  []func(*advisory.Advisory)
		want    []Reason
	}{
		{"its key is named and configured", []authority{twin}, nil, []Reason{Affected}},
		{"its key is named, nobody is configured", nil, nil, []Reason{AffectedUndecidable}},
		{"its key is named, only the twin is configured", []authority{other}, nil, []Reason{AffectedUndecidable}},
		{"the twin's key is named, both are configured", []authority{twin, other}, []func(*advisory.Advisory){keys(other)}, []Reason{}},
		{"both keys are named, both are configured", []authority{other, twin}, []func(*advisory.Advisory){keys(other, twin)}, []Reason{Affected}},
		{"the twin's key is named with the key identifier of both, both configured", []authority{other, twin}, []func(*advisory.Advisory){keys(other), aki([]byte{1})}, []Reason{}},
		{"the twin's key is named with the key identifier of both, nobody configured", nil, []func(*advisory.Advisory){keys(other), aki([]byte{1})}, []Reason{Affected}},
		{"its key identifier is named alone", nil, []func(*advisory.Advisory){keys(), aki([]byte{1})}, []Reason{Affected}},
		{"another key identifier is named alone", nil, []func(*advisory.Advisory){keys(), aki([]byte{2})}, []Reason{}},
		{"another name with its key identifier does not do", []authority{renamed}, nil, []Reason{AffectedUndecidable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Advisories: newSet(t, 1, noticeBy(twin, tt.change...))}
			for _, a := range tt.issuers {
				c.Issuers = append(c.Issuers, a.cert)
			}
			g := newGuard(t, c)
			for range 2 { // the second answer comes from what is known
				v, err := g.CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: card}}, at("2026-03-10T00:00:00Z"))
				assert.Equal(t, tt.want, reasonsOf(v))
				var undecided *Undecided
				var refused *Refused
				if v.Has(AffectedUndecidable) {
					require.ErrorAs(t, err, &undecided)
					assert.NotErrorAs(t, err, &refused, "what is not known is not affected")
					assert.Contains(t, v.Findings[0].Is, "; not known: which authority's key signed the certificate")
				}
			}
		})
	}
}

func TestAnUnknownIssuerMattersOnlyWhereItWouldStopASignature(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	card := ca.issue(t, at("2026-02-01T12:00:00Z"))
	for _, tt := range []struct {
		name   string
		change func(*advisory.Advisory)
		at     string
		want   []Reason
		effect Decision
	}{
		{"enforced", func(*advisory.Advisory) {}, "2026-03-03T00:00:00Z", []Reason{AffectedUndecidable}, DecisionUndecided},
		{"announced", func(*advisory.Advisory) {}, "2026-03-02T23:59:59Z", []Reason{AffectedUndecidable}, DecisionWarned},
		{"in trial", func(a *advisory.Advisory) { a.State = advisory.Shadow }, "2026-03-03T00:00:00Z", []Reason{}, DecisionAllowed},
		{"ended", func(a *advisory.Advisory) { a.State, a.EndedAt = advisory.Resolved, at("2026-03-04T00:00:00Z") }, "2026-03-04T00:00:00Z", []Reason{}, DecisionAllowed},
		{"not ended yet", func(a *advisory.Advisory) { a.State, a.EndedAt = advisory.Resolved, at("2026-03-04T00:00:00Z") }, "2026-03-03T23:59:59Z", []Reason{AffectedUndecidable}, DecisionUndecided},
		{"withdrawn", func(a *advisory.Advisory) { a.State, a.EndedAt = advisory.Withdrawn, at("2026-03-04T00:00:00Z") }, "2026-03-03T23:59:59Z", []Reason{}, DecisionAllowed},
		{"issued outside the window", func(a *advisory.Advisory) { a.Match[0].NotBefore.From = at("2026-02-01T12:00:01Z") }, "2026-03-03T00:00:00Z", []Reason{}, DecisionAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, tt.change))}).Judge(Snapshot{Certificate: card}, at(tt.at))
			require.Equal(t, tt.want, reasonsOf(v))
			assert.Equal(t, tt.effect, v.Decision)
			if tt.name == "announced" {
				assert.Equal(t, undecidableYet, v.Findings[0].Text)
				assert.Equal(t, at("2026-03-03T00:00:00Z"), v.Findings[0].By)
				assert.NotContains(t, kindsOf(v.Findings[0].Remedies), advisory.Paper, "who can still sign needs no paper")
			}
		})
	}
}

func TestSerialsOfOneAuthority(t *testing.T) {
	ca, other := newAuthority(t, "CA", []byte{1}), newAuthority(t, "CA", []byte{2})
	a, err := advisory.Parse([]byte(`{
		"id": "serials-2026", "revision": 1, "state": "active", "title": "t", "published": "2026-03-01T09:00:00Z", "modified": "2026-03-01T09:00:00Z",
		"match": {"any": [{"issuer": {"aki": ["01"]}, "serials": {"inline": ["5dc9ad1f"], "ranges": [{"first": "5dc9ae00", "last": "5dc9aeff"}]}}]},
		"basis": "serial_list", "card_may_authenticate": true, "remedies": [{"kind": "renew", "text": "Renew."}], "message": "Renew."}`), nil)
	require.NoError(t, err)
	g := newGuard(t, Config{Advisories: newSet(t, 1, a)})
	for _, tt := range []struct {
		by     authority
		serial int64
		want   bool
	}{
		{ca, 0x5dc9ad1e, false}, {ca, 0x5dc9ad1f, true}, {ca, 0x5dc9ad20, false}, {other, 0x5dc9ad1f, false},
		{ca, 0x5dc9adff, false}, {ca, 0x5dc9ae00, true}, {ca, 0x5dc9aeff, true}, {ca, 0x5dc9af00, false}, {ca, 0x15dc9ad1f, false},
	} {
		c := tt.by.issue(t, at("2026-02-01T12:00:00Z"), func(x *x509.Certificate) { x.SerialNumber = big.NewInt(tt.serial) })
		v := g.Judge(Snapshot{Certificate: c}, at("2026-03-10T00:00:00Z"))
		assert.Equal(t, tt.want, v.Has(Affected), "%x", tt.serial)
		if tt.want {
			assert.Zero(t, v.Findings[0].Advisory.From)
			assert.Equal(t, "a certificate that the notice does not cover", v.Findings[0].Wanted)
		}
	}
}

func TestWhatIsKnownOfIssuersIsBounded(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	card := ca.issue(t, at("2026-02-01T12:00:00Z"))
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: []*x509.Certificate{ca.cert}})
	for i := range maxKnown {
		g.records[string(rune(i))] = &record{}
	}
	for range 2 {
		assert.True(t, g.Judge(Snapshot{Certificate: card}, at("2026-03-10T00:00:00Z")).Has(Affected))
		assert.Len(t, g.records, 1)
	}
}

// The built-in notice, and its instants.
func TestTheNoticeOf2020(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	for _, tt := range []struct {
		issued, at string
		decision   Decision
		want       []Reason
	}{
		{"2020-09-29T08:00:00Z", "2020-09-29T23:59:59Z", DecisionWarned, []Reason{AffectedSoon}},
		{"2020-09-29T08:00:00Z", "2020-09-30T00:00:00Z", DecisionRefused, []Reason{Affected}},
		{"2020-09-29T08:00:00Z", "2020-09-30T09:00:00Z", DecisionRefused, []Reason{Affected}},
		{"2020-09-29T08:00:00Z", "2020-10-01T13:49:59Z", DecisionRefused, []Reason{Affected}},
		{"2020-09-29T08:00:00Z", "2020-10-01T13:50:00Z", DecisionAllowed, []Reason{AffectedEnded}},
		{"2020-09-29T08:00:00Z", "2020-10-01T13:50:01Z", DecisionAllowed, []Reason{AffectedEnded}},
		{"2020-09-29T08:00:00Z", "2020-10-02T09:00:00Z", DecisionAllowed, []Reason{AffectedEnded}},
		{"2020-09-22T23:59:59Z", "2020-09-30T09:00:00Z", DecisionAllowed, []Reason{}},
		{"2020-09-23T00:00:00Z", "2020-09-30T09:00:00Z", DecisionRefused, []Reason{Affected}},
		{"2020-09-29T23:59:59Z", "2020-09-30T09:00:00Z", DecisionRefused, []Reason{Affected}},
		{"2020-09-30T00:00:00Z", "2020-09-30T09:00:00Z", DecisionAllowed, []Reason{}},
	} {
		t.Run(tt.issued+" judged at "+tt.at, func(t *testing.T) {
			v, err := newGuard(t, Config{}).CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: ca.issue(t, at(tt.issued))}}, at(tt.at))
			require.Equal(t, tt.want, reasonsOf(v))
			assert.Equal(t, tt.decision, v.Decision)
			assert.Equal(t, tt.decision.Permits(), err == nil)
			if len(tt.want) == 0 {
				return
			}
			ref := v.Findings[0].Advisory
			assert.Equal(t, "eps-smartcard-renewal-2020", ref.ID)
			assert.Equal(t, advisory.Resolved, ref.State)
			assert.Equal(t, at("2020-10-01T13:50:00Z"), ref.EndedAt)
			assert.Equal(t, advisory.Assumed, ref.Basis)
			assert.Contains(t, ref.Note, "Assumed by the rxguard project")
			if tt.decision == DecisionRefused {
				var refused *Refused
				require.ErrorAs(t, err, &refused)
				assert.True(t, refused.RenewalHelps())
				kinds := []advisory.RemedyKind{}
				for _, r := range v.Findings[0].Remedies {
					kinds = append(kinds, r.Kind)
				}
				assert.Equal(t, []advisory.RemedyKind{advisory.Renew, advisory.Portal, advisory.Reseat, advisory.ITSupport,
					advisory.RegistrationAuthority, advisory.ServiceDesk, advisory.Paper}, kinds)
			}
		})
	}
}

// Where the national service offers self-renewal in the last 90 days alone, a freshly
// issued affected card needs what nobody offers its holder: the Registration Authority
// does it.
func TestSelfRenewalThatIsNotOfferedYet(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	card := ca.issue(t, issuedThen) // until 1 February 2028, 12:00
	from, renewBy := at("2027-11-03T12:00:00Z"), at("2026-03-20T00:00:00Z")
	require.Equal(t, card.info.NotAfter.Add(-SelfRenewalWindow), from)
	withPortal := func(a *advisory.Advisory) {
		a.RenewBy = renewBy
		a.Remedies = slices.Insert(slices.Clone(a.Remedies), 1, advisory.Remedy{Kind: advisory.Portal, Text: "Use the portal."},
			advisory.Remedy{Kind: advisory.ServiceDesk, Text: "Call."})
	}
	noLogin := func(a *advisory.Advisory) { a.CardMayAuthenticate = false }
	noRA := func(a *advisory.Advisory) { a.Remedies = a.Remedies[:1] }
	const (
		renew, portal, desk, ra, paper = advisory.Renew, advisory.Portal, advisory.ServiceDesk, advisory.RegistrationAuthority, advisory.Paper
		early                          = " You cannot renew this smartcard yourself before 3 November 2027, 12:00 UK time. Your Registration Authority can renew it now."
		late                           = " The last day for that has passed. Contact your Registration Authority now."
	)
	for _, tt := range []struct {
		name   string
		window time.Duration
		at     time.Time
		change []func(*advisory.Advisory)
		kinds  []advisory.RemedyKind
		says   string
		helps  bool
		from   time.Time
	}{
		{"before renew_by, before the window", SelfRenewalWindow, renewBy.Add(-time.Second), nil, []advisory.RemedyKind{ra, desk, paper}, early, false, from},
		{"at renew_by, before the window", SelfRenewalWindow, renewBy, nil, []advisory.RemedyKind{ra, desk, paper}, late + early, false, from},
		{"after renew_by, a second before the window", SelfRenewalWindow, from.Add(-time.Second), nil, []advisory.RemedyKind{ra, desk, paper}, late + early, false, from},
		{"after renew_by, when the window opens", SelfRenewalWindow, from, nil, []advisory.RemedyKind{ra, renew, portal, desk, paper}, late, true, time.Time{}},
		{"after renew_by, in the window", SelfRenewalWindow, from.Add(time.Second), nil, []advisory.RemedyKind{ra, renew, portal, desk, paper}, late, true, time.Time{}},
		{"before renew_by, in the window", 3 * 365 * 24 * time.Hour, renewBy.Add(-time.Second), nil, []advisory.RemedyKind{renew, portal, desk, ra, paper}, "", true, time.Time{}},
		{"before renew_by, no window", 0, renewBy.Add(-time.Second), nil, []advisory.RemedyKind{renew, portal, desk, ra, paper}, "", true, time.Time{}},
		{"a notice that names renewal alone, before the window", SelfRenewalWindow, renewBy.Add(-time.Second), []func(*advisory.Advisory){noRA}, []advisory.RemedyKind{ra, paper}, early, false, from},
		{"the card may not log in, before the window", SelfRenewalWindow, renewBy.Add(-time.Second), []func(*advisory.Advisory){noLogin}, []advisory.RemedyKind{ra, desk, paper}, "", false, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := noticeBy(ca, append([]func(*advisory.Advisory){withPortal}, tt.change...)...)
			g := newGuard(t, Config{Advisories: newSet(t, 1, a), Issuers: certs(ca), Policy: Policy{RenewalWindow: tt.window}})
			v, err := g.CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: card}}, tt.at)
			var refused *Refused
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tt.helps, refused.RenewalHelps())
			require.Equal(t, []Reason{Affected}, reasonsOf(v))
			f := v.Findings[0]
			assert.Equal(t, descriptions[Affected].text+" Please renew your card."+tt.says, f.Text)
			assert.Equal(t, tt.from, f.RenewalFrom)
			assert.Equal(t, tt.kinds, kindsOf(f.Remedies))

			said := v.ForPrescriber()
			if !tt.helps {
				assert.NotContains(t, said, "Renew here.", "what is not offered is not advised")
			}
			if !tt.from.IsZero() {
				assert.NotContains(t, said, "Use the portal.")
				assert.Contains(t, v.String(), "    renewal by the holder: from 2027-11-03 12:00:00 UTC on\n")
			}
			assert.Equal(t, renewBy.After(tt.at), strings.Contains(said, "Do this before 20 March 2026."))
		})
	}

	soon := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, withPortal)), Issuers: certs(ca), Policy: Policy{RenewalWindow: SelfRenewalWindow}}).
		Judge(Snapshot{Certificate: card}, at("2026-03-02T00:00:00Z"))
	require.Equal(t, []Reason{AffectedSoon}, reasonsOf(soon))
	assert.Equal(t, []advisory.RemedyKind{ra, desk}, kindsOf(soon.Findings[0].Remedies))
	assert.Contains(t, soon.Findings[0].Text, early)
	assert.Equal(t, DecisionWarned, soon.Decision)

	// The window is of the certificate: one that ends soon is renewed at once.
	ends := ca.issue(t, issuedThen, func(c *x509.Certificate) { c.NotAfter = at("2026-06-01T00:00:00Z") })
	v := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: certs(ca), Policy: Policy{RenewalWindow: SelfRenewalWindow}}).
		Judge(Snapshot{Certificate: ends}, judgedThen)
	assert.Zero(t, v.Findings[0].RenewalFrom)
	assert.True(t, v.renewalHelps())
}

func kindsOf(remedies []advisory.Remedy) (kinds []advisory.RemedyKind) {
	for _, r := range remedies {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// Of advisories that contradict each other the strictest in force wins, and all are
// shown.
func TestAdvisoriesThatContradictEachOther(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	card := ca.issue(t, issuedThen)
	other := func(change func(*advisory.Advisory)) *advisory.Advisory {
		return noticeBy(ca, func(a *advisory.Advisory) { a.ID = "other-2026" }, change)
	}
	for _, tt := range []struct {
		name  string
		other *advisory.Advisory
		want  []Reason
	}{
		{"one has ended", other(func(a *advisory.Advisory) { a.State, a.EndedAt = advisory.Resolved, at("2026-03-20T00:00:00Z") }), []Reason{Affected, AffectedEnded}},
		{"one was wrong", other(func(a *advisory.Advisory) { a.State, a.EndedAt = advisory.Withdrawn, at("2026-03-20T00:00:00Z") }), []Reason{Affected, AffectedEnded}},
		{"one is on trial", other(func(a *advisory.Advisory) { a.State = advisory.Shadow }), []Reason{Affected, AffectedShadow}},
		{"one takes effect later", other(func(a *advisory.Advisory) { a.BlockFrom = at("2026-05-01T00:00:00Z") }), []Reason{Affected, AffectedSoon}},
		{"one says it is put right", other(func(a *advisory.Advisory) {
			a.FixedWhen = []advisory.Clause{{NotBefore: &advisory.Window{From: issuedThen}}}
		}), []Reason{Affected, AffectedFixed}},
		{"one does not let the card log in", other(func(a *advisory.Advisory) { a.CardMayAuthenticate = false }), []Reason{Affected, Affected}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca), tt.other), Issuers: certs(ca)})
			v, err := g.CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: card}}, judgedThen)
			require.Error(t, err)
			assert.Equal(t, DecisionRefused, v.Decision)
			require.Equal(t, tt.want, reasonsOf(v))
			assert.ElementsMatch(t, []string{"test-2026", "other-2026"}, []string{v.Findings[0].Advisory.ID, v.Findings[1].Advisory.ID})
			assert.Equal(t, tt.want[1] != Affected, v.renewalHelps())
		})
	}
}
