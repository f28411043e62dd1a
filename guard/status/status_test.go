package status_test

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// want is a result that a test expects.
type want struct {
	state status.State
	why   status.Why
	late  bool
}

func (w want) check(t *testing.T, r status.Result) {
	t.Helper()
	assert.Equal(t, w, want{r.State, r.Why, r.Late}, "%s", r)
	assert.NotEmpty(t, r.String())
}

func good() want                  { return want{state: status.Good} }
func revoked() want               { return want{state: status.Revoked} }
func unknown(why status.Why) want { return want{state: status.Unknown, why: why} }

var yesterday = now.Add(-24 * time.Hour)

// One list of the certificate's own CA: what makes it say good, and what keeps it from it.
func TestAListIsGoodEvidenceOrNone(t *testing.T) {
	w := newWorld(t)
	serial := w.leaf.SerialNumber
	other := certify(t, "CA", newKey(t), w.root) // another CA of the name
	stranger := certify(t, "CA", newKey(t), nil) // of no root that is trusted
	mute := certify(t, "CA", w.ca.key, w.root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	for _, c := range []struct {
		name string
		crl  crl
		at   time.Time
		want want
	}{
		{"in date and without an entry", crl{by: w.ca}, now, good()},
		{"of other certificates", crl{by: w.ca, entries: [][]byte{entry(big.NewInt(1), yesterday)}}, now, good()},
		{"with an entry", crl{by: w.ca, entries: [][]byte{entry(serial, yesterday)}}, now, revoked()},
		{"by another CA of the name", crl{by: other}, now, unknown(status.AnotherCA)},
		{"by another CA of the name, with an entry", crl{by: other, entries: [][]byte{entry(serial, yesterday)}}, now, unknown(status.AnotherCA)},
		{"by a stranger of the name", crl{by: stranger}, now, unknown(status.Unverified)},
		{"by a stranger, with an entry", crl{by: stranger, entries: [][]byte{entry(serial, yesterday)}}, now, unknown(status.Unverified)},
		{"by the root", crl{by: w.root}, now, unknown(status.NoList)},
		{"by the CA in another's name", crl{by: w.ca, issuer: nameOf("CA 2")}, now, unknown(status.NoList)},
		{"by another in the CA's name", crl{by: w.root, issuer: nameOf("CA")}, now, unknown(status.Unverified)},
		{"at thisUpdate", crl{by: w.ca, thisUpdate: now}, now, good()},
		{"a second before thisUpdate", crl{by: w.ca, thisUpdate: now.Add(time.Second)}, now, unknown(status.Future)},
		{"from the future, with an entry of today", crl{by: w.ca, thisUpdate: now.Add(time.Hour), entries: [][]byte{entry(serial, yesterday)}}, now, revoked()},
		{"from the future, with an entry of then", crl{by: w.ca, thisUpdate: now.Add(time.Hour), entries: [][]byte{entry(serial, now.Add(time.Minute))}}, now, unknown(status.Future)},
		{"at nextUpdate", crl{by: w.ca, nextUpdate: now}, now, good()},
		{"past nextUpdate, within the grace", crl{by: w.ca, nextUpdate: now.Add(-time.Second)}, now, want{state: status.Good, late: true}},
		{"at the end of the grace", crl{by: w.ca, thisUpdate: now.Add(-96 * time.Hour), nextUpdate: now.Add(-24 * time.Hour)}, now, want{state: status.Good, late: true}},
		{"past the grace", crl{by: w.ca, thisUpdate: now.Add(-96 * time.Hour), nextUpdate: now.Add(-24*time.Hour - time.Second)}, now, unknown(status.Ended)},
		{"past the grace, with an entry", crl{by: w.ca, thisUpdate: at("2021-01-01T00:00:00Z"), entries: [][]byte{entry(serial, at("2020-12-01T00:00:00Z"))}}, now, revoked()},
		{"without nextUpdate", crl{by: w.ca, noNext: true}, now, unknown(status.NoNextUpdate)},
		{"without nextUpdate, with an entry", crl{by: w.ca, noNext: true, entries: [][]byte{entry(serial, yesterday)}}, now, revoked()},
		{"with an unknown extension", crl{by: w.ca, exts: [][]byte{ext(oidUnknown, false, []byte{5, 0})}}, now, good()},
		{"with an unknown critical extension", crl{by: w.ca, exts: [][]byte{ext(oidUnknown, true, []byte{5, 0})}}, now, unknown(status.Unusable)},
		{"with an unknown critical extension and an entry", crl{by: w.ca, entries: [][]byte{entry(serial, yesterday)}, exts: [][]byte{ext(oidUnknown, true, []byte{5, 0})}}, now, revoked()},
		{"with an unknown critical extension of another's entry", crl{by: w.ca, entries: [][]byte{entry(big.NewInt(1), yesterday, ext(oidUnknown, true, []byte{5, 0}))}}, now, unknown(status.Unusable)},
		{"with an unknown critical extension of its entry", crl{by: w.ca, entries: [][]byte{entry(serial, yesterday, ext(oidUnknown, true, []byte{5, 0}))}}, now, revoked()},
		{"with an unknown extension of another's entry", crl{by: w.ca, entries: [][]byte{entry(big.NewInt(1), yesterday, ext(oidUnknown, false, []byte{5, 0}))}}, now, good()},
		{"with a certificate issuer, but not indirect", crl{by: w.ca, entries: [][]byte{entry(big.NewInt(1), yesterday, of(nameOf("CA")))}}, now, unknown(status.Unusable)},
		{"with a critical number", crl{by: w.ca, exts: [][]byte{ext(oidNumber, true, []byte{2, 1, 1})}}, now, unknown(status.Unusable)},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.check(t, w.snapshot(t, []*status.List{c.crl.list(t)}, other).Status(w.subject(t), c.at))
		})
	}

	t.Run("by a CA whose key usage has no cRLSign", func(t *testing.T) {
		trust, err := status.NewTrust([]*x509.Certificate{w.root.cert}, []*x509.Certificate{mute.cert})
		require.NoError(t, err)
		l := crl{by: w.ca}.list(t)
		s, err := status.NewSnapshot(trust, 0, l)
		require.NoError(t, err)
		unknown(status.Unverified).check(t, s.Status(w.subject(t), now))
		assert.ErrorIs(t, trust.Verify(l), status.ErrUnverified)
		assert.Contains(t, s.Lists()[0].Why, "no cRLSign")
	})
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		want   want
	}{
		"by a CA without a key usage":      {func(c *x509.Certificate) { c.KeyUsage = 0 }, good()},
		"by no CA and without a key usage": {func(c *x509.Certificate) { c.KeyUsage, c.IsCA, c.BasicConstraintsValid = 0, false, false }, unknown(status.Unverified)},
		"by no CA, but with cRLSign":       {crlSigner, good()},
	} {
		t.Run(name, func(t *testing.T) {
			signer := certify(t, "CA", w.ca.key, w.root, c.change)
			trust, err := status.NewTrust([]*x509.Certificate{w.root.cert}, []*x509.Certificate{signer.cert})
			require.NoError(t, err)
			s, err := status.NewSnapshot(trust, 0, crl{by: w.ca}.list(t))
			require.NoError(t, err)
			c.want.check(t, s.Status(w.subject(t), now))
		})
	}
	t.Run("no list", func(t *testing.T) {
		for _, s := range []*status.Snapshot{nil, w.snapshot(t, nil)} {
			unknown(status.NoList).check(t, s.Status(w.subject(t), now))
			assert.Zero(t, s.Floor())
			assert.Zero(t, s.Bytes())
			assert.Empty(t, s.Lists())
		}
		unknown(status.NoList).check(t, w.snapshot(t, nil).Status(nil, now))
	})
	t.Run("no issuer", func(t *testing.T) {
		unknown(status.NoIssuer).check(t, w.snapshot(t, []*status.List{crl{by: w.ca}.list(t)}).Status(subjectOf(t, w.leaf), now))
	})
	t.Run("signed by a key without a certificate in the trust", func(t *testing.T) {
		trust, err := status.NewTrust([]*x509.Certificate{w.root.cert}, nil)
		require.NoError(t, err)
		s, err := status.NewSnapshot(trust, 0, crl{by: w.ca}.list(t))
		require.NoError(t, err)
		unknown(status.Unverified).check(t, s.Status(w.subject(t), now))
		assert.Zero(t, s.Floor(), "a list that nobody verified says nothing of the time")
	})
}

