package renewal

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"github.com/rxguard/rxguard/internal/testcard"
)

// office is the authority.
type office struct {
	r      *rig
	csr    map[string][]byte // by Request.ID
	asked  int
	issued int
	mood   string                                    // of every answer from now on; empty: as ever
	answer func(issue func() Answer) (Answer, error) // of the next; nil: as ever
	refuse error                                     // every confirmation
	lose   error                                     // the next confirmation
}

func (o *office) Probe(context.Context, *Transport) error {
	err := o.r.at(point{kind: atExchange, name: "the authority says that it is there"})
	o.r.there = err == nil
	return err
}

func (o *office) Enrol(_ context.Context, t *Transport, q Request) (Answer, error) {
	if err := o.r.at(point{kind: atExchange, name: "the authority answers"}); err != nil {
		return Answer{}, err
	}
	o.asked++
	switch csr, known := o.csr[q.ID]; {
	case !known:
		o.csr[q.ID] = q.CSR
	case !bytes.Equal(csr, q.CSR):
		o.r.violated("the request of %s is another than before", q.ID)
	}
	if t.AuthenticatesAs() == nil || !o.r.over && (q.Current == nil || !q.Current.Equal(o.r.old)) {
		o.r.violated("the authority is not told who asks, or for which certificate")
	}
	issue := func() Answer {
		o.issued++
		c := issueAs(q.CSR, o.mood, o.issued)
		return Answer{Certificate: c.Raw, Chain: [][]byte{theCA().IssuingCertificate().Raw}}
	}
	if f := o.answer; f != nil {
		o.answer = nil
		return f(issue)
	}
	if o.mood == "rejects" {
		return Answer{}, &EnrolError{Kind: Rejected, Status: 403}
	}
	return issue(), nil
}

func (o *office) Confirm(_ context.Context, _ *Transport, _ Request, certificate []byte, p Proof) error {
	if err := o.r.at(point{kind: atExchange, name: "the authority takes the proof"}); err != nil {
		return err
	}
	if x, err := x509.ParseCertificate(certificate); err != nil || x.CheckSignature(x509.SHA256WithRSA, p.Challenge, p.Signature) != nil {
		o.r.violated("the proof does not verify")
	}
	if !o.r.oldThere() && !o.r.over {
		o.r.violated("the old pair was gone before the authority had its proof")
	}
	lose := o.lose
	o.lose = nil
	return errors.Join(o.refuse, lose)
}

var issuedBefore sync.Map // certificates of issueAs, which are the same in each case

// issueAs makes the nth certificate of a case for a request.
func issueAs(request []byte, mood string, n int) *x509.Certificate {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		panic(err)
	}
	of := fmt.Sprintf("%x %s %d", csr.RawSubjectPublicKeyInfo, mood, n)
	if c, ok := issuedBefore.Load(of); ok {
		return c.(*x509.Certificate)
	}
	pub, o := csr.PublicKey, testcard.IssueOptions{RawSubject: csr.RawSubject}
	switch mood {
	case "affected again":
		o.NotBefore = issued
	case "another key":
		pub = theCA().IssuingCertificate().PublicKey.(*rsa.PublicKey)
	case "another subject":
		o.RawSubject, o.Subject = nil, testcard.Subject("999999999999")
	case "expired":
		o.NotBefore, o.NotAfter = theTime.AddDate(-3, 0, 0), theTime.AddDate(-1, 0, 0)
	case "not yet valid":
		o.NotBefore = theTime.AddDate(5, 0, 0)
	}
	c, err := theCA().Issue(testcard.Signing, pub, o)
	if err != nil {
		panic(err)
	}
	kept, _ := issuedBefore.LoadOrStore(of, c)
	return kept.(*x509.Certificate)
}
