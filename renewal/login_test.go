package renewal

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/testcard"
)

// authenticating gives the card a pair to log in with, until an instant.
func (w *world) authenticating(until time.Time, change func(*x509.Certificate)) {
	w.t.Helper()
	keys := testcard.CachedKeys()
	key, err := keys(2048)
	require.NoError(w.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(9), RawSubject: w.old.RawSubject, NotBefore: theTime.AddDate(0, -1, 0), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(w.t, err)
	w.clear(testcard.AuthenticationID())
	require.NoError(w.t, w.sim.Provision(testcard.Pair{ID: testcard.AuthenticationID(), Key: key, Certificate: der}))
}

// RFC 7030 4.2.2: subject and subjectAltName are those of the certificate that
// authenticates.
func TestARequestHasTheNamesOfTheCertificateThatAuthenticates(t *testing.T) {
	w := newWorld(t)
	w.authenticating(theTime.AddDate(1, 0, 0), func(c *x509.Certificate) { c.EmailAddresses = []string{"prescriber@example.org"} })
	w.mustRenew()
	csr, err := x509.ParseCertificateRequest(w.ca.requests[0].CSR)
	require.NoError(t, err)
	assert.Equal(t, w.old.RawSubject, csr.RawSubject)
	assert.Equal(t, []string{"prescriber@example.org"}, csr.EmailAddresses)

	plain := newWorld(t)
	plain.mustRenew()
	csr, err = x509.ParseCertificateRequest(plain.ca.requests[0].CSR)
	require.NoError(t, err)
	assert.False(t, slices.ContainsFunc(csr.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) }))
}

func TestACardThatCanNoLongerLogInMidwayIsSentToTheRegistrationAuthority(t *testing.T) {
	w := newWorld(t)
	w.authenticating(theTime.AddDate(0, 0, 2), nil)
	w.ca.answer = func(int, Request) (Answer, error) { return Answer{Pending: w.now.AddDate(0, 0, 3)}, nil }
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Pending)
	w.now = w.now.AddDate(0, 0, 4)
	asked := w.ca.asked()
	res, err = w.renewer().Renew(t.Context(), nil)
	e := ends(t, res, err, Resumable, "can no longer log in", "date of this computer")
	require.ErrorIs(t, e, errLoginEnded)
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	assert.Equal(t, asked, w.ca.asked())
	w.oldIsThere()
}
