package status_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/need"
)

// pkitsCase is one case of NIST's Public Key Interoperability Test Suite.
type pkitsCase struct {
	Name                        string
	CertPath, CRLPath           []string
	ShouldValidate              bool
	InitialPolicySet            []string
	InitialPolicyMappingInhibit bool
	InitialExplicitPolicy       bool
	InitialAnyPolicyInhibit     bool
}

// section is the number of the case's section: 4.14 of "4.14.3 …".
func (c pkitsCase) section() string {
	n, _, _ := strings.Cut(c.Name, " ")
	return strings.Join(strings.Split(n, ".")[:2], ".")
}

// pkitsInstant is when the suite is judged: all that is to be valid is.
var pkitsInstant = time.Date(2011, 4, 15, 0, 0, 0, 0, time.UTC)

// outcome is what came of a case.
type outcome int

const (
	agreed outcome = iota
	leftOut
	disagreed
)

// validate is what a relying party does: a path by crypto/x509, and then the status
// of each of its certificates. The error says why the last certificate is not valid.
func (c pkitsCase) validate(t *testing.T) error {
	var certs []*x509.Certificate
	for _, name := range c.CertPath {
		cert, err := status.ParseCertificate(need.Read(t, "pkits", "certs", name))
		if err != nil {
			return fmt.Errorf("crypto/x509, certificate %s: %w", name, err)
		}
		certs = append(certs, cert)
	}
	var lists []*status.List
	for _, name := range c.CRLPath {
		l, err := status.Parse(need.Read(t, "pkits", "crls", name), 0)
		if err != nil {
			t.Logf("%s: list %s is not used: %v", c.Name, name, err)
			continue
		}
		lists = append(lists, l)
	}
	chains, err := c.verify(certs)
	if err != nil {
		return fmt.Errorf("crypto/x509: %w", err)
	}
	trust, err := status.NewTrust(certs[:1], certs[1:])
	require.NoError(t, err)
	snapshot, err := status.NewSnapshot(trust, 0, lists...)
	require.NoError(t, err)
	var why error
	for _, chain := range chains {
		if why = statusOf(t, snapshot, chain, pkitsInstant); why == nil {
			return nil
		}
	}
	return why
}

func (c pkitsCase) verify(certs []*x509.Certificate) ([][]*x509.Certificate, error) {
	o := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: pkitsInstant,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	o.Roots.AddCert(certs[0])
	for _, cert := range certs[1 : len(certs)-1] {
		o.Intermediates.AddCert(cert)
	}
	for _, p := range c.InitialPolicySet {
		if p == "anyPolicy" {
			p = "2.5.29.32.0"
		} else if n, ok := strings.CutPrefix(p, "NIST-test-policy-"); ok {
			p = "2.16.840.1.101.3.2.1.48." + n
		}
		oid, err := x509.ParseOID(p)
		if err != nil {
			return nil, err
		}
		o.CertificatePolicies = append(o.CertificatePolicies, oid)
	}
	return certs[len(certs)-1].Verify(o)
}

// statusOf fails with the first certificate of a chain that is not good.
func statusOf(t *testing.T, s *status.Snapshot, chain []*x509.Certificate, at time.Time) error {
	subjects, err := status.NewSubjects(chain)
	require.NoError(t, err)
	for i, c := range slices.Backward(subjects) {
		if r := s.Status(c, at); r.State != status.Good {
			return fmt.Errorf("status of %s: %s: %s", chain[i].Subject, r.State, r)
		}
	}
	return nil
}

// outside says why a case is not for this package.
func (c pkitsCase) outside(t *testing.T) string {
	if c.section() == "4.15" {
		return "delta lists"
	}
	for _, name := range c.CertPath {
		der := need.Read(t, "pkits", "certs", name)
		if cert, err := x509.ParseCertificate(der); err == nil && (cert.PublicKeyAlgorithm == x509.DSA || cert.SignatureAlgorithm == x509.DSAWithSHA1) || bytes.Contains(der, []byte("\x2a\x86\x48\xce\x38\x04")) {
			return "DSA"
		}
		if name := strings.TrimSuffix(name, "Cert.crt"); bytes.Contains(der, []byte("ldap://")) {
			return "LDAP, of " + name
		}
	}
	return ""
}

// The causes for which crypto/x509 decides otherwise than a suite wants. None is about
// revocation.
const (
	namesAsBytes      = "crypto/x509 compares names byte for byte, not as RFC 5280 7.1"
	selfIssuedCount   = "crypto/x509 counts self-issued certificates in path lengths"
	noPolicyInputs    = "crypto/x509 takes no initial-explicit-policy, initial-policy-mapping-inhibit or initial-any-policy-inhibit"
	noDirectoryNames  = "crypto/x509 knows no name constraints on directory names, and refuses them"
	hostsOfConstraint = "crypto/x509 takes a host in a constraint on e-mail addresses and URIs as a domain"
)