// The rule of the national service, and an invalidity date, which refuses earlier.
func TestReasonsAndDatesDecideWhetherAnEntryRevokes(t *testing.T) {
	w := newWorld(t)
	date, invalid := at("2026-02-01T00:00:00Z"), at("2026-01-01T00:00:00Z")
	states := func(exts ...[]byte) (all [4]status.State) {
		s := w.snapshot(t, []*status.List{
			crl{by: w.ca, thisUpdate: at("2025-12-01T00:00:00Z"), nextUpdate: at("2026-12-01T00:00:00Z"), entries: [][]byte{entry(w.leaf.SerialNumber, date, exts...)}}.list(t)})
		for i, when := range []time.Time{invalid.Add(-time.Second), invalid, date.Add(-time.Second), date} {
			all[i] = s.Status(w.subject(t), when).State
		}
		return all
	}
	const g, r = status.Good, status.Revoked
	for reason := byte(0); reason < 12; reason++ {
		want := [4]status.State{g, g, g, r}
		if reason == 1 || reason == 2 || reason == 10 {
			want = [4]status.State{r, r, r, r}
		}
		assert.Equal(t, want, states(because(reason)), status.Reason(reason).String())
	}
	assert.Equal(t, [4]status.State{g, g, g, r}, states(), "no reason")
	since := ext(oidInvalidity, false, generalized(invalid))
	assert.Equal(t, [4]status.State{g, r, r, r}, states(since), "an invalidity date refuses from then on")
	assert.Equal(t, [4]status.State{r, r, r, r}, states(since, because(1)))
	late := ext(oidInvalidity, false, generalized(date.Add(time.Hour)))
	assert.Equal(t, [4]status.State{g, g, g, r}, states(late), "a later one takes nothing back")

	e := status.Entry{Reason: status.Superseded, Revoked: date, Invalid: invalid}
	assert.False(t, e.Revokes(invalid), "the service has no regard for it")
	assert.True(t, e.Revokes(date))
}

