package eps

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rxguard/rxguard/internal/c14n"
)

// ownTable holds rxguard's own checks in the order in which they are made.
var ownTable = [15]struct{ name, text string }{
	{"structure", "Prescription cannot be read in one way only"},
	{"signed_info", "SignedInfo is not that of an EPS signature"},
	{"issuer_signature", "Certificate is not signed by a configured CA"},
	{"issuer_chain", "Issuing CA may not issue certificates"},
	{"crl_signature", "CRL is not signed by the certificate's issuer"},
	{"crl_age", "CRL is out of date"},
	{"certificate_revocation", "Certificate is revoked"},
	{"arl_signature", "ARL is not signed by the CA's issuer"},
	{"arl_age", "ARL is out of date"},
	{"ca_revocation", "CA certificate is revoked"},
	{"validity", "Certificate is not valid at the instant judged"},
	{"key_usage", "Certificate is not for signing"},
	{"policy", "Certificate has not the signing policy"},
	{"key_size", "Key is too small"},
	{"prescriber", "Certificate is not the prescriber's"}, // only when asked for
}

// opinion collects rxguard's own checks, in ownTable's order.
type opinion []Check

func (o *opinion) add(findings ...finding) {
	for _, f := range findings {
		n := len(*o)
		*o = append(*o, Check{Number: n + 1, Name: ownTable[n].name, Text: ownTable[n].text, Result: f.result, Why: f.why, Warning: f.warning})
	}
}

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15} // RFC 5280 4.2.1.3

// signingPolicy is the certificate policy of signing certificates.
var signingPolicy = func() x509.OID {
	oid, err := x509.OIDFromInts([]uint64{1, 2, 826, 0, 1275, 102, 0, 3, 2, 0})
	if err != nil {
		panic(err)
	}
	return oid
}()

// own makes rxguard's checks of a prescription whose Signature was examined.
func (v *Verifier) own(t *trust, l *leaf, p *Prescription, signature *c14n.Element, problem *MessageError, found signatureParts, at time.Time) []Check {
	o := make(opinion, 0, len(ownTable))
	o.add(structure(p, signature, problem, found))
	wanted := len(ownTable)
	if !v.MatchPrescriber {
		wanted--
	}
	if l == nil {
		for len(o) < wanted {
			o.add(undecided("there is no certificate that can be read"))
		}
		return o
	}
	issuing := best(l.by, at)
	cas := chain(issuing, at)
	crl := t.statusOf(&l.listed, "CRL", at)
	arl := t.statusOfChain(cas, at)
	o.add(signedInfoFinding(found),
		t.issuerSignature(l), issuerChain(cas, at),
		crl.signature, crl.age, crl.revoked,
		arl.signature, arl.age, arl.revoked,
		validity(l.cert, at), keyUsage(l.cert), policy(l.cert), v.keySize(l.cert))
	if v.MatchPrescriber {
		o.add(prescriber(l.cert, p.users))
	}
	return o
}

// structure wants a prescription that all readers read alike, so that what is signed
// and what is shown cannot differ.
func structure(p *Prescription, signature *c14n.Element, problem *MessageError, found signatureParts) finding {
	for _, err := range []*MessageError{p.err, problem, found.err} {
		if err != nil {
			return refused("%s", said(err))
		}
	}
	r := &reader{doc: p.doc, space: dsig}
	r.bare(signature)
	if r.err != nil {
		return refused("%s", said(r.err))
	}
	return passed
}

// bare wants an element, and those in it, without comments, instructions and CDATA.
func (r *reader) bare(e *c14n.Element) {
	for i := range e.Children {
		switch n := &e.Children[i]; n.Kind {
		case c14n.ElementNode:
			r.bare(n.Element)
		case c14n.TextNode:
			if slices.Contains(r.doc.Source()[n.Start:n.End], '<') {
				r.fail(e, "holds a CDATA section, wanted text")
			}
		case c14n.CommentNode:
			r.fail(e, "holds a comment, wanted none in a Signature")
		default:
			r.fail(e, "holds a processing instruction, wanted none in a Signature")
		}
	}
}

// signedInfoFinding wants the canonical SignedInfo of one of the two algorithms, which
// holds the canonicalisation, transform, signature and digest methods.
func signedInfoFinding(found signatureParts) finding {
	for _, a := range []Algorithm{RS256, RS1} {
		if _, ok := digestIn(a, found.signedInfo); !ok {
			continue
		}
		if a == RS1 {
			return finding{result: Passed, warning: "the signature is made with SHA-1 (RS1), which is open to collisions: RS256 is wanted of most applications"}
		}
		return passed
	}
	if found.signedInfo == nil {
		return refused("it cannot be made canonical")
	}
	a := RS256
	if found.method != nil && found.method.name == RS1.String() {
		a = RS1
	}
	return refused("%s", diagnose(a, found.signedInfo).Problem)
}

// issuerSignature wants a certificate that a configured CA's key signed. The national
// service goes by names and key ids alone, which anybody can copy.
func (t *trust) issuerSignature(l *leaf) finding {
	switch {
	case len(t.authorities) == 0:
		return undecided("no CAs are configured")
	case l.named == 0:
		return undecided("no configured CA is named %s, so the signature of certificate %s cannot be verified", issuerOf(l.cert), serialOf(l.cert))
	case len(l.by) == 0:
		return refused("certificate %s says that %s issued it, but its signature verifies with the key of none of the %d configured CAs of that name",
			serialOf(l.cert), issuerOf(l.cert), l.named)
	case isSHA1(l.cert.SignatureAlgorithm):
		return finding{result: Passed, warning: fmt.Sprintf("certificate %s is signed with SHA-1, which is open to collisions", serialOf(l.cert))}
	}
	return passed
}