var pkitsDeviations = map[string]string{
	"4.3.3 Valid Name Chaining Whitespace Test3":                      namesAsBytes,
	"4.3.4 Valid Name Chaining Whitespace Test4":                      namesAsBytes,
	"4.3.5 Valid Name Chaining Capitalization Test5":                  namesAsBytes,
	"4.3.10 Valid Rollover from PrintableString to UTF8String Test10": namesAsBytes,
	"4.3.11 Valid UTF8String Case Insensitive Match Test11":           namesAsBytes,
	"4.6.15 Valid Self-Issued pathLenConstraint Test15":               selfIssuedCount,
	"4.6.17 Valid Self-Issued pathLenConstraint Test17":               selfIssuedCount,
	"4.8.1 All Certificates Same Policy Test1 (Subpart 3)":            noPolicyInputs,
	"4.8.2 All Certificates No Policies Test2 (Subpart 2)":            noPolicyInputs,
	"4.8.3 Different Policies Test3 (Subpart 2)":                      noPolicyInputs,
	"4.8.3 Different Policies Test3 (Subpart 3)":                      noPolicyInputs,
	"4.10.1.3 Valid Policy Mapping Test1 (Subpart 3)":                 noPolicyInputs,
	"4.12.3 inhibitAnyPolicy Test3 (Subpart 2)":                       noPolicyInputs,
	"4.13.1 Valid DN nameConstraints Test1":                           noDirectoryNames,
	"4.13.4 Valid DN nameConstraints Test4":                           noDirectoryNames,
	"4.13.5 Valid DN nameConstraints Test5":                           noDirectoryNames,
	"4.13.6 Valid DN nameConstraints Test6":                           noDirectoryNames,
	"4.13.11 Valid DN nameConstraints Test11":                         noDirectoryNames,
	"4.13.14 Valid DN nameConstraints Test14":                         noDirectoryNames,
	"4.13.18 Valid DN nameConstraints Test18":                         noDirectoryNames,
	"4.13.19 Valid Self-Issued DN nameConstraints Test19":             noDirectoryNames,
	"4.13.27 Valid DN and RFC822 nameConstraints Test27":              noDirectoryNames,
	"4.13.24 Invalid RFC822 nameConstraints Test24":                   hostsOfConstraint,
	"4.13.25 Valid RFC822 nameConstraints Test25":                     hostsOfConstraint,
	"4.13.36 Valid URI nameConstraints Test36":                        hostsOfConstraint,
}

// tally counts what came of a suite's cases.
type tally struct {
	count      map[outcome]int
	deviations map[string]string
}

func newTally() *tally { return &tally{map[outcome]int{}, map[string]string{}} }

// judge takes one case: the error of validating it, what was wanted, and why it is left
// out, if it is.
func (c *tally) judge(t *testing.T, name string, err error, valid bool, outside string) outcome {
	o := agreed
	switch {
	case outside != "":
		o = leftOut
		t.Logf("left out %s: %s", name, outside)
	case (err == nil) != valid:
		o = disagreed
		if err == nil {
			err = errors.New("found valid")
		}
		c.deviations[name] = err.Error()
	}
	c.count[o]++
	return o
}

// report prints the counts and each deviation, and fails for one that is not known, or
// known and gone.
func (c *tally) report(t *testing.T, suite string, known map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(c.deviations)) {
		t.Logf("disagreed %s: %s (%s)", name, known[name], c.deviations[name])
		assert.Contains(t, known, name, c.deviations[name])
	}
	for name := range known {
		assert.Contains(t, c.deviations, name, "a deviation that is gone")
	}
	t.Logf("%s: %d agreed, %d left out, %d disagreed", suite, c.count[agreed], c.count[leftOut], c.count[disagreed])
}

func TestPKITS(t *testing.T) {
	t.Setenv("GODEBUG", "x509negativeserial=1") // for 4.4.14 and 4.4.15, which crypto/x509 would not parse
	var cases []pkitsCase
	require.NoError(t, json.Unmarshal(need.Read(t, "pkits", "vectors.json"), &cases))
	require.Len(t, cases, 249)
	total, sections := newTally(), map[string]map[outcome]int{}
	for _, c := range cases {
		err := c.validate(t)
		o := total.judge(t, c.Name, err, c.ShouldValidate, c.outside(t))
		if sections[c.section()] == nil {
			sections[c.section()] = map[outcome]int{}
		}
		sections[c.section()][o]++
	}
	for _, s := range slices.Sorted(maps.Keys(sections)) {
		t.Logf("section %s: %d agreed, %d left out, %d disagreed", s, sections[s][agreed], sections[s][leftOut], sections[s][disagreed])
	}
	total.report(t, "PKITS", pkitsDeviations)
	assert.Equal(t, map[outcome]int{agreed: 21}, sections["4.4"], "basic revocation")
	assert.Equal(t, map[outcome]int{agreed: 35}, sections["4.14"], "distribution points")
}
