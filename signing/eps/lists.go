package eps

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"
)

// listed is a certificate as revocation lists see it.
type listed struct {
	cert   *x509.Certificate
	issuer string  // its issuer's name, folded
	points []point // where its lists are
	http   []point // those that the service can fetch
	every  []point // points, and the one that each certificate has without naming it
	bad    string  // why its points are not known
}

func newListed(cert *x509.Certificate) listed {
	c := listed{cert: cert, issuer: foldName(cert.RawIssuer)}
	var err error
	if c.points, err = readPoints(cert); err != nil {
		c.bad = err.Error()
	}
	for _, p := range c.points {
		if p.http {
			c.http = append(c.http, p)
		}
	}
	// RFC 5280 6.3.3, last paragraph: a list that no point names, but of the
	// certificate's issuer.
	c.every = append(slices.Clip(c.points), point{names: [][]byte{directoryName(cert.RawIssuer)}, reasons: allReasons})
	return c
}

// list is a CRL or ARL (RFC 5280 5) with what is asked of it worked out once.
type list struct {
	crl     *x509.RevocationList
	issuer  string // its name, folded
	scope   scope
	delta   bool               // RFC 5280 5.2.4: only what changed
	unread  string             // why it decides nothing: what it holds cannot be read
	signers []*authority       // with whose keys its signature verifies, and who may sign lists
	unsure  string             // why there are none
	entries func() *entryIndex // made when first asked for: lists of 100,000 are seen
}

func newList(crl *x509.RevocationList) *list {
	l := &list{crl: crl, issuer: foldName(crl.RawIssuer)}
	var err error
	if l.scope, err = readScope(crl); err != nil {
		l.unread = err.Error()
	}
	l.delta = extension(crl.Extensions, oidDeltaIndicator) != nil
	for _, e := range crl.Extensions {
		switch {
		case !e.Critical, e.Id.Equal(oidIssuingPoint), e.Id.Equal(oidAuthorityKeyID), e.Id.Equal(oidCRLNumber):
		case l.unread == "": // RFC 5280 5.2: then it must not be used
			l.unread = fmt.Sprintf("its critical extension %v is not known here", e.Id)
		}
	}
	l.entries = sync.OnceValue(func() *entryIndex { return indexEntries(crl, l.scope.indirect) })
	return l
}

// verify finds which authorities signed the list.
func (l *list) verify(named []*authority) {
	l.unsure = "no CA of that name is configured"
	for _, a := range named {
		switch {
		case a.cert.CheckSignature(l.crl.SignatureAlgorithm, l.crl.RawTBSRevocationList, l.crl.Signature) != nil:
			l.unsure = "its signature does not verify with the key of CA certificate " + serialOf(a.cert)
		case a.cert.KeyUsage&x509.KeyUsageCRLSign == 0 && (a.cert.KeyUsage != 0 || !a.cert.IsCA): // RFC 5280 6.3.3 (f)
			l.unsure = "CA certificate " + serialOf(a.cert) + " may not sign lists: its key usage has no cRLSign"
		default:
			l.signers = append(l.signers, a)
		}
	}
}

// signedBy tells whether the key that signed the list is an authority's.
func (l *list) signedBy(a *authority) bool {
	return slices.ContainsFunc(l.signers, func(s *authority) bool {
		return bytes.Equal(s.cert.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo)
	})
}

