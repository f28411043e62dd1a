package renewal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Through returns a transport that reaches the authority through a proxy, over
// CONNECT (RFC 9110 9.3.6) or SOCKS5; the TLS to the authority is made within. nil: t
// itself, whose proxy the environment names (HTTPS_PROXY, NO_PROXY).
func (t *Transport) Through(proxy *url.URL) *Transport {
	if t == nil || proxy == nil {
		return t
	}
	through, u := *t, *proxy
	through.proxy = &u
	return &through
}

// via is the proxy for a request; nil: none.
func (t *Transport) via(q *http.Request) (*url.URL, error) {
	u := t.proxy
	if u == nil {
		var err error
		if u, err = http.ProxyFromEnvironment(q); err != nil {
			return nil, err
		}
	}
	if u != nil && u.Scheme == "https" {
		// net/http would authenticate to it as the card.
		return nil, fmt.Errorf("the proxy %s would be spoken to over TLS, expected http or socks5: the card authenticates to the authority alone", nameOf(u))
	}
	return u, nil
}

// nameOf is a proxy without its password.
func nameOf(u *url.URL) string {
	return u.Scheme + "://" + u.Host
}

// connected refuses every answer to CONNECT but 200.
func connected(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return errors.New(strings.TrimSpace(fmt.Sprintf("it refuses to connect: %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))))
}
