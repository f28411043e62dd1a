package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Lists are fetched over plain http, as their distribution points are written: a list
// is signed, so that the channel need not be trusted, and RFC 5280 section 8 warns of
// https there, whose own certificate would have to be checked against lists first.
// Redirects are followed to http alone, and not more than a few.
const maxRedirects = 3

// checkURL tells why a list cannot be fetched from a URL.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("status: URL of a list: %w", err)
	case u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("status: URL of a list %q, wanted http://host/path: lists are signed, and fetched without https or LDAP", s)
	case u.User != nil:
		return fmt.Errorf("status: URL of a list on %s holds a user, wanted none", u.Host)
	}
	return nil
}

// clientOf makes the client that fetches of the caller's; nil: one that goes through the
// proxy of the environment.
func clientOf(given *http.Client) *http.Client {
	c := &http.Client{}
	if given != nil {
		*c = *given
	} else {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = 30 * time.Second
		transport.DisableCompression = true // lists do not shrink, and a limit is one of bytes sent
		c.Transport = transport
	}
	theirs := c.CheckRedirect
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return fmt.Errorf("it redirects more than %d times", maxRedirects)
		case r.URL.Scheme != "http":
			return fmt.Errorf("it redirects to %s, wanted http alone", r.URL.Scheme)
		case theirs != nil:
			return theirs(r, via)
		}
		return nil
	}
	return c
}

// fetched is an answer.
type fetched struct {
	same               bool // nothing changed since the note
	body               []byte
	etag, lastModified string
}

// get asks for the list once, unless it is what the note says.
func get(ctx context.Context, c *http.Client, from string, known note, limit int64) (fetched, error) {
	fail := func(err error) (fetched, error) {
		var u *url.Error // which says the URL again
		if errors.As(err, &u) {
			err = u.Err
		}
		return fetched{}, fmt.Errorf("status: %s: %w", from, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return fail(err)
	}
	r.Header.Set("Accept", "application/pkix-crl, application/octet-stream;q=0.9, */*;q=0.5")
	conditional := known.ETag != "" || known.LastModified != ""
	if known.ETag != "" {
		r.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		r.Header.Set("If-Modified-Since", known.LastModified)
	}
	a, err := c.Do(r)
	if err != nil {
		return fail(err)
	}
	defer a.Body.Close()
	switch {
	case a.StatusCode == http.StatusNotModified && conditional:
		return fetched{same: true}, nil
	case a.StatusCode != http.StatusOK:
		return fail(fmt.Errorf("it answered %s, wanted 200 with a list", a.Status))
	case a.ContentLength > limit:
		return fail(fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, a.ContentLength, limit))
	}
	var b bytes.Buffer
	b.Grow(int(max(a.ContentLength, 0)) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(a.Body, limit+1)); err != nil {
		return fail(fmt.Errorf("after %d bytes: %w", b.Len(), err))
	}
	if int64(b.Len()) > limit {
		return fail(fmt.Errorf("%w of %d bytes", ErrTooLarge, limit))
	}
	return fetched{body: b.Bytes(), etag: short(a.Header.Get("ETag")), lastModified: short(a.Header.Get("Last-Modified"))}, nil
}

// short leaves out a header that is too long to be kept.
func short(s string) string {
	if len(s) > 1024 {
		return ""
	}
	return s
}