// Several copies of one list: as of an instant the newest counts that there was.
func TestOfCopiesOfAListTheNewestCounts(t *testing.T) {
	w := newWorld(t)
	serial := w.leaf.SerialNumber
	held := crl{by: w.ca, number: 1, thisUpdate: now.Add(-2 * time.Hour), entries: [][]byte{entry(serial, yesterday, because(6))}}.list(t)
	freed := crl{by: w.ca, number: 2, thisUpdate: now.Add(-time.Hour)}.list(t)
	for _, lists := range [][]*status.List{{held, freed}, {freed, held}, {freed, held, held, nil}} {
		s := w.snapshot(t, lists)
		good().check(t, s.Status(w.subject(t), now))
		revoked().check(t, s.Status(w.subject(t), now.Add(-90*time.Minute)))
		unknown(status.Future).check(t, s.Status(w.subject(t), yesterday.Add(-time.Second)))
		assert.Equal(t, freed.ThisUpdate(), s.Floor())
		assert.Len(t, s.Lists(), 2)
		assert.Equal(t, held.Bytes()+freed.Bytes(), s.Bytes())
	}
	t.Run("what is not verified takes no place", func(t *testing.T) {
		bad := crl{by: certify(t, "CA", newKey(t), nil), number: 9, thisUpdate: now}.list(t)
		s := w.snapshot(t, []*status.List{bad, held})
		revoked().check(t, s.Status(w.subject(t), now))
		assert.Equal(t, held.ThisUpdate(), s.Floor())
	})
	t.Run("a new list that is not usable leaves no good to the old", func(t *testing.T) {
		odd := crl{by: w.ca, number: 3, thisUpdate: now, exts: [][]byte{ext(oidUnknown, true, []byte{5, 0})}}.list(t)
		unknown(status.Unusable).check(t, w.snapshot(t, []*status.List{odd, freed}).Status(w.subject(t), now))
	})
	t.Run("two of one instant: the higher number", func(t *testing.T) {
		third := crl{by: w.ca, number: 3, thisUpdate: now.Add(-time.Hour), entries: [][]byte{entry(serial, yesterday)}}.list(t)
		revoked().check(t, w.snapshot(t, []*status.List{freed, third}).Status(w.subject(t), now))
		revoked().check(t, w.snapshot(t, []*status.List{third, freed}).Status(w.subject(t), now))
	})
}