func (l *list) String() string {
	number := ""
	if l.crl.Number != nil {
		number = " number " + l.crl.Number.String()
	}
	return fmt.Sprintf("the list%s of %s by %s", number, instant(l.crl.ThisUpdate), clip(l.crl.Issuer.String(), 200))
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// entryIndex finds entries by serial, and in an indirect list by issuer and serial.
type entryIndex struct {
	first  map[string]*x509.RevocationListEntry
	more   map[string][]*x509.RevocationListEntry // of those that come again
	unread string                                 // why none counts
}

// entryKey tells serials of every sign and length apart; issuer ends itself.
func entryKey(issuer string, serial *big.Int) string {
	magnitude := serial.Bytes()
	k := make([]byte, 0, len(issuer)+1+len(magnitude))
	return string(append(append(append(k, issuer...), byte(serial.Sign())), magnitude...))
}

func indexEntries(crl *x509.RevocationList, indirect bool) *entryIndex {
	x := &entryIndex{first: make(map[string]*x509.RevocationListEntry, len(crl.RevokedCertificateEntries))}
	issuer := "" // of an indirect list: RFC 5280 5.3.3, it goes on until another is named
	if indirect {
		issuer = foldName(crl.RawIssuer)
	}
	for i := range crl.RevokedCertificateEntries {
		e := &crl.RevokedCertificateEntries[i]
		if e.SerialNumber == nil {
			continue
		}
		for j := range e.Extensions {
			switch ext := &e.Extensions[j]; {
			case ext.Id.Equal(oidCertificateIssuer) && indirect:
				name, err := readCertificateIssuer(ext.Value)
				if err != nil {
					x.unread = fmt.Sprintf("the certificate issuer of its entry %x cannot be read: %v", e.SerialNumber, err)
				}
				issuer = foldName(name)
			case !ext.Critical, ext.Id.Equal(oidReasonCode), ext.Id.Equal(oidInvalidityDate):
			default: // RFC 5280 5.3: then the whole list must not be used
				x.unread = fmt.Sprintf("the critical extension %v of its entry %x is not known here", ext.Id, e.SerialNumber)
			}
		}
		k := entryKey(issuer, e.SerialNumber)
		if _, again := x.first[k]; !again {
			x.first[k] = e
			continue
		}
		if x.more == nil {
			x.more = map[string][]*x509.RevocationListEntry{}
		}
		x.more[k] = append(x.more[k], e)
	}
	return x
}

// readCertificateIssuer returns the Name that an entry's certificate is issued under
// (RFC 5280 5.3.3).
func readCertificateIssuer(der []byte) ([]byte, error) {
	var names []asn1.RawValue
	if err := unmarshalDER(der, &names); err != nil {
		return nil, err
	}
	for _, n := range names {
		if n.Class == asn1.ClassContextSpecific && n.Tag == tagDirectoryName {
			return n.Bytes, nil
		}
	}
	return nil, fmt.Errorf("it holds no directory name")
}

// entry returns the first entry for a certificate that revokes it as of an instant, or
// else the first one.
func (l *list) entry(c *listed, at time.Time) *x509.RevocationListEntry {
	x, issuer := l.entries(), ""
	if l.scope.indirect {
		issuer = c.issuer
	}
	k := entryKey(issuer, c.cert.SerialNumber)
	e := x.first[k]
	if e == nil || revokes(e, at) {
		return e
	}
	for _, other := range x.more[k] {
		if revokes(other, at) {
			return other
		}
	}
	return e
}

// revokes tells whether an entry revokes a certificate for a signature of an instant.
// A key, a CA or an attribute authority that is compromised does, whatever the date;
// for other reasons, and for none, a signature made before stands.
func revokes(e *x509.RevocationListEntry, at time.Time) bool {
	switch e.ReasonCode {
	case 1, 2, 10:
		return true
	}
	return !at.Before(e.RevocationTime)
}

// reasonNames are the reason codes of RFC 5280 5.3.1.
var reasonNames = map[int]string{0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
	5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise"}

func whyRevoked(l *list, c *x509.Certificate, e *x509.RevocationListEntry) string {
	reason := reasonNames[e.ReasonCode]
	if reason == "" {
		reason = "unknown"
	}
	return fmt.Sprintf("certificate %s is on %s, revoked at %s, reason %d (%s)", serialOf(c), l, instant(e.RevocationTime), e.ReasonCode, reason)
}

// series are the copies of one list that were given, the newest first.
type series []*list

// newestFirst orders by CRL number (RFC 5280 5.2.3) where all have one, and by
// thisUpdate otherwise.
func (s series) newestFirst() {
	numbered := !slices.ContainsFunc(s, func(l *list) bool { return l.crl.Number == nil })
	slices.SortStableFunc(s, func(a, b *list) int {
		if numbered {
			if c := b.crl.Number.Cmp(a.crl.Number); c != 0 {
				return c
			}
		}
		return b.crl.ThisUpdate.Compare(a.crl.ThisUpdate)
	})
}

// seriesOf groups lists: copies share issuer, key id and scope.
func seriesOf(lists []*list) []series {
	at := map[string]int{}
	var all []series
	for _, l := range lists {
		k := fmt.Sprintf("%x %x", l.issuer, l.crl.AuthorityKeyId)
		if e := extension(l.crl.Extensions, oidIssuingPoint); e != nil {
			k += fmt.Sprintf(" %x", e.Value)
		}
		if l.delta {
			k += " delta"
		}
		i, ok := at[k]
		if !ok {
			i = len(all)
			at[k] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], l)
	}
	for _, s := range all {
		s.newestFirst()
	}
	return all
}

// of tells for which reasons a series is a certificate's list at one of its points; 0:
// it is not. Two CAs may share a name, so key ids are compared where both are there.
func (s series) of(c *listed, points []point) reasons {
	crl := s[0].crl
	if id := c.cert.AuthorityKeyId; len(id) > 0 && len(crl.AuthorityKeyId) > 0 && !bytes.Equal(id, crl.AuthorityKeyId) && s[0].issuer == c.issuer {
		return 0
	}
	return s[0].covers(c, points)
}
