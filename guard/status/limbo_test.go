package status_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/need"
)

// limboCase is one case of C2SP's x509-limbo.
type limboCase struct {
	ID             string                       `json:"id"`
	Features       []string                     `json:"features"`
	Trusted        []string                     `json:"trusted_certs"`
	Untrusted      []string                     `json:"untrusted_intermediates"`
	Peer           string                       `json:"peer_certificate"`
	Time           *time.Time                   `json:"validation_time"`
	ExpectedResult string                       `json:"expected_result"`
	Name           struct{ Kind, Value string } `json:"expected_peer_name"`
	MaxDepth       *int                         `json:"max_chain_depth"`
	CRLs           []string                     `json:"crls"`
}

func (c limboCase) validate(t *testing.T) error {
	at := time.Now()
	if c.Time != nil {
		at = *c.Time
	}
	parse := func(pems ...string) (all []*x509.Certificate, err error) {
		for _, text := range pems {
			block, _ := pem.Decode([]byte(text))
			require.NotNil(t, block, c.ID)
			cert, err := status.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("crypto/x509: %w", err)
			}
			all = append(all, cert)
		}
		return all, nil
	}
	roots, err := parse(c.Trusted...)
	if err != nil {
		return err
	}
	below, err := parse(c.Untrusted...)
	if err != nil {
		return err
	}
	peer, err := parse(c.Peer)
	if err != nil {
		return err
	}
	require.Equal(t, "DNS", c.Name.Kind, c.ID)
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, DNSName: c.Name.Value}
	for _, cert := range roots {
		o.Roots.AddCert(cert)
	}
	for _, cert := range below {
		o.Intermediates.AddCert(cert)
	}
	chains, err := peer[0].Verify(o)
	if err != nil {
		return fmt.Errorf("crypto/x509: %w", err)
	}
	trust, err := status.NewTrust(roots, below)
	require.NoError(t, err)
	var lists []*status.List
	for _, text := range c.CRLs {
		l, err := status.Parse([]byte(text), 0)
		if err != nil {
			return err
		}
		lists = append(lists, l)
	}
	snapshot, err := status.NewSnapshot(trust, 0, lists...)
	require.NoError(t, err)
	why := errors.New("no chain is short enough")
	for _, chain := range chains {
		if c.MaxDepth != nil && len(chain)-2 > *c.MaxDepth {
			continue
		}
		if why = nil; len(c.CRLs) > 0 { // where there are none, revocation is not asked
			why = statusOf(t, snapshot, chain, at)
		}
		if why == nil {
			return nil
		}
	}
	return why
}

var limboDeviations = map[string]string{
	"pathlen::self-issued-certs-pathlen":           selfIssuedCount,
	"pathological::nc-dos-1":                       "crypto/x509 compares that many constraints and names, in little time",
	"rfc5280::aki::leaf-missing-aki":               "crypto/x509 asks for no authority key identifier",
	"rfc5280::ski::root-missing-ski":               "crypto/x509 asks for no subject key identifier",
	"rfc5280::ca-empty-subject":                    "crypto/x509 takes a CA without a name",
	"rfc5280::eku::ee-eku-empty":                   "crypto/x509 takes an empty extended key usage as none",
	"rfc5280::root-non-critical-basic-constraints": "crypto/x509 does not ask whether basic constraints are critical",
	"rfc5280::serial::too-long":                    "crypto/x509 takes serial numbers of more than 20 bytes",
	"rfc5280::validity::notafter-fractional":       "crypto/x509 compares instants, not seconds; the case is ambiguous",
}

func TestLimbo(t *testing.T) {
	var suite struct{ Testcases []limboCase }
	require.NoError(t, json.Unmarshal(need.Read(t, "limbo", "limbo.json"), &suite))
	require.Len(t, suite.Testcases, 43)
	total := newTally()
	for _, c := range suite.Testcases {
		total.judge(t, c.ID, c.validate(t), c.ExpectedResult == "SUCCESS", "")
	}
	total.report(t, "x509-limbo", limboDeviations)
}