// A list that was issued after a signature tells of it, up to the certificate's end.
func TestAListOfAfterwardsTellsOfASignature(t *testing.T) {
	w := newWorld(t)
	serial, end := w.leaf.SerialNumber, w.leaf.NotAfter
	for _, c := range []struct {
		name string
		crls []crl
		want want
	}{
		{"without an entry", []crl{{by: w.ca, thisUpdate: now.Add(time.Hour)}}, good()},
		{"with an entry of before", []crl{{by: w.ca, thisUpdate: now.Add(time.Hour), entries: [][]byte{entry(serial, yesterday)}}}, revoked()},
		{"with an entry of afterwards", []crl{{by: w.ca, thisUpdate: now.Add(time.Hour), entries: [][]byte{entry(serial, now.Add(time.Minute))}}}, good()},
		{"with a compromise of afterwards", []crl{{by: w.ca, thisUpdate: now.Add(time.Hour), entries: [][]byte{entry(serial, now.Add(time.Minute), because(1))}}}, revoked()},
		{"of the certificate's last second", []crl{{by: w.ca, thisUpdate: end}}, good()},
		{"of after its end", []crl{{by: w.ca, thisUpdate: end.Add(time.Second)}}, unknown(status.Future)},
		{"which clears nothing of before", []crl{{by: w.ca, number: 2, thisUpdate: now.Add(time.Hour)}, {by: w.ca, number: 1, entries: [][]byte{entry(serial, yesterday, because(6))}}}, revoked()},
		{"without nextUpdate", []crl{{by: w.ca, thisUpdate: now.Add(time.Hour), noNext: true}}, unknown(status.NoNextUpdate)},
		{"of before, past its end", []crl{{by: w.ca, thisUpdate: now.AddDate(0, 0, -9)}}, unknown(status.Ended)},
		{"by who is not trusted", []crl{{by: certify(t, "CA", newKey(t), w.root), thisUpdate: now.Add(time.Hour)}}, unknown(status.Unverified)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lists []*status.List
			for _, l := range c.crls {
				lists = append(lists, l.list(t))
			}
			c.want.check(t, w.snapshot(t, lists).StatusThen(w.subject(t), now))
		})
	}
	unknown(status.NoList).check(t, (*status.Snapshot)(nil).StatusThen(w.subject(t), now))
}

func TestTheGraceIsASetting(t *testing.T) {
	w := newWorld(t)
	l := crl{by: w.ca, thisUpdate: now.Add(-100 * time.Hour), nextUpdate: now}.list(t)
	for _, c := range []struct {
		grace, after time.Duration
		want         want
	}{
		{status.NoGrace, 0, good()},
		{status.NoGrace, time.Second, unknown(status.Ended)},
		{time.Hour, time.Hour, want{state: status.Good, late: true}},
		{time.Hour, time.Hour + time.Second, unknown(status.Ended)},
		{0, status.DefaultGrace, want{state: status.Good, late: true}},
		{0, status.DefaultGrace + time.Second, unknown(status.Ended)},
		{status.MaxGrace, status.MaxGrace, want{state: status.Good, late: true}},
		{status.MaxGrace, status.MaxGrace + time.Second, unknown(status.Ended)},
	} {
		s, err := status.NewSnapshot(w.trust(t), c.grace, l)
		require.NoError(t, err)
		c.want.check(t, s.Status(w.subject(t), now.Add(c.after)))
	}
	for _, grace := range []time.Duration{-2, status.MaxGrace + 1} {
		_, err := status.NewSnapshot(w.trust(t), grace)
		assert.ErrorContains(t, err, "wanted more than 0 and at most 72h0m0s")
	}
}

