package status_test

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// Which list is the one of a certificate's distribution points (RFC 5280 6.3.3 (b)).
func TestDistributionPointsMatchLists(t *testing.T) {
	const here, there = "http://lists.example/1.crl", "http://lists.example/2.crl"
	ca := nameOf("CA")
	p := func(parts ...[]byte) []byte { return tlv(0x30, parts...) }
	for _, c := range []struct {
		name   string
		points [][]byte
		scope  []byte // nil: none
		want   want
	}{
		{"no points, no scope", nil, nil, good()},
		{"a point, no scope", [][]byte{p(fullName(uriName(here)))}, nil, good()},
		{"the point's URL", [][]byte{p(fullName(uriName(here)))}, idp(fullName(uriName(here))), good()},
		{"one of its URLs", [][]byte{p(fullName(uriName(there), uriName(here)))}, idp(fullName(uriName("http://x/"), uriName(here))), good()},
		{"one of its points", [][]byte{p(fullName(uriName(there))), p(fullName(uriName(here)))}, idp(fullName(uriName(here))), good()},
		{"scheme and host have no case", [][]byte{p(fullName(uriName("HTTP://Lists.Example/1.crl")))}, idp(fullName(uriName(here))), good()},
		{"a path has case", [][]byte{p(fullName(uriName("http://lists.example/1.CRL")))}, idp(fullName(uriName(here))), unknown(status.NoList)},
		{"another URL", [][]byte{p(fullName(uriName(there)))}, idp(fullName(uriName(here))), unknown(status.NoList)},
		{"a URL, and no points", nil, idp(fullName(uriName(here))), unknown(status.NoList)},
		{"a directory name", [][]byte{p(fullName(dirName(nameOf("Point"))))}, idp(fullName(dirName(nameOf("Point")))), good()},
		{"a directory name in other case and space", [][]byte{p(fullName(dirName(nameOf("The  Point "))))}, idp(fullName(dirName(nameOf("the point")))), good()},
		{"another directory name", [][]byte{p(fullName(dirName(nameOf("Point"))))}, idp(fullName(dirName(nameOf("Point 2")))), unknown(status.NoList)},
		{"the CA's name, and no points", nil, idp(fullName(dirName(ca))), good()},
		{"relative, both", [][]byte{p(relativeName("Point"))}, idp(relativeName("Point")), good()},
		{"relative, another", [][]byte{p(relativeName("Point"))}, idp(relativeName("Point 2")), unknown(status.NoList)},
		{"users", nil, idp(flag(1)), good()},
		{"CAs", nil, idp(flag(2)), unknown(status.NoList)},
		{"attribute certificates", nil, idp(flag(5)), unknown(status.NoList)},
		{"a scope that says nothing", nil, idp(), good()},
		{"some reasons", nil, idp(tlv(0x83, reasonBits(1, 2))), unknown(status.PartOfReasons)},
		{"all reasons", nil, idp(tlv(0x83, reasonBits(1, 2, 3, 4, 5, 6, 7, 8))), good()},
		{"no reasons", nil, idp(tlv(0x83, []byte{0})), unknown(status.NoList)},
		{"a point of some reasons, and one without saying", [][]byte{p(fullName(uriName(here)), tlv(0x81, reasonBits(1)))}, nil, good()},
		{"a point of some reasons", [][]byte{p(fullName(uriName(here)), tlv(0x81, reasonBits(1)))}, idp(fullName(uriName(here))), unknown(status.PartOfReasons)},
		{"a CRL issuer, of a list that is not indirect", [][]byte{p(fullName(uriName(here)), tlv(0xa2, dirName(ca)))}, idp(fullName(uriName(here))), unknown(status.NoList)},
		{"points that cannot be read", [][]byte{p(tlv(0x82, nil))}, nil, unknown(status.BadPoints)},
		{"an extension without points", [][]byte{}, nil, unknown(status.BadPoints)},
		{"a point without a name or issuer", [][]byte{p(tlv(0x81, reasonBits(1)))}, nil, unknown(status.BadPoints)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.leaf = rawLeaf(t, w.ca, c.points)
			made := crl{by: w.ca}
			if c.scope != nil {
				made.exts = [][]byte{c.scope}
			}
			c.want.check(t, w.snapshot(t, []*status.List{made.list(t)}).Status(w.subject(t), now))

			made.entries = [][]byte{entry(w.leaf.SerialNumber, yesterday)}
			r := w.snapshot(t, []*status.List{made.list(t)}).Status(w.subject(t), now)
			if c.want == unknown(status.NoList) {
				c.want.check(t, r)
			} else {
				revoked().check(t, r)
			}
			l := made.list(t)
			assert.Equal(t, r.State == status.Revoked, l.Covers(w.subject(t)) != 0)
		})
	}
}

