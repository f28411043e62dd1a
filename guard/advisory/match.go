package advisory

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"
)

// Facts are what an advisory asks of a certificate. FactsOf fills in what the
// certificate alone tells; who signed it, and whether its key is weak, is for the
// caller to add. What is left out is unknown, not absent, unless said otherwise.
type Facts struct {
	NotBefore      time.Time // zero: not known
	Serial         [20]byte  // big-endian
	SerialOversize bool      // negative or more than 20 octets: in no set of serials

	SPKISHA256    [32]byte // SHA-256 of the DER of SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7
	ModulusSHA256 [32]byte // SHA-256 of the RSA modulus, big-endian without leading zeros
	HasModulus    bool     // false: not an RSA key

	AKI        []byte     // authority key identifier, RFC 5280 section 4.2.1.1; nil: the certificate has none
	IssuerSPKI [][32]byte // keys that are known, by signature, to have signed the certificate
	// NotIssuerSPKI are keys that are known, by signature, not to have signed it.
	NotIssuerSPKI [][32]byte
	IssuerKnown   bool // whether IssuerSPKI was found; false, or true without a key: not known

	PolicyOID          []string      // certificate policies in dotted decimals; nil: none
	KeyUsage           x509.KeyUsage // 0: no key usage extension
	SignatureAlgorithm string        // as crypto/x509 spells it; empty: not known
	KeyBits            int           // 0: not known

	WeakKeys       []string // weaknesses of the key
	WeakKeysJudged bool     // false: not judged
}

// FactsOf collects what the certificate itself tells. Who signed it stays
// unknown, and weak keys stay not judged. The facts share memory with the
// certificate, which must not be changed.
func FactsOf(c *x509.Certificate) Facts {
	f := Facts{
		NotBefore:  c.NotBefore,
		SPKISHA256: sha256.Sum256(c.RawSubjectPublicKeyInfo),
		AKI:        c.AuthorityKeyId,
		KeyUsage:   c.KeyUsage,
	}
	if c.SerialNumber == nil || c.SerialNumber.Sign() < 0 || c.SerialNumber.BitLen() > 8*serialBytes {
		f.SerialOversize = true
	} else {
		c.SerialNumber.FillBytes(f.Serial[:])
	}
	for _, p := range c.Policies {
		f.PolicyOID = append(f.PolicyOID, p.String())
	}
	if c.SignatureAlgorithm != x509.UnknownSignatureAlgorithm {
		f.SignatureAlgorithm = c.SignatureAlgorithm.String()
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		f.KeyBits = key.N.BitLen()
		f.ModulusSHA256 = sha256.Sum256(key.N.Bytes())
		f.HasModulus = true
	case *ecdsa.PublicKey:
		f.KeyBits = key.Curve.Params().BitSize
	case ed25519.PublicKey:
		f.KeyBits = 8 * len(key)
	}
	return f
}

// Membership says whether a certificate belongs to the population of an advisory.
type Membership struct {
	In Truth

	// Fixed: the certificate is in the population, but FixedWhen makes it good.
	// In is No then.
	Fixed bool

	// Clause is the index in Match of the first clause that says yes, also where
	// Except or FixedWhen then says no; -1 where none says yes.
	Clause int

	// NotKnown is what could not be told, in plain words, where In is Unknown.
	NotKnown string
}

// What can be unknown about a certificate.
const (
	issuedWhenUnknown = "when the certificate was issued"
	issuerUnknown     = "which authority's key signed the certificate"
	weakKeyUnknown    = "whether the key is weak"
	algorithmUnknown  = "which algorithm the certificate is signed with"
	keyBitsUnknown    = "how long the key is"
)

// Judge tells whether the certificate that the facts describe belongs to the
// population: some clause of Match holds, none of Except, none of FixedWhen. It
// asks neither state nor dates of the advisory: see [Advisory.At].
//
// Answers are three-valued (Kleene): a condition that cannot be told makes the
// answer Unknown only where it would decide it. Judge allocates nothing.
func (a *Advisory) Judge(f *Facts) Membership {
	match, clause, why := anyClause(a.Match, f)
	if match == No {
		return Membership{In: No, Clause: -1}
	}
	except, _, exceptWhy := anyClause(a.Except, f)
	if except == Yes {
		return Membership{In: No, Clause: clause}
	}
	fixed, _, fixedWhy := anyClause(a.FixedWhen, f)
	in := match == Yes && except == No
	switch {
	case fixed == Yes:
		return Membership{In: No, Clause: clause, Fixed: in}
	case in && fixed == No:
		return Membership{In: Yes, Clause: clause}
	case why != "":
	case exceptWhy != "":
		why = exceptWhy
	default:
		why = fixedWhy
	}
	return Membership{In: Unknown, Clause: clause, NotKnown: why}
}

// anyClause is the disjunction of the clauses: the index of the first yes or -1,
// and, for Unknown, the first thing that is not known.
func anyClause(clauses []Clause, f *Facts) (Truth, int, string) {
	in, why := No, ""
	for i := range clauses {
		t, w := clauses[i].judge(f)
		switch {
		case t == Yes:
			return Yes, i, ""
		case t == Unknown && in == No:
			in, why = Unknown, w
		}
	}
	return in, -1, why
}