// Who may have two keys, and who only shares a name.
func TestAListByAnotherKeyOfTheSameCA(t *testing.T) {
	w := newWorld(t)
	serial := w.leaf.SerialNumber
	apart := certify(t, "CA", newKey(t), w.root, crlSigner)
	own := certify(t, "CA", newKey(t), w.ca, crlSigner)
	rolled := certify(t, "CA", newKey(t), w.ca)
	foreign := certify(t, "CA", newKey(t), certify(t, "Root", newKey(t), nil), crlSigner)
	arl := crl{by: w.root}.list(t) // that the signer's own certificate is good
	for _, c := range []struct {
		name  string
		by    *authority
		lists []*status.List
		want  want
	}{
		{"a key for lists alone, by who certified the CA", apart, []*status.List{arl}, good()},
		{"the same, without a list about it", apart, nil, unknown(status.SignerStatus)},
		{"the same, revoked", apart, []*status.List{crl{by: w.root, entries: [][]byte{entry(apart.cert.SerialNumber, yesterday)}}.list(t)}, unknown(status.SignerStatus)},
		{"a key for lists alone, by the CA", own, []*status.List{arl}, good()},
		{"the next key of the CA, certified by the old one", rolled, []*status.List{arl}, good()},
		{"another root's", foreign, []*status.List{arl}, unknown(status.AnotherCA)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := w.snapshot(t, append(c.lists, crl{by: c.by}.list(t)), c.by)
			c.want.check(t, s.Status(w.subject(t), now))
			s = w.snapshot(t, append(c.lists, crl{by: c.by, entries: [][]byte{entry(serial, yesterday)}}.list(t)), c.by)
			if c.want.why == status.AnotherCA {
				c.want.check(t, s.Status(w.subject(t), now))
			} else {
				revoked().check(t, s.Status(w.subject(t), now))
			}
		})
	}
	t.Run("whose path has ended", func(t *testing.T) {
		old := certify(t, "CA", newKey(t), w.root, crlSigner, func(c *x509.Certificate) { c.NotAfter = yesterday })
		s := w.snapshot(t, []*status.List{arl, crl{by: old}.list(t)}, old)
		unknown(status.SignerPath).check(t, s.Status(w.subject(t), now))
		s = w.snapshot(t, []*status.List{arl, crl{by: old, entries: [][]byte{entry(serial, yesterday)}}.list(t)}, old)
		revoked().check(t, s.Status(w.subject(t), now))
	})
	t.Run("whose path leads to no root", func(t *testing.T) {
		trust, err := status.NewTrust(nil, []*x509.Certificate{w.ca.cert, w.root.cert, apart.cert})
		require.NoError(t, err)
		s, err := status.NewSnapshot(trust, 0, crl{by: apart, entries: [][]byte{entry(serial, yesterday)}}.list(t))
		require.NoError(t, err)
		unknown(status.SignerPath).check(t, s.Status(w.subject(t), now))
		s, err = status.NewSnapshot(trust, 0, crl{by: w.ca}.list(t))
		require.NoError(t, err)
		good().check(t, s.Status(w.subject(t), now))
	})
}

func TestTrustTakesParsedCertificatesAlone(t *testing.T) {
	_, err := status.NewTrust([]*x509.Certificate{nil}, nil)
	assert.ErrorContains(t, err, "certificate 0 of those that are trusted is not parsed")
	_, err = status.NewTrust(nil, []*x509.Certificate{{}})
	assert.Error(t, err)
	var none *status.Trust
	w := newWorld(t)
	l := crl{by: w.ca}.list(t)
	assert.ErrorIs(t, none.Verify(l), status.ErrUnverified)
	assert.NoError(t, w.trust(t).Verify(l))
	assert.Error(t, w.trust(t).Verify(nil))
	taken := w.snapshot(t, []*status.List{l}).Lists()[0].List
	assert.ErrorContains(t, w.trust(t).Verify(taken), "came out of a Snapshot")
	assert.NoError(t, w.trust(t).Verify(l), "the one that was given is as it was")
}

func TestASubjectNeedsASerialNumber(t *testing.T) {
	w := newWorld(t)
	for name, chain := range map[string][]*x509.Certificate{
		"no certificate":                        nil,
		"a nil certificate":                     {w.leaf, nil},
		"no serial number":                      {{RawIssuer: w.leaf.RawIssuer}},
		"a serial number that no list can hold": {{RawIssuer: w.leaf.RawIssuer, SerialNumber: new(big.Int).Lsh(big.NewInt(1), 300)}},
	} {
		_, err := status.NewSubject(chain)
		assert.Error(t, err, name)
	}
	all, err := status.NewSubjects(w.chain())
	require.NoError(t, err)
	assert.Len(t, all, 2, "no list is about the root")
	all, err = status.NewSubjects(nil)
	require.NoError(t, err)
	assert.Empty(t, all)
}

// P11: nothing is allocated where a check asks for a status.
func TestAStatusAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	apart := certify(t, "CA", newKey(t), w.root, crlSigner)
	for name, s := range map[string]*status.Snapshot{
		"good":     w.snapshot(t, []*status.List{crl{by: w.ca}.list(t)}),
		"revoked":  w.snapshot(t, []*status.List{crl{by: w.ca, entries: [][]byte{entry(w.leaf.SerialNumber, yesterday)}}.list(t)}),
		"separate": w.snapshot(t, []*status.List{crl{by: apart}.list(t), crl{by: w.root}.list(t)}, apart),
		"unknown":  w.snapshot(t, nil),
	} {
		c := w.subject(t)
		assert.Zero(t, testing.AllocsPerRun(100, func() { s.Status(c, now) }), name)
	}
}
