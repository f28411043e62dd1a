package status_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// site is a web server in memory: timers of a fake clock run on while it is asked.
type site struct {
	mu    sync.Mutex
	body  []byte
	etag  string
	fails int           // how many answers from here on are 503
	delay time.Duration // before an answer
	asked []time.Time
	heads []http.Header
}

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	delay := s.delay
	s.asked = append(s.asked, time.Now())
	s.heads = append(s.heads, r.Header.Clone())
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := httptest.NewRecorder()
	switch {
	case s.fails > 0:
		s.fails--
		w.WriteHeader(http.StatusServiceUnavailable)
	case s.etag != "" && r.Header.Get("If-None-Match") == s.etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		if s.etag != "" {
			w.Header().Set("ETag", s.etag)
		}
		_, _ = w.Write(s.body)
	}
	return w.Result(), nil
}

func (s *site) serve(body []byte, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.etag = body, etag
}

func (s *site) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *site) gap(i int) time.Duration { return s.asked[i].Sub(s.asked[i-1]) }

func (s *site) client() *http.Client { return &http.Client{Transport: s} }

const listURL = "http://lists.example/ca.crl"

// fakeWorld is a world whose certificates are valid while a fake clock starts (2000).
func (w *world) since1990(t *testing.T) *world {
	t.Helper()
	old := func(c *x509.Certificate) { c.NotBefore = at("1990-01-01T00:00:00Z") }
	w.root = certify(t, "Root", newKey(t), nil, old)
	w.ca = certify(t, "CA", newKey(t), w.root, old)
	w.leaf = certify(t, "Leaf", newKey(t), w.ca, old, leafAt()).cert
	return w
}

// issue makes a list of the CA as of now, that ends in a week.
func (w *world) issue(t *testing.T, number int64, entries ...[]byte) []byte {
	t.Helper()
	return crl{by: w.ca, number: number, thisUpdate: time.Now(), entries: entries}.der(t)
}

func run(t *testing.T, r *status.Refresher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		assert.ErrorIs(t, <-done, context.Canceled)
	}
}

func TestTheRefresherFetchesAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world).since1990(t)
		s := &site{}
		s.serve(w.issue(t, 1), `"one"`)
		r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: []string{listURL}, Client: s.client()})
		require.NoError(t, err)
		unknown(status.NoList).check(t, r.Current().Status(w.subject(t), time.Now()))
		stop := run(t, r)
		defer stop()
		synctest.Wait()
		require.Equal(t, 1, s.times())
		before := r.Current()
		good().check(t, before.Status(w.subject(t), time.Now()))
		first := before.Floor()

		for i := range 20 { // nothing changed
			time.Sleep(68 * time.Minute) // an hour and an eighth at most
			synctest.Wait()
			assert.GreaterOrEqual(t, s.times(), i+2)
		}
		assert.Same(t, before, r.Current(), "the same lists are the same snapshot")
		assert.Equal(t, `"one"`, s.heads[1].Get("If-None-Match"))
		gaps := map[time.Duration]bool{}
		for i := 1; i < s.times(); i++ {
			assert.GreaterOrEqual(t, s.gap(i), 52*time.Minute+30*time.Second)
			assert.LessOrEqual(t, s.gap(i), 67*time.Minute+30*time.Second)
			gaps[s.gap(i)] = true
		}
		assert.Greater(t, len(gaps), 10, "jitter")

		s.serve(w.issue(t, 2, entry(w.leaf.SerialNumber, time.Now())), `"two"`)
		time.Sleep(68 * time.Minute)
		synctest.Wait()
		revoked().check(t, r.Current().Status(w.subject(t), time.Now()))
		good().check(t, before.Status(w.subject(t), time.Now()))
		assert.True(t, r.Current().Floor().After(first))
		source := r.Sources()[0]
		assert.Equal(t, listURL, source.URL)
		assert.NoError(t, source.Err)
		assert.Equal(t, int64(2), source.List.Number().Int64())
		assert.ErrorContains(t, r.Run(t.Context()), "runs already")
	})
}

func TestAfterAFailureTheRefresherBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world).since1990(t)
		s := &site{fails: 9}
		s.serve(w.issue(t, 1), "")
		var told atomic.Int32
		r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: []string{listURL}, Client: s.client(),
			Trouble: func(err error) { told.Add(1); assert.ErrorContains(t, err, "503") }})
		require.NoError(t, err)
		stop := run(t, r)
		defer stop()
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		assert.EqualValues(t, 9, told.Load())
		for i := 1; i < 9; i++ {
			about := min(time.Minute<<(i-1), time.Hour)
			assert.InDelta(t, about, s.gap(i), float64(about)/8, i)
		}
		good().check(t, r.Current().Status(w.subject(t), time.Now()))
		assert.NoError(t, r.Sources()[0].Err)
		assert.GreaterOrEqual(t, s.gap(10), 52*time.Minute, "and then as ever")
	})
}

// What the network may send: the last good list stays in force.
func TestABadListLeavesTheLastGoodOneInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world).since1990(t)
		time.Sleep(48 * time.Hour)
		good1 := w.issue(t, 5, entry(big.NewInt(77), time.Now()))
		stranger := certify(t, "CA", newKey(t), nil, func(c *x509.Certificate) { c.NotBefore = at("1990-01-01T00:00:00Z") })
		later := time.Now().Add(time.Hour)
		for _, c := range []struct {
			name string
			body []byte
			is   error
			says string
		}{
			{"empty", nil, nil, "the end"},
			{"a login page", []byte("<html>log in</html>"), nil, "wanted DER or one PEM block"},
			{"truncated", good1[:len(good1)-9], nil, "truncated"},
			{"with a wrong signature", crl{by: stranger, number: 6, thisUpdate: time.Now()}.der(t), status.ErrUnverified, "does not verify with the key"},
			{"of another issuer", crl{by: stranger, issuer: nameOf("Stranger"), number: 6, thisUpdate: time.Now()}.der(t), status.ErrUnverified, "no certificate of its issuer"},
			{"from the future", crl{by: w.ca, number: 6, thisUpdate: later.Add(time.Second)}.der(t), status.ErrFuture, "this machine's clock shows"},
			{"of an earlier date", crl{by: w.ca, number: 6, thisUpdate: time.Now().Add(-time.Hour)}.der(t), status.ErrOlder, "goes backwards"},
			{"of a lower number", crl{by: w.ca, number: 4, thisUpdate: later}.der(t), status.ErrOlder, "goes backwards"},
			{"another of the same number and date", crl{by: w.ca, number: 5, thisUpdate: time.Now()}.der(t), status.ErrOlder, "same number and date"},
			{"a delta list", crl{by: w.ca, number: 6, thisUpdate: later, exts: [][]byte{ext(oidDelta, true, []byte{2, 1, 5})}}.der(t), status.ErrDelta, "delta"},
			{"with a broken scope", crl{by: w.ca, number: 6, thisUpdate: later, exts: [][]byte{ext(oidIDP, true, []byte{5, 0})}}.der(t), nil, "issuing distribution point"},
			{"too large", append(good1, make([]byte, 4096)...), status.ErrTooLarge, "larger than the limit"},
		} {
			for _, folder := range []string{"", t.TempDir()} {
				s := &site{}
				s.serve(good1, `"good"`)
				var told []error
				r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: []string{listURL}, Client: s.client(),
					Folder: folder, MaxBytes: 4096, Trouble: func(err error) { told = append(told, err) }})
				require.NoError(t, err)
				require.NoError(t, r.Refresh(t.Context()))
				before := r.Current()
				s.serve(c.body, `"bad"`)
				time.Sleep(time.Until(later))
				err = r.Refresh(t.Context())
				require.Error(t, err, c.name)
				if c.is != nil {
					assert.ErrorIs(t, err, c.is, c.name)
				}
				assert.ErrorContains(t, err, c.says, c.name)
				assert.ErrorContains(t, err, "status: "+listURL+": ", c.name)
				assert.Equal(t, err.Error(), errors.Join(told...).Error())
				assert.Same(t, before, r.Current(), c.name)
				source := r.Sources()[0]
				assert.Equal(t, err.Error(), source.Err.Error())
				assert.Equal(t, int64(5), source.List.Number().Int64(), c.name)
				later = time.Now()

				require.Error(t, r.Refresh(t.Context()), c.name)
				assert.Equal(t, `"good"`, s.heads[2].Get("If-None-Match"), "the validators stay those of the good list")
				if folder != "" {
					again, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), Folder: folder})
					require.NoError(t, err)
					assert.Equal(t, before.Floor(), again.Current().Floor(), c.name)
				}
			}
		}
	})
}

func TestAFetchEndsAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world).since1990(t)
		s := &site{delay: time.Hour}
		r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: []string{listURL}, Client: s.client(), Timeout: 7 * time.Second})
		require.NoError(t, err)
		began := time.Now()
		assert.ErrorIs(t, r.Refresh(t.Context()), context.DeadlineExceeded)
		assert.Equal(t, 7*time.Second, time.Since(began))

		s.serve(w.issue(t, 1), "")
		s.mu.Lock()
		s.delay = time.Second
		s.mu.Unlock()
		require.NoError(t, r.Refresh(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, r.Refresh(ctx), context.DeadlineExceeded)
		assert.NoError(t, r.Sources()[0].Err, "given up is no failure of the source")
	})
}

func TestManySourcesAreFetchedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world).since1990(t)
		s := &site{delay: time.Second}
		s.serve(w.issue(t, 1), "")
		r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), Client: s.client()})
		require.NoError(t, err)
		stop := run(t, r)
		defer stop()
		synctest.Wait()
		var urls []string
		for i := range 20 {
			urls = append(urls, fmt.Sprintf("http://lists.example/%d.crl", i))
		}
		require.NoError(t, r.Follow(urls...))
		time.Sleep(500 * time.Millisecond)
		assert.Equal(t, 4, s.times())
		time.Sleep(10 * time.Second)
		assert.Equal(t, 20, s.times())
		require.NoError(t, r.Follow(urls...), "again")
		synctest.Wait()
		assert.Equal(t, 20, s.times())
		assert.Len(t, r.Sources(), 20)
		began, before := time.Now(), r.Current()
		require.NoError(t, r.Refresh(t.Context()))
		assert.Equal(t, 40, s.times())
		assert.Equal(t, 5*time.Second, time.Since(began), "four at a time")
		assert.Same(t, before, r.Current(), "the same list once more")
		for i := 20; i < 256; i++ {
			require.NoError(t, r.Follow(fmt.Sprintf("http://lists.example/%d.crl", i)))
		}
		assert.ErrorContains(t, r.Follow("http://lists.example/one-more.crl"), "more than 256")
	})
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	w := newWorld(t)
	trust := w.trust(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for says, c := range map[string]status.RefresherConfig{
		"RefresherConfig.Trust is missing":      {},
		"RefresherConfig.Interval is 1s":        {Trust: trust, Interval: time.Second},
		"Timeout or MaxBytes is negative":       {Trust: trust, Timeout: -1},
		"a grace of 73h0m0s":                    {Trust: trust, Grace: 73 * time.Hour},
		"the folder of lists":                   {Trust: trust, Folder: file},
		`"https://x/", wanted http://host/path`: {Trust: trust, URLs: []string{"https://x/"}},
		`"ldap://x/", wanted http://host/path`:  {Trust: trust, URLs: []string{"ldap://x/"}},
		`"file:///etc/passwd", wanted http://`:  {Trust: trust, URLs: []string{"file:///etc/passwd"}},
		`"http:///x", wanted http://host/path`:  {Trust: trust, URLs: []string{"http:///x"}},
		"invalid control character":             {Trust: trust, URLs: []string{"http://x/\n"}},
		"URL of a list on x holds a user":       {Trust: trust, URLs: []string{"http://me:secret@x/"}},
	} {
		r, err := status.NewRefresher(c)
		assert.ErrorContains(t, err, says)
		assert.Nil(t, r)
		if err != nil {
			assert.NotContains(t, err.Error(), "secret")
		}
	}
}

