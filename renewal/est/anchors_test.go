package est

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/renewal"
)

// rollover is an authority that changes its root: the four certificates of RFC 4210
// 4.4, and an issuing authority below each root.
type rollover struct {
	oldWithOld, newWithNew, oldWithNew, newWithOld, oldIssuing, newIssuing *x509.Certificate

	oldIssuingKey, newIssuingKey crypto.Signer
}

func certify(t *testing.T, subject, issuer pkix.Name, from time.Time, isCA bool, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: from, NotAfter: from.AddDate(20, 0, 0), IsCA: isCA, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: issuer}, pub, key)
	require.NoError(t, err)
	c, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

func newRollover(t *testing.T, changed time.Time) rollover {
	t.Helper()
	root, issuing := pkix.Name{CommonName: "root"}, pkix.Name{CommonName: "issuing"}
	long := instant.AddDate(-10, 0, 0)
	old, fresh := newKey(t), newKey(t)
	r := rollover{oldIssuingKey: newKey(t), newIssuingKey: newKey(t)}
	r.oldWithOld = certify(t, root, root, long, true, old.Public(), old)
	r.newWithNew = certify(t, root, root, changed, true, fresh.Public(), fresh)
	r.oldWithNew = certify(t, root, root, changed, true, old.Public(), fresh)
	r.newWithOld = certify(t, root, root, changed, true, fresh.Public(), old)
	r.oldIssuing = certify(t, issuing, root, long, true, r.oldIssuingKey.Public(), old)
	r.newIssuing = certify(t, issuing, root, changed, true, r.newIssuingKey.Public(), fresh)
	return r
}

// answers serves cacerts and one certificate.
func (w *world) answers(t *testing.T, cacerts []*x509.Certificate, leaf *x509.Certificate) string {
	t.Helper()
	give := func(certs ...*x509.Certificate) http.HandlerFunc {
		return reply(200, pkcs7Type, string(lines(certsOnly(t, certs...))))
	}
	return w.serverOf(t, give(cacerts...), give(leaf), nil).URL
}

func TestARootThatIsChanged(t *testing.T) {
	w := newWorld(t)
	changed := instant.AddDate(-1, 0, 0)
	r := newRollover(t, changed)
	subject := w.transport.AuthenticatesAs().Subject
	certify := func(issuer *x509.Certificate, key crypto.Signer) *x509.Certificate {
		c := certify(t, subject, issuer.Subject, instant.AddDate(0, 0, -1), false, w.key.Public(), key)
		require.Equal(t, w.transport.AuthenticatesAs().RawSubject, c.RawSubject)
		return c
	}
	oldLeaf, newLeaf := certify(r.oldIssuing, r.oldIssuingKey), certify(r.newIssuing, r.newIssuingKey)
	all := []*x509.Certificate{r.oldWithOld, r.newWithNew, r.oldWithNew, r.newWithOld, r.oldIssuing, r.newIssuing}
	without := func(not ...*x509.Certificate) (list []*x509.Certificate) {
		for _, c := range all {
			if !contains(not, c) {
				list = append(list, c)
			}
		}
		return list
	}
	later := newRollover(t, instant.AddDate(0, 1, 0))
	laterLeaf := certify(later.oldIssuing, later.oldIssuingKey)
	for name, row := range map[string]struct {
		cacerts []*x509.Certificate
		anchors *x509.CertPool
		leaf    *x509.Certificate
		chain   []*x509.Certificate // nil: refused
	}{
		"issued under the new, the old is the anchor":       {all, poolOf(all[:1]), newLeaf, []*x509.Certificate{r.newIssuing, r.newWithOld, r.oldWithOld}},
		"issued under the old, the new is the anchor":       {all, poolOf(all[1:2]), oldLeaf, []*x509.Certificate{r.oldIssuing, r.oldWithNew, r.newWithNew}},
		"issued under the new, the new is the anchor":       {all, poolOf(all[1:2]), newLeaf, []*x509.Certificate{r.newIssuing, r.newWithNew}},
		"the new, not signed by the old, which is it":       {without(r.newWithOld), poolOf(all[:1]), newLeaf, nil},
		"the old, not signed by the new, which is it":       {without(r.oldWithNew), poolOf(all[1:2]), oldLeaf, nil},
		"no anchor given, issued under the new":             {all, nil, newLeaf, []*x509.Certificate{r.newIssuing, r.newWithNew}},
		"no anchor given, issued under the old":             {all, nil, oldLeaf, []*x509.Certificate{r.oldIssuing, r.oldWithNew, r.newWithNew}},
		"no anchor given, the old not signed by the new":    {without(r.oldWithNew), nil, oldLeaf, nil},
		"no anchor given, a new root that is not valid yet": {[]*x509.Certificate{later.newWithNew, later.oldWithOld, later.oldIssuing}, nil, laterLeaf, []*x509.Certificate{later.oldIssuing, later.oldWithOld}},
		"no anchor given, the issuing authority alone":      {[]*x509.Certificate{r.newIssuing}, nil, newLeaf, []*x509.Certificate{r.newIssuing}},
		"no anchor given, another issuing authority alone":  {[]*x509.Certificate{r.oldIssuing}, nil, newLeaf, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.client(t, w.answers(t, row.cacerts, row.leaf), func(c *Config) { c.Anchors = row.anchors })
			a, err := c.Enrol(t.Context(), w.transport, w.request)
			if row.chain == nil {
				enrolment(t, err, renewal.WrongCertificate, "does not chain to")
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.leaf.Raw, a.Certificate)
			require.Equal(t, raw(row.chain), a.Chain)
		})
	}
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	for _, o := range list {
		if o.Equal(c) {
			return true
		}
	}
	return false
}