// rawLeaf makes a leaf, and leaves reading its points to the package: crypto/x509 would
// refuse some.
func rawLeaf(t *testing.T, ca *authority, points [][]byte) *x509.Certificate {
	t.Helper()
	c := certify(t, "Leaf", newKey(t), ca, leafAt()).cert
	if points != nil {
		c.Extensions = append(c.Extensions, x509Extension(oidCDP, tlv(0x30, points...)))
	}
	return c
}

func TestPartitionsByReasonCoverTogether(t *testing.T) {
	w := newWorld(t)
	some := func(reasons ...int) crl { return crl{by: w.ca, exts: [][]byte{idp(tlv(0x83, reasonBits(reasons...)))}} }
	compromise, rest := some(1, 2, 8), some(3, 4, 5, 6, 7)
	status2 := func(lists ...crl) status.Result {
		var all []*status.List
		for _, c := range lists {
			all = append(all, c.list(t))
		}
		return w.snapshot(t, all).Status(w.subject(t), now)
	}
	unknown(status.PartOfReasons).check(t, status2(compromise))
	good().check(t, status2(compromise, rest))
	rest.nextUpdate = now.Add(-1)
	want{state: status.Good, late: true}.check(t, status2(compromise, rest))
	rest.thisUpdate, rest.nextUpdate = at("2021-01-01T00:00:00Z"), at("2021-02-01T00:00:00Z")
	unknown(status.PartOfReasons).check(t, status2(compromise, rest))
	rest.entries = [][]byte{entry(w.leaf.SerialNumber, yesterday)}
	revoked().check(t, status2(compromise, rest))
}

func TestListsOfCAsAreNotOfUsers(t *testing.T) {
	w := newWorld(t)
	ca := subjectOf(t, w.ca.cert, w.root.cert)
	for _, c := range []struct {
		scope []byte
		want  want
	}{{idp(flag(1)), unknown(status.NoList)}, {idp(flag(2)), good()}, {idp(flag(5)), unknown(status.NoList)}, {idp(), good()}} {
		s := w.snapshot(t, []*status.List{crl{by: w.root, exts: [][]byte{c.scope}}.list(t)})
		c.want.check(t, s.Status(ca, now))
	}
}