// issuerOf names an issuer in a text.
func issuerOf(c *x509.Certificate) string { return clip(c.Issuer.String(), 200) }

func isSHA1(a x509.SignatureAlgorithm) bool {
	return a == x509.SHA1WithRSA || a == x509.ECDSAWithSHA1
}

// issuerChain wants CAs that may issue (RFC 5280 6.1.3, 6.1.4), as far as they are
// configured: each of them is trusted.
func issuerChain(cas []*authority, at time.Time) finding {
	if len(cas) == 0 {
		return undecided("the CA that signed the certificate is not configured")
	}
	if at.IsZero() {
		return noInstant
	}
	below := 0 // CAs, apart from those that are self-issued (RFC 5280 6.1.4 (l))
	for _, a := range cas {
		c := a.cert
		switch {
		case a.unfit != "":
			return refused("CA certificate %s may not issue certificates: %s", serialOf(c), a.unfit)
		case at.Before(c.NotBefore), at.After(c.NotAfter):
			return refused("CA certificate %s is valid from %s to %s, and the instant judged is %s", serialOf(c), instant(c.NotBefore), instant(c.NotAfter), instant(at))
		case (c.MaxPathLen > 0 || c.MaxPathLenZero) && below > c.MaxPathLen:
			return refused("CA certificate %s allows %d CAs below it, and there are %d", serialOf(c), c.MaxPathLen, below)
		}
		if !a.selfIssued() {
			below++
		}
	}
	return passed
}

var noInstant = undecided("the prescription has no author/time that can be read")

// validity is strict at both ends, as the national service is.
func validity(cert *x509.Certificate, at time.Time) finding {
	if at.IsZero() {
		return noInstant
	}
	if why := outside(cert, at, "the instant judged"); why != "" {
		return refused("certificate %s %s", serialOf(cert), why)
	}
	return passed
}

// keyUsage wants contentCommitment, critical and alone, no extended key usage (RFC 5280
// 4.2.1.3, 4.2.1.12), and no critical extension that is not known here.
func keyUsage(cert *x509.Certificate) finding {
	serial := serialOf(cert)
	if cert.KeyUsage&x509.KeyUsageContentCommitment == 0 {
		return refused("certificate %s has no key usage nonRepudiation (contentCommitment)", serial)
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return refused("certificate %s has the critical extension %v, which is not known here", serial, cert.UnhandledCriticalExtensions[0])
	}
	var warnings []string
	if !slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(oidKeyUsage) }) {
		warnings = append(warnings, "its key usage is not critical")
	}
	if cert.KeyUsage != x509.KeyUsageContentCommitment {
		warnings = append(warnings, "its key usage is more than nonRepudiation (contentCommitment)")
	}
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0 {
		warnings = append(warnings, "it has an extended key usage")
	}
	return warnedOf(serial, warnings)
}

func warnedOf(serial string, warnings []string) finding {
	if len(warnings) == 0 {
		return passed
	}
	return finding{result: Passed, warning: "certificate " + serial + ": " + strings.Join(warnings, ", ")}
}

func policy(cert *x509.Certificate) finding {
	if slices.ContainsFunc(cert.Policies, signingPolicy.Equal) {
		return passed
	}
	return warnedOf(serialOf(cert), []string{"it has not the policy " + signingPolicy.String() + " of signing certificates"})
}

// recommendedBits is the key size below which is warned of. Cards of 2020 to 2022 have
// 1024 bits.
const recommendedBits = 2048

func (v *Verifier) keySize(cert *x509.Certificate) finding {
	least := max(v.MinRSABits, minBits)
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		_, err := rsaKey(cert)
		var is *CertificateError
		if errors.As(err, &is) {
			return refused("certificate %s %s", is.Serial, is.Problem)
		}
		return refused("certificate %s has no RSA key", serialOf(cert))
	}
	switch bits := key.N.BitLen(); {
	case bits < least:
		return refused("certificate %s has an RSA key of %d bits, wanted at least %d", serialOf(cert), bits, least)
	case bits < recommendedBits:
		return warnedOf(serialOf(cert), []string{fmt.Sprintf("its RSA key has %d bits, wanted %d", bits, recommendedBits)})
	}
	return passed
}

// prescriber compares the user that the subject's common name begins with, 12 digits
// before an underscore, with the prescriber in the message.
func prescriber(cert *x509.Certificate, users []string) finding {
	user, _, cut := strings.Cut(cert.Subject.CommonName, "_")
	switch {
	case len(users) == 0:
		return undecided("the message names no user id (root %s) in its AgentPerson", userRoot)
	case !cut || len(user) != 12 || strings.Trim(user, "0123456789") != "":
		return undecided("the subject of certificate %s does not begin with a user id of 12 digits", serialOf(cert))
	}
	for _, u := range users {
		if u != user {
			return refused("certificate %s is user %s's, and the message names %s", serialOf(cert), user, excerpt(u))
		}
	}
	return passed
}