// server is a web server on the loopback: what only real HTTP shows.
func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestOverRealHTTP(t *testing.T) {
	w := newWorld(t)
	der := crl{by: w.ca, number: 1, thisUpdate: time.Now().Add(-time.Hour)}.der(t)
	refresh := func(t *testing.T, from string, client *http.Client) (*status.Refresher, error) {
		t.Helper()
		r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: []string{from}, Client: client, MaxBytes: 4096})
		require.NoError(t, err)
		return r, r.Refresh(t.Context())
	}
	list := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(der) }

	t.Run("fetched", func(t *testing.T) {
		r, err := refresh(t, server(t, list)+"/ca.crl", nil)
		require.NoError(t, err)
		good().check(t, r.Current().Status(w.subject(t), time.Now()))
	})
	t.Run("through a proxy", func(t *testing.T) {
		var asked string
		proxy := server(t, func(w http.ResponseWriter, r *http.Request) { asked = r.URL.String(); list(w, r) })
		transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy) }}
		_, err := refresh(t, listURL, &http.Client{Transport: transport})
		require.NoError(t, err)
		assert.Equal(t, listURL, asked)
	})
	t.Run("not changed since", func(t *testing.T) {
		const since = "Mon, 02 Mar 2026 10:00:00 GMT"
		same := 0
		r, err := refresh(t, server(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Modified-Since") == since {
				same++
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("Last-Modified", since)
			list(w, r)
		}), nil)
		require.NoError(t, err)
		before := r.Current()
		require.NoError(t, r.Refresh(t.Context()))
		assert.Same(t, before, r.Current())
		assert.Equal(t, 1, same)
	})
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		says string
	}{
		"not found":                  {http.NotFound, "it answered 404 Not Found, wanted 200 with a list"},
		"not changed, but not asked": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "it answered 304"},
		"to https": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1/", http.StatusFound)
		}, "it redirects to https, wanted http alone"},
		"to itself": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "it redirects more than 3 times"},
		"200 MB": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "209715200")
			w.WriteHeader(http.StatusOK)
		}, "209715200 bytes, the limit is 4096"},
		"without end": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, "larger than the limit of 4096"},
		"torn off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999")
			_, _ = w.Write(der[:100])
		}, "after 100 bytes: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := refresh(t, server(t, c.h), nil)
			assert.ErrorContains(t, err, c.says)
		})
	}
	t.Run("redirected on http", func(t *testing.T) {
		to := server(t, list)
		asked := 0
		from := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusMovedPermanently) })
		_, err := refresh(t, from, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil }})
		require.NoError(t, err)
		assert.Equal(t, 1, asked, "the client's own rule counts too")
		_, err = refresh(t, from, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return io.ErrNoProgress }})
		assert.ErrorIs(t, err, io.ErrNoProgress)
	})
	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		_, err := refresh(t, s.URL, nil)
		require.Error(t, err)
		assert.Equal(t, 1, strings.Count(err.Error(), s.URL), "the URL once: %v", err)
	})
}

// Readers and the refresher at once, for -race.
func TestReadersSeeWholeSnapshots(t *testing.T) {
	w := newWorld(t)
	var n atomic.Int64
	url := server(t, func(rw http.ResponseWriter, _ *http.Request) {
		i := n.Add(1)
		c := crl{by: w.ca, number: i, thisUpdate: at("2026-01-01T00:00:00Z").Add(time.Duration(i) * time.Second), nextUpdate: at("2040-01-01T00:00:00Z")}
		if i%2 == 0 {
			c.entries = [][]byte{entry(w.leaf.SerialNumber, at("2020-01-01T00:00:00Z"))}
		}
		_, _ = rw.Write(c.der(t))
	})
	r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), URLs: []string{url}, Folder: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, r.Refresh(t.Context()))
	done := make(chan struct{})
	var readers sync.WaitGroup
	c := w.subject(t)
	for range 4 {
		readers.Go(func() {
			floor := time.Time{}
			for {
				select {
				case <-done:
					return
				default:
				}
				s := r.Current()
				got := s.Status(c, now)
				odd := s.Floor().Second()%2 == 1
				if (got.State == status.Good) != odd || s.Floor().Before(floor) {
					t.Errorf("%s of %s after %s", got, s.Floor(), floor)
					return
				}
				floor = s.Floor()
				_ = r.Sources()
			}
		})
	}
	for range 30 {
		require.NoError(t, r.Refresh(t.Context()))
	}
	close(done)
	readers.Wait()
}