// Indirect lists: whose entries are whose, and who may sign them.
func TestIndirectLists(t *testing.T) {
	const url = "http://lists.example/all.crl"
	root := certify(t, "Root", newKey(t), nil)
	issuer := certify(t, "Lists", newKey(t), root, crlSigner)
	ca := certify(t, "CA", newKey(t), root)
	leaf := certify(t, "Leaf", newKey(t), ca, leafAt(tlv(0x30, fullName(uriName(url)), tlv(0xa2, dirName(issuer.cert.RawSubject))))).cert
	c := subjectOf(t, leaf, ca.cert, root.cert)
	trust, err := status.NewTrust([]*x509.Certificate{root.cert}, []*x509.Certificate{issuer.cert, ca.cert})
	require.NoError(t, err)
	arl := crl{by: root}.list(t)
	serial, other := leaf.SerialNumber, big1()
	indirect := idp(fullName(uriName(url)), flag(4))
	ask := func(scope []byte, entries ...[]byte) status.Result {
		l := crl{by: issuer, exts: [][]byte{scope}, entries: entries}.list(t)
		s, err := status.NewSnapshot(trust, 0, arl, l)
		require.NoError(t, err)
		return s.Status(c, now)
	}
	caName, thirdName := ca.cert.RawSubject, nameOf("Third")
	good().check(t, ask(indirect))
	revoked().check(t, ask(indirect, entry(serial, yesterday, of(caName))))
	good().check(t, ask(indirect, entry(serial, yesterday)))                                                                              // the CRL issuer's own
	good().check(t, ask(indirect, entry(serial, yesterday, of(thirdName))))                                                               // another CA's
	revoked().check(t, ask(indirect, entry(other, yesterday, of(caName)), entry(serial, yesterday)))                                      // it goes on
	good().check(t, ask(indirect, entry(other, yesterday, of(caName)), entry(other, yesterday, of(thirdName)), entry(serial, yesterday))) // until the next
	revoked().check(t, ask(indirect, entry(other, yesterday, of(nameOf(" ca"))), entry(serial, yesterday)))                               // in another spelling
	unknown(status.NoList).check(t, ask(idp(fullName(uriName(url))), entry(serial, yesterday)))                                           // not indirect
	unknown(status.NoList).check(t, ask(idp(fullName(uriName(url+"2")), flag(4)), entry(serial, yesterday, of(caName))))                  // another point
	revoked().check(t, ask(idp(flag(4)), entry(serial, yesterday, of(caName))))                                                           // of all points

	t.Run("of a certificate that does not name the CRL issuer", func(t *testing.T) {
		plain := certify(t, "Leaf", newKey(t), ca, leafAt(tlv(0x30, fullName(uriName(url))))).cert
		l := crl{by: issuer, exts: [][]byte{indirect}, entries: [][]byte{entry(plain.SerialNumber, yesterday, of(caName))}}.list(t)
		s, err := status.NewSnapshot(trust, 0, arl, l)
		require.NoError(t, err)
		unknown(status.NoList).check(t, s.Status(subjectOf(t, plain, ca.cert, root.cert), now))
	})
	t.Run("by a CRL issuer below another root", func(t *testing.T) {
		root2 := certify(t, "Root 2", newKey(t), nil)
		imposter := certify(t, "Lists", newKey(t), root2, crlSigner)
		both, err := status.NewTrust([]*x509.Certificate{root.cert, root2.cert}, []*x509.Certificate{imposter.cert, ca.cert})
		require.NoError(t, err)
		l := crl{by: imposter, exts: [][]byte{indirect}, entries: [][]byte{entry(serial, yesterday, of(caName))}}.list(t)
		s, err := status.NewSnapshot(both, 0, arl, crl{by: root2}.list(t), l)
		require.NoError(t, err)
		unknown(status.SignerPath).check(t, s.Status(c, now))
	})
	t.Run("of the CRL issuer itself", func(t *testing.T) {
		own := certify(t, "Lists", newKey(t), root, crlSigner, leafPoint(tlv(0x30, tlv(0xa2, dirName(nameOf("Lists"))))))
		trust, err := status.NewTrust([]*x509.Certificate{root.cert}, []*x509.Certificate{own.cert, ca.cert})
		require.NoError(t, err)
		l := crl{by: own, exts: [][]byte{indirect}}.list(t)
		s, err := status.NewSnapshot(trust, 0, l)
		require.NoError(t, err)
		unknown(status.SignerStatus).check(t, s.Status(c, now))
		for name, want := range map[string]want{"Lists": good(), "Another": unknown(status.SignerStatus)} {
			l = crl{by: own, exts: [][]byte{idp(fullName(uriName(url), dirName(nameOf(name))), flag(4))}}.list(t)
			s, err = status.NewSnapshot(trust, 0, l)
			require.NoError(t, err)
			want.check(t, s.Status(c, now)) // a point without a name has that of its CRL issuer
		}
		l = crl{by: own, exts: [][]byte{idp(flag(4))}}.list(t)
		s, err = status.NewSnapshot(trust, 0, l)
		require.NoError(t, err)
		good().check(t, s.Status(c, now))
		s, err = status.NewSnapshot(trust, 0, crl{by: own, exts: [][]byte{idp(flag(4))}, entries: [][]byte{entry(own.cert.SerialNumber, yesterday, of(root.cert.RawSubject))}}.list(t))
		require.NoError(t, err)
		unknown(status.SignerStatus).check(t, s.Status(c, now)) // it revokes itself
		revoked().check(t, s.Status(subjectOf(t, own.cert, root.cert), now))
	})
}
