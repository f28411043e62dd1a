package est

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rxguard/rxguard/renewal"
)

const (
	maxAnswer  = 64 << 10 // bytes of an answer's body
	maxExcerpt = 80       // characters of the server's text in an error
	maxTold    = 400      // characters of an error about it
	pkcs7Type  = "application/pkcs7-mime"
)

// form is what a good answer is.
type form struct {
	name, media string
	mayBeEmpty  bool
}

var (
	pkcs7Form    = form{name: "PKCS #7", media: pkcs7Type}
	csrAttrsForm = form{name: "CSR attributes", media: "application/csrattrs", mayBeEmpty: true}
)

// answer is a 200 with a body of the form's media type, or a 202.
type answer struct {
	form       form
	what       string // method and URL, for errors
	pending    bool   // 202
	retryAfter string
	body       []byte
}

// exchange makes one request. Its errors are an *renewal.EnrolError, or ctx's.
func (c *Client) exchange(ctx context.Context, t *renewal.Transport, method, operation string, body []byte) (*answer, error) {
	address := c.base + "/" + operation
	a := &answer{form: pkcs7Form, what: method + " " + address}
	if operation == csrAttrs {
		a.form = csrAttrsForm
	}
	if t == nil {
		return nil, &renewal.EnrolError{Kind: renewal.Unreachable, Detail: a.what + ": no transport was given, expected one"}
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// bytes.Reader makes net/http set Content-Length, which servers demand.
	q, err := http.NewRequestWithContext(limited, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, &renewal.EnrolError{Kind: renewal.Unreachable, Detail: a.what, Err: err}
	}
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/pkcs10") // RFC 7030 4.2.1
	}
	resp, err := t.Through(c.proxy).Client(c.roots).Do(q)
	if err != nil {
		return nil, c.lost(ctx, a, 0, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		err = c.read(ctx, a, resp)
	case http.StatusAccepted: // RFC 7030 4.2.3
		a.pending, a.retryAfter = true, resp.Header.Get("Retry-After")
	default:
		err = refusal(a, resp)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// lost is the error of a connection that gave no whole answer.
func (c *Client) lost(ctx context.Context, a *answer, status int, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("est: %s: %w", a.what, ctx.Err())
	}
	// net/http repeats the method and the URL.
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	e := &renewal.EnrolError{Kind: renewal.Unreachable, Status: status, Detail: a.what, Err: told{err}}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// Not wrapped: it is not the deadline of the caller's context.
		e.Detail, e.Err = fmt.Sprintf("%s: no whole answer in time, at most %s: %v", a.what, c.timeout, told{err}), nil
	case errors.As(err, new(*tls.CertificateVerificationError)):
		e.Detail += ": the server's certificate is not one that Config.Roots trusts"
	case status != 0:
		e.Detail += ": the connection was lost within the answer"
	}
	return e
}

// read takes the body of a 200 and refuses what is not of the form's media type.
// Content-Transfer-Encoding is not looked at (RFC 8951 3).
func (c *Client) read(ctx context.Context, a *answer, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil {
		// A server that sees the client leave may end its answer as if it were whole,
		// and the end may arrive before the connection is closed.
		err = resp.Request.Context().Err()
	}
	if err != nil {
		return c.lost(ctx, a, resp.StatusCode, err)
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) { // parameters do not matter
		media = ""
	}
	switch {
	case len(bytes.TrimSpace(body)) == 0 && len(body) <= maxAnswer && a.form.mayBeEmpty:
		return nil
	case len(bytes.TrimSpace(body)) == 0:
		return a.malformed("an empty answer, expected "+a.form.name, nil)
	case media == "text/html" || media == "application/xhtml+xml" || bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		return a.malformed(fmt.Sprintf("text/html page instead of %s: a proxy or portal may stand between; the page begins %q", a.form.name, excerpt(body)), nil)
	case media != a.form.media:
		return a.malformed(fmt.Sprintf("content type %q, expected %s; the answer begins %q",
			excerpt([]byte(resp.Header.Get("Content-Type"))), a.form.media, excerpt(body)), nil)
	case len(body) > maxAnswer:
		return a.malformed(fmt.Sprintf("the answer is longer than the limit of %d bytes", maxAnswer), nil)
	}
	a.body = body
	return nil
}

// malformed is the error of a 200 or 202 that is not what was asked for.
func (a *answer) malformed(detail string, err error) error {
	e := &renewal.EnrolError{Kind: renewal.Malformed, Status: http.StatusOK, Detail: a.what, Err: err}
	if a.pending {
		e.Status = http.StatusAccepted
	}
	if detail != "" {
		e.Detail += ": " + detail
	}
	return e
}

// refusal is the error of every status but 200 and 202.
func refusal(a *answer, resp *http.Response) error {
	e := &renewal.EnrolError{Status: resp.StatusCode, Detail: a.what}
	switch s := resp.StatusCode; {
	case s >= 300 && s < 400:
		e.Kind = renewal.Malformed
		e.Detail += ": a redirect to " + target(resp) + "; redirects are not followed, expected an answer: set Config.URL to the server itself"
		return e
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500 && s < 600:
		e.Kind = renewal.Unavailable
	case s == http.StatusUnauthorized:
		e.Kind = renewal.Rejected
		e.Detail += ": the server wants a user to log in over HTTP (RFC 7030 3.2.3), which a card does not"
	case s == http.StatusNotFound:
		e.Kind = renewal.Rejected
		e.Detail += ": no EST server at this address, or no such label"
	case s >= 400 && s < 500:
		e.Kind = renewal.Rejected
	default:
		e.Kind = renewal.Malformed
		e.Detail += ": expected status 200 with certificates, or 202 (RFC 7030 4.2.3)"
		return e
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // the status has decided; the text is a courtesy
	if s := excerpt(text); s != "" {
		e.Detail += fmt.Sprintf(": the server says %q", s)
	}
	return e
}

// target names where a redirect leads, without the query, which may hold a token.
func target(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return fmt.Sprintf("%q", excerpt([]byte(plain.String())))
}

// excerpt makes one short line of what a server sent: no control, format or invalid
// characters.
func excerpt(b []byte) string { return line(string(b), maxExcerpt) }

func line(s string, most int) string {
	words := strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsGraphic(r) || r == utf8.RuneError
	})
	l := []rune(strings.Join(words, " "))
	if len(l) > most {
		l = append(l[:most-1], '…')
	}
	return string(l)
}

// told is an error of the standard library about what a server sent, whose text may
// repeat that at any length: a header that is none, the names of a certificate that
// nobody trusts.
type told struct{ error }

func (t told) Error() string { return line(t.error.Error(), maxTold) }

func (t told) Unwrap() error { return t.error }

const (
	defaultWait = time.Minute
	longestWait = 30 * 24 * time.Hour
)

// pendingUntil reads Retry-After, seconds from now or a date (RFC 9110 10.2.3). What
// is missing, unreadable or not in the future is a minute, so that no server makes
// the client ask without pause; what is more than 30 days is 30 days.
func pendingUntil(retryAfter string, now time.Time) time.Time {
	wait := defaultWait
	if isDigits(retryAfter) {
		n, err := strconv.ParseInt(retryAfter, 10, 64)
		if err != nil || n > int64(longestWait/time.Second) {
			n = int64(longestWait / time.Second)
		}
		wait = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(retryAfter); err == nil {
		wait = t.Sub(now)
	}
	if wait <= 0 {
		wait = defaultWait
	}
	return now.Add(min(wait, longestWait))
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