// conjunction collects the conditions of a clause that were not answered no.
type conjunction struct {
	asked    bool
	notKnown string
}

// rejects takes the next condition and tells whether it is a plain no.
func (k *conjunction) rejects(t Truth, notKnown string) bool {
	k.asked = true
	if t == Unknown && k.notKnown == "" {
		k.notKnown = notKnown
	}
	return t == No
}

// judge asks the cheapest conditions first. A clause without conditions holds
// for nobody.
func (c *Clause) judge(f *Facts) (Truth, string) {
	var k conjunction
	switch {
	case c.NotBefore != nil && k.rejects(c.NotBefore.holds(f.NotBefore), issuedWhenUnknown),
		c.KeyBits != nil && k.rejects(c.KeyBits.holds(f.KeyBits), keyBitsUnknown),
		c.Issuer != nil && k.rejects(c.Issuer.holds(f), issuerUnknown),
		len(c.KeyUsage) > 0 && k.rejects(truth(f.KeyUsage&keyUsageOf(c.KeyUsage) == keyUsageOf(c.KeyUsage)), ""),
		len(c.SignatureAlgorithm) > 0 && k.rejects(algorithmHolds(c.SignatureAlgorithm, f), algorithmUnknown),
		len(c.PolicyOID) > 0 && k.rejects(truth(overlap(c.PolicyOID, f.PolicyOID)), ""),
		len(c.WeakKey) > 0 && k.rejects(weakKeyHolds(c.WeakKey, f), weakKeyUnknown),
		len(c.SPKISHA256) > 0 && k.rejects(truth(slices.Contains(c.SPKISHA256, f.SPKISHA256)), ""),
		len(c.ModulusSHA256) > 0 && k.rejects(truth(f.HasModulus && slices.Contains(c.ModulusSHA256, f.ModulusSHA256)), ""),
		c.Serials != nil && k.rejects(truth(!f.SerialOversize && c.Serials.Contains(&f.Serial)), ""):
		return No, ""
	case !k.asked:
		return No, ""
	case k.notKnown != "":
		return Unknown, k.notKnown
	}
	return Yes, ""
}

func truth(b bool) Truth {
	if b {
		return Yes
	}
	return No
}

func (w *Window) holds(notBefore time.Time) Truth {
	if notBefore.IsZero() {
		return Unknown
	}
	return truth(!notBefore.Before(w.From) && (w.To.IsZero() || notBefore.Before(w.To)))
}

func (b *KeyBits) holds(bits int) Truth {
	if bits == 0 {
		return Unknown
	}
	return truth(bits >= b.Min && (b.Max == 0 || bits <= b.Max))
}

// holds goes by the key that signed the certificate where the advisory names it
// and the caller found it; else by the key identifier that the certificate
// carries; and by the name never.
func (i *Issuer) holds(f *Facts) Truth {
	if i.Any {
		return Yes
	}
	if len(i.SPKISHA256) > 0 && f.IssuerKnown && len(f.IssuerSPKI) > 0 {
		for _, key := range f.IssuerSPKI {
			if slices.Contains(i.SPKISHA256, key) {
				return Yes
			}
		}
		return No
	}
	if len(i.AKI) == 0 && allIn(i.SPKISHA256, f.NotIssuerSPKI) {
		return No
	}
	if len(i.AKI) == 0 || len(f.AKI) == 0 {
		return Unknown
	}
	for _, id := range i.AKI {
		if bytes.Equal(id, f.AKI) {
			return Yes
		}
	}
	return No
}

func allIn(keys, among [][32]byte) bool {
	for _, key := range keys {
		if !slices.Contains(among, key) {
			return false
		}
	}
	return true
}

func algorithmHolds(wanted []string, f *Facts) Truth {
	if f.SignatureAlgorithm == "" {
		return Unknown
	}
	return truth(slices.Contains(wanted, f.SignatureAlgorithm))
}

func weakKeyHolds(wanted []string, f *Facts) Truth {
	if !f.WeakKeysJudged {
		return Unknown
	}
	return truth(overlap(wanted, f.WeakKeys))
}

func overlap(a, b []string) bool {
	for _, s := range a {
		if slices.Contains(b, s) {
			return true
		}
	}
	return false
}

// keyUsageNames are those of RFC 5280 section 4.2.1.3, in the order of its bits;
// bit 1 is contentCommitment, which earlier editions of X.509 called
// nonRepudiation.
var keyUsageNames = []string{
	"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement",
	"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
}

// keyUsageOf is the usage that has all the named bits. crypto/x509 numbers them
// as RFC 5280 does. A name that is not one, which Parse refuses, becomes a bit
// that no certificate has.
func keyUsageOf(names []string) (u x509.KeyUsage) {
	for _, name := range names {
		bit := slices.Index(keyUsageNames, name)
		if bit < 0 {
			bit = 30
		}
		u |= 1 << bit
	}
	return u
}
