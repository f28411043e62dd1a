package est

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/renewaltest"
)

// The client keeps the contract of an Enroller, whether the authority issues at once
// or decides later.
func TestTheClientKeepsTheContractOfAnEnroller(t *testing.T) {
	for name, script := range map[string]testcard.Script{
		"an authority that issues":        nil,
		"an authority that decides later": testcard.Sequence(later(1000)...),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			key := newKey(t)
			c := w.issue(t, testcard.Authentication, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("555000000001")})
			identity := &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
			s := testServer(t, w, false)
			s.Script(script)
			at := func(url string) (renewal.Enroller, error) {
				return New(Config{URL: url, Label: testcard.SigningESTLabel, Roots: w.ca.Roots()})
			}
			renewaltest.Run(t, renewaltest.Config{
				New: func() (renewal.Enroller, error) { return at(s.URL()) },
				At:  func(address string) (renewal.Enroller, error) { return at("https://" + address) },
				Transport: func(now func() time.Time) *renewal.Transport {
					return renewal.SoftwareTransport(identity, now)
				},
				Now:    clock,
				Issued: func() int { return len(s.Issued()) },
			})
		})
	}
}

// later is an authority's answer to so many requests.
func later(n int) (all []*testcard.Reply) {
	for range n {
		all = append(all, testcard.Pending(time.Hour))
	}
	return all
}
