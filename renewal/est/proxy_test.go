package est

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

// proxy is a proxy on loopback that connects to one server, whatever host it is asked
// for, or answers something else.
type proxy struct {
	*httptest.Server
	answer http.HandlerFunc // nil: connects

	mu    sync.Mutex
	asked []*http.Request
}

func newProxy(t *testing.T, to string, answer http.HandlerFunc) *proxy {
	t.Helper()
	p := &proxy{answer: answer}
	target, err := url.Parse(to)
	require.NoError(t, err)
	p.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r)
		p.mu.Unlock()
		if answer != nil {
			answer(rw, r)
			return
		}
		there, err := net.Dial("tcp", target.Host)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n") // only now: what the client says next is for the server
		go func() {
			io.Copy(there, here)
			there.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(here, there)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func TestAProxyInBetween(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	p := newProxy(t, s.URL(), nil)
	withPassword := strings.Replace(p.URL, "http://", "http://ward:hunter2@", 1)
	c := w.client(t, s.URL(), func(c *Config) { c.Proxy = withPassword })
	a, err := c.Enrol(t.Context(), w.transport, w.request)
	require.NoError(t, err)
	require.Equal(t, s.Issued()[0].Certificate.Raw, a.Certificate)
	require.Len(t, p.requests(), 2, "cacerts and simplereenroll")
	for _, q := range p.requests() {
		require.Equal(t, http.MethodConnect, q.Method)
		require.Equal(t, strings.TrimPrefix(s.URL(), "https://"), q.Host)
		require.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte("ward:hunter2")), q.Header.Get("Proxy-Authorization"))
	}
	for _, q := range s.Requests() {
		require.Equal(t, w.transport.AuthenticatesAs().Raw, q.Client.Raw, "the card authenticates to the server through it")
		require.Empty(t, q.Header.Get("Proxy-Authorization"))
	}
}

