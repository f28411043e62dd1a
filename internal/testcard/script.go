package testcard

import (
	"bytes"
	"crypto"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Script decides what the server answers. n counts, from 1, the enrolment
// requests, and apart from them all others. A nil Reply is the ordinary answer.
// A script may be called for several requests at once.
type Script func(r *http.Request, n int) *Reply

// Script makes the server ask f about every request; nil ends that.
func (s *Server) Script(f Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// Sequence answers the first enrolment requests with the replies in turn (nil for
// an ordinary one), and everything else as ever.
func Sequence(replies ...*Reply) Script {
	return func(r *http.Request, n int) *Reply {
		if !enrols(operation(r)) || n > len(replies) {
			return nil
		}
		return replies[n-1]
	}
}

// Reply is a scripted answer. With Status it is sent as it is, before the request
// is looked at, and nothing is issued. Without, the request is served as ever but
// for what the other fields change.
type Reply struct {
	Status int
	Header http.Header // without Status: in place of the ordinary ones of that name
	Body   []byte

	Alter func(*Order) error // changes what is issued
	Lost  bool               // issued, then the connection is closed without an answer
}

// Order is what the server is about to issue.
type Order struct {
	CA      *CA
	Profile Profile
	Public  crypto.PublicKey
	Options IssueOptions
}

// over returns h with the reply's own headers in it. The reply may be nil.
func (p *Reply) over(h http.Header) http.Header {
	if p != nil {
		for k, v := range p.Header {
			h[http.CanonicalHeaderKey(k)] = v
		}
	}
	return h
}

// Pending answers 202: come back after d, told in whole seconds (RFC 9110 10.2.3).
func Pending(d time.Duration) *Reply {
	return pending(strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
}

// PendingUntil answers 202: come back at t, told as an HTTP date.
func PendingUntil(t time.Time) *Reply { return pending(t.UTC().Format(http.TimeFormat)) }

func pending(retryAfter string) *Reply {
	p := Failure(http.StatusAccepted, "the request is with a person who decides")
	p.Header["Retry-After"] = []string{retryAfter}
	return p
}

// Failure answers a status and a text.
func Failure(status int, text string) *Reply {
	return &Reply{Status: status, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte(text + "\n")}
}

// Page answers 200 and an HTML page, as a captive portal or a proxy does.
func Page() *Reply {
	return &Reply{
		Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}},
		Body: []byte("<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>You have been logged out</h1></body></html>\n"),
	}
}

// Redirect answers 302 to a URL.
func Redirect(url string) *Reply {
	return &Reply{Status: http.StatusFound, Header: http.Header{"Location": {url}}}
}

// certsOnlyReply answers 200, the right content type and a body of any kind.
func certsOnlyReply(b []byte) *Reply {
	return &Reply{Status: http.StatusOK, Header: certsOnlyHeader(), Body: b}
}

// Garbage answers a body that is not base64.
func Garbage() *Reply { return certsOnlyReply([]byte("*** this is not base64 ***")) }

// NotPKCS7 answers base64 of something else than PKCS #7.
func NotPKCS7() *Reply { return certsOnlyReply([]byte("dGhpcyBpcyBub3QgUEtDUyAjNw==")) }

// Empty answers 200 without a body.
func Empty() *Reply { return certsOnlyReply(nil) }

// Huge answers 4 MiB of valid base64.
func Huge() *Reply { return certsOnlyReply(bytes.Repeat([]byte("MIIB"), 1<<20)) }

// NoCertificate answers a PKCS #7 message without a certificate.
func NoCertificate() *Reply {
	b, err := certsOnly()
	if err != nil {
		return Failure(http.StatusInternalServerError, err.Error())
	}
	return certsOnlyReply(b)
}

// WrongType answers the certificate under another content type.
func WrongType() *Reply {
	return &Reply{Header: http.Header{"Content-Type": {"application/octet-stream"}}}
}

// Lost issues, and closes the connection without an answer.
func Lost() *Reply { return &Reply{Lost: true} }

// OtherKey issues for a key that is not the request's.
func OtherKey() *Reply {
	return altered(func(o *Order) error {
		key, err := strayKey()
		if err != nil {
			return err
		}
		o.Public = key.Public()
		return nil
	})
}

// OtherSubject issues for somebody else.
func OtherSubject() *Reply {
	return altered(func(o *Order) error {
		o.Options.RawSubject, o.Options.Subject = nil, Subject("000000000000")
		return nil
	})
}

// OtherProfile issues the authentication profile in place of the signing one, and
// the other way round.
func OtherProfile() *Reply {
	return altered(func(o *Order) error {
		o.Profile = Signing + Authentication - o.Profile
		return nil
	})
}

// OtherRoot issues from a CA of the same names that is another one.
func OtherRoot() *Reply {
	return altered(func(o *Order) error {
		foreign, err := foreignCA()
		if err != nil {
			return err
		}
		foreign = newCA(o.CA.cfg, foreign.rootKey, foreign.issuingKey, foreign.root, foreign.issuing)
		o.CA = foreign
		return nil
	})
}

// IssuedAt issues with this notBefore, for two years: inside an advisory's window
// an affected certificate once more.
func IssuedAt(notBefore time.Time) *Reply {
	return altered(func(o *Order) error {
		o.Options.NotBefore = notBefore
		return nil
	})
}

// Expired issues a certificate that ended a year ago by the CA's clock.
func Expired() *Reply {
	return altered(func(o *Order) error {
		now := o.CA.Now()
		o.Options.NotBefore, o.Options.NotAfter = now.AddDate(-3, 0, 0), now.AddDate(-1, 0, 0)
		return nil
	})
}

// NotYetValid issues a certificate that begins tomorrow by the CA's clock.
func NotYetValid() *Reply {
	return altered(func(o *Order) error {
		o.Options.NotBefore = o.CA.Now().AddDate(0, 0, 1)
		return nil
	})
}

func altered(f func(*Order) error) *Reply { return &Reply{Alter: f} }

var (
	strayKey  = sync.OnceValues(newKey)
	foreignCA = sync.OnceValues(func() (*CA, error) { return NewCA(CAConfig{}) })
)