// An authority in between that cacerts names is no anchor where its root is there too,
// so that it counts only with the root's signature on it; nor is what only says that it
// signed itself.
func TestOnlyRootsOfCacertsAreAnchors(t *testing.T) {
	w := newWorld(t)
	name := pkix.Name{CommonName: "authority"}
	key, other := newKey(t), newKey(t)
	claims := certify(t, name, name, instant.AddDate(-1, 0, 0), true, key.Public(), other) // not by its own key
	stray := certify(t, name, pkix.Name{CommonName: "nobody"}, instant.AddDate(-1, 0, 0), true, key.Public(), other)
	leaf := certify(t, w.transport.AuthenticatesAs().Subject, name, instant.AddDate(0, 0, -1), false, w.key.Public(), key)
	for _, ca := range []*x509.Certificate{claims, stray} {
		_, err := w.client(t, w.answers(t, []*x509.Certificate{w.ca.RootCertificate(), ca}, leaf), nil).Enrol(t.Context(), w.transport, w.request)
		enrolment(t, err, renewal.WrongCertificate, "does not chain to the roots that cacerts sends")
	}
}

// Two authorities may share a name (RFC 5280 4.1.2.6 leaves it to them): given as
// Anchors both count, and the one that signed is in the chain.
func TestTwoRootsOfOneNameAreToldByTheirKey(t *testing.T) {
	w := newWorld(t)
	r := newRollover(t, instant.AddDate(-1, 0, 0))
	leaf := certify(t, w.transport.AuthenticatesAs().Subject, r.oldIssuing.Subject, instant.AddDate(0, 0, -1), false, w.key.Public(), r.oldIssuingKey)
	anchors := poolOf([]*x509.Certificate{r.newWithNew, r.oldWithOld})
	a, err := w.client(t, w.answers(t, []*x509.Certificate{r.newIssuing, r.oldIssuing}, leaf), func(c *Config) { c.Anchors = anchors }).Enrol(t.Context(), w.transport, w.request)
	require.NoError(t, err)
	require.Equal(t, [][]byte{r.oldIssuing.Raw, r.oldWithOld.Raw}, a.Chain)
}