func TestAProxyThatRefusesIsNamedWithoutItsPassword(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	for name, row := range map[string]struct {
		answer http.HandlerFunc // nil: none
		says   string
	}{
		"it wants a password":  {reply(407, "text/html", "<html>log in"), "it refuses to connect: 407 Proxy Authentication Required"},
		"it forbids":           {reply(403, "text/html", "<html>no"), "it refuses to connect: 403 Forbidden"},
		"it finds no server":   {reply(502, "text/plain", ""), "it refuses to connect: 502 Bad Gateway"},
		"it redirects":         {redirect(302, "http://portal.example/"), "it refuses to connect: 302 Found"},
		"a status of no class": {reply(799, "text/plain", ""), "it refuses to connect: 799"},
		"it is no proxy": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(200)
			rw.Write([]byte("<html>welcome"))
		}, ""},
		"it hangs up":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ""},
		"it never answers": {nil, "no whole answer in time, at most 300ms"},
	} {
		t.Run(name, func(t *testing.T) {
			timeout, over := time.Duration(0), make(chan struct{})
			if row.answer == nil {
				timeout = 300 * time.Millisecond
				row.answer = func(http.ResponseWriter, *http.Request) { <-over }
			}
			p := newProxy(t, s.URL(), row.answer)
			defer close(over) // before the proxy is closed, which waits
			c := w.client(t, s.URL(), func(c *Config) {
				c.Proxy = strings.Replace(p.URL, "http://", "http://ward:hunter2@", 1)
				c.Timeout = timeout
			})
			err := c.Probe(t.Context(), w.transport)
			e := enrolment(t, err, renewal.Unreachable, "through the proxy "+p.URL+": ", row.says)
			require.Zero(t, e.Status, "not an answer of the authority")
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "ward")
		})
	}
	t.Run("it is not there", func(t *testing.T) {
		p := newProxy(t, s.URL(), nil)
		p.Close()
		err := w.client(t, s.URL(), func(c *Config) { c.Proxy = strings.Replace(p.URL, "http://", "http://ward:hunter2@", 1) }).Probe(t.Context(), w.transport)
		enrolment(t, err, renewal.Unreachable, "through the proxy "+p.URL+": ", "proxyconnect")
		require.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("what is behind it is another server", func(t *testing.T) {
		other, err := testcard.NewCA(testcard.CAConfig{Now: clock})
		require.NoError(t, err)
		behind, err := testcard.NewServer(testcard.ServerConfig{CA: other})
		require.NoError(t, err)
		t.Cleanup(func() { behind.Close() })
		p := newProxy(t, behind.URL(), nil)
		err = w.client(t, s.URL(), func(c *Config) { c.Proxy = p.URL }).Probe(t.Context(), w.transport)
		enrolment(t, err, renewal.Unreachable, "the server's certificate is not one that Config.Roots trusts", "through the proxy "+p.URL)
		require.Empty(t, behind.Requests())
	})
	require.Empty(t, s.Requests())
}

func TestNewRefusesAProxy(t *testing.T) {
	for name, row := range map[string]struct{ proxy, says string }{
		"over TLS":            {"https://ward:hunter2@proxy.example.org", "not http or socks5 and a host, expected one such as http://proxy.example.org:8080"},
		"no scheme":           {"ward:hunter2@proxy.example.org:8080", "not "},
		"host and port":       {"proxy.example.org:8080", "not http or socks5 and a host"},
		"no host":             {"http://ward:hunter2@", "not http or socks5 and a host"},
		"a path":              {"http://ward:hunter2@proxy.example.org/proxy.pac", "holds more than a host and port"},
		"a query":             {"http://ward:hunter2@proxy.example.org?a", "holds more than a host and port"},
		"a port that is none": {"http://ward:hunter2@proxy.example.org:port", "not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Config{URL: "https://est.example.org", Proxy: row.proxy})
			require.ErrorContains(t, err, "est: Config.Proxy: "+row.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	for _, good := range []string{"http://proxy.example.org:8080", "http://ward:hunter2@[::1]:3128/", "socks5://127.0.0.1:1080", "socks5h://proxy"} {
		_, err := New(Config{URL: "https://est.example.org", Proxy: good})
		require.NoError(t, err, good)
	}
}

// The environment is read once by a process, and never for this machine's own names:
// hence another process, and a final dot.
func TestAProxyOfTheEnvironment(t *testing.T) {
	const in = "RXGUARD_TEST_PROXY_OF"
	w := newWorld(t)
	if server := os.Getenv(in); server != "" {
		roots, err := os.ReadFile(os.Getenv(in + "_ROOTS"))
		require.NoError(t, err)
		pool := w.ca.Roots()
		require.True(t, pool.AppendCertsFromPEM(roots))
		err = w.client(t, server, func(c *Config) { c.Roots = pool }).Probe(t.Context(), renewal.SoftwareTransport(nil, clock))
		if want := os.Getenv(in + "_SAYS"); want != "" {
			enrolment(t, err, renewal.Unreachable, want)
			require.NotContains(t, err.Error(), "hunter2")
			return
		}
		require.NoError(t, err)
		return
	}
	s := testServer(t, w, false)
	roots := t.TempDir() + "/roots.pem"
	require.NoError(t, os.WriteFile(roots, pemOf(w.ca.RootCertificate().Raw), 0o600))
	p, refuses := newProxy(t, s.URL(), nil), newProxy(t, s.URL(), reply(407, "text/plain", ""))
	server := strings.Replace(s.URL(), "127.0.0.1", "localhost.", 1)
	secret := func(u string) string { return strings.Replace(u, "://", "://ward:hunter2@", 1) }
	for name, row := range map[string]struct {
		env   []string
		says  string
		asked *proxy
	}{
		"a proxy":          {[]string{"HTTPS_PROXY=" + secret(p.URL)}, "", p},
		"without a scheme": {[]string{"https_proxy=" + strings.TrimPrefix(p.URL, "http://")}, "", p},
		"one that refuses": {[]string{"HTTPS_PROXY=" + secret(refuses.URL)}, "through the proxy " + refuses.URL + ": it refuses to connect: 407", refuses},
		"one over TLS":     {[]string{"HTTPS_PROXY=" + secret(strings.Replace(refuses.URL, "http:", "https:", 1))}, "would be spoken to over TLS, expected http or socks5: the card authenticates to the authority alone", nil},
	} {
		t.Run(name, func(t *testing.T) {
			before := map[*proxy]int{p: len(p.requests()), refuses: len(refuses.requests())}
			c := exec.Command(os.Args[0], "-test.run", "^TestAProxyOfTheEnvironment$")
			for _, e := range os.Environ() {
				if name, _, _ := strings.Cut(e, "="); !strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
					c.Env = append(c.Env, e)
				}
			}
			c.Env = append(append(c.Env, row.env...), in+"="+server, in+"_ROOTS="+roots, in+"_SAYS="+row.says)
			out, err := c.CombinedOutput()
			require.NoError(t, err, "%s", out)
			for q, n := range before {
				require.Equal(t, row.asked == q, len(q.requests()) > n)
			}
		})
	}
}
