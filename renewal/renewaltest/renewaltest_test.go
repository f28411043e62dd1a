package renewaltest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/renewaltest"
)

// faulty is an Enroller in memory with one fault: each function is nil or stands in for
// the method, and is given what the method would have answered.
type faulty struct {
	channel
	wished  renewal.Attributes // by the authority
	enrol   func(ctx context.Context, t *renewal.Transport, r renewal.Request, a renewal.Answer, err error) (renewal.Answer, error)
	probe   func(ctx context.Context, t *renewal.Transport, err error) error
	wishes  func(w renewal.Attributes, err error) (renewal.Attributes, error)
	confirm func(r renewal.Request, cert []byte, p renewal.Proof, err error) error
}

func (f *faulty) Attributes(ctx context.Context, _ *renewal.Transport) (renewal.Attributes, error) {
	w, err := f.wished, f.channel.Probe(ctx, nil)
	if err != nil {
		w = renewal.Attributes{}
	}
	if f.wishes != nil {
		return f.wishes(w, err)
	}
	return w, err
}

func (f *faulty) Enrol(ctx context.Context, t *renewal.Transport, r renewal.Request) (renewal.Answer, error) {
	a, err := f.channel.Enrol(ctx, t, r)
	if f.enrol != nil {
		return f.enrol(ctx, t, r, a, err)
	}
	return a, err
}

func (f *faulty) Probe(ctx context.Context, t *renewal.Transport) error {
	err := f.channel.Probe(ctx, t)
	if f.probe != nil {
		return f.probe(ctx, t, err)
	}
	return err
}

func (f *faulty) Confirm(ctx context.Context, t *renewal.Transport, r renewal.Request, cert []byte, p renewal.Proof) error {
	err := f.channel.Confirm(ctx, t, r, cert, p)
	if f.confirm != nil {
		return f.confirm(r, cert, p, err)
	}
	return err
}

// config is one against an authority in memory, with a fault that fault puts into each
// Enroller.
func config(t testing.TB, fault func(*faulty)) renewaltest.Config {
	t.Helper()
	a, err := newAuthority()
	require.NoError(t, err)
	made := func(address string) (renewal.Enroller, error) {
		f := &faulty{channel: channel{a, address}}
		if fault != nil {
			fault(f)
		}
		return f, nil
	}
	return renewaltest.Config{
		New:       func() (renewal.Enroller, error) { return made("") },
		At:        made,
		Transport: func(now func() time.Time) *renewal.Transport { return renewal.SoftwareTransport(nil, now) },
		Current:   a.cert, Issued: a.count,
	}
}

func TestAnEnrollerInMemoryKeepsTheContract(t *testing.T) {
	renewaltest.Run(t, config(t, nil))
	t.Run("one that can do nothing but enrol", func(t *testing.T) {
		c := config(t, nil)
		c.Issued = nil
		bare := func(f func() (renewal.Enroller, error)) (renewal.Enroller, error) {
			e, err := f()
			return struct{ renewal.Enroller }{e}, err
		}
		made, at := c.New, c.At
		c.New = func() (renewal.Enroller, error) { return bare(made) }
		c.At = func(a string) (renewal.Enroller, error) {
			return bare(func() (renewal.Enroller, error) { return at(a) })
		}
		renewaltest.Run(t, c)
	})
	t.Run("one whose authority wants more of requests", func(t *testing.T) {
		usage := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 6, 0x40}}
		renewaltest.Run(t, config(t, func(f *faulty) {
			f.wished = renewal.Attributes{KeyBits: 3072, Signature: x509.SHA384WithRSA, Extensions: []pkix.Extension{usage}}
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, a renewal.Answer, err error) (renewal.Answer, error) {
				csr, perr := x509.ParseCertificateRequest(r.CSR)
				if perr != nil || err != nil {
					return a, err
				}
				assert.Equal(t, 384, csr.PublicKey.(*rsa.PublicKey).Size())
				assert.Equal(t, x509.SHA384WithRSA, csr.SignatureAlgorithm)
				assert.Equal(t, []pkix.Extension{usage}, csr.Extensions)
				return a, nil
			}
		}))
	})
	t.Run("one whose authority decides later", func(t *testing.T) {
		c := config(t, func(f *faulty) {
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, a renewal.Answer, err error) (renewal.Answer, error) {
				if err != nil {
					return a, err
				}
				return renewal.Answer{Pending: r.Now.Add(time.Hour)}, nil
			}
		})
		err := renewaltest.CheckWithCachedKeys(t.Context(), c)
		require.ErrorContains(t, err, "wanted one that issues at once, for Confirm to be tested")
		assert.Equal(t, []string{confirmAgain, confirmStranger, confirmEnds}, broken(err))
	})
}

// The sentences of the contract.
const (
	answers         = "Enrol answers with a certificate for the key and subject of the request, or with a wait"
	repeats         = "Enrol answers a repetition for the same key, or with a wait, in another process too"
	atOnce          = "Enrol answers several requests at once, each with its own"
	brokenOff       = "Enrol answers a repetition after a call that was broken off"
	untouched       = "Enrol changes neither its request nor what it answered before"
	rejects         = "Enrol says Rejected of a request that its key did not sign"
	endedBefore     = "Enrol returns the error of a ctx that has ended"
	endedWithin     = "Enrol returns when ctx ends, whatever the authority does"
	unreachable     = "Enrol says Unreachable of an authority that is not there"
	probes          = "Probe has nothing requested or issued"
	probeEnds       = "Probe ends as Enrol does"
	wishing         = "Attributes has nothing requested or issued, and wishes for what a card can do"
	wishingEnds     = "Attributes ends as Enrol does"
	confirmAgain    = "Confirm may come again, with another proof"
	confirmStranger = "Confirm says Rejected of a proof by another key"
	confirmEnds     = "Confirm ends as Enrol does"
	transports      = "The Transport is not used after a call has returned"
)

var all = []string{
	answers, repeats, atOnce, brokenOff, untouched, rejects, endedBefore, endedWithin, unreachable,
	probes, probeEnds, wishing, wishingEnds, confirmAgain, confirmStranger, confirmEnds, transports,
}

// broken lists the sentences that an error of Check begins with.
func broken(err error) []string {
	var list []string
	for _, s := range all {
		if err != nil && strings.Contains("\n"+err.Error(), "\n"+s+": ") {
			list = append(list, s)
		}
	}
	return list
}

// enrolled changes what a good Enroller answers.
func enrolled(change func(r renewal.Request, a *renewal.Answer) error) func(*faulty) {
	return func(f *faulty) {
		f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, a renewal.Answer, err error) (renewal.Answer, error) {
			if err != nil {
				return a, err
			}
			if err := change(r, &a); err != nil {
				return renewal.Answer{}, err
			}
			return a, nil
		}
	}
}

// failing changes the errors of a good Enroller.
func failing(change func(a *renewal.Answer, err error) error) func(*faulty) {
	return func(f *faulty) {
		f.enrol = func(_ context.Context, _ *renewal.Transport, _ renewal.Request, a renewal.Answer, err error) (renewal.Answer, error) {
			if err != nil {
				err = change(&a, err)
			}
			return a, err
		}
	}
}

func parsed(r renewal.Request) *x509.CertificateRequest {
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		panic(err)
	}
	return csr
}

// strange is a server that no transport of these tests trusts.
var strange = sync.OnceValue(func() string {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	return s.URL
})

// used has the transport make a handshake, which fails.
func used(t *renewal.Transport) {
	if q, err := t.Client(x509.NewCertPool()).Get(strange()); err == nil {
		q.Body.Close()
	}
}

func TestAnEnrollerThatBreaksTheContractIsFound(t *testing.T) {
	a, err := newAuthority()
	require.NoError(t, err)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	other := &renewal.EnrolError{Kind: renewal.Rejected, Detail: "planted"}
	found := map[string]bool{}
	for _, x := range []struct {
		name  string
		fault func(*faulty)
		says  string
		in    []string // of these at least
		hangs bool
	}{
		{"a certificate for another key", enrolled(func(r renewal.Request, x *renewal.Answer) (err error) {
			x.Certificate, err = a.issue(parsed(r).RawSubject, stranger.Public())
			return err
		}), "is for another key than the request's", []string{answers, repeats, atOnce}, false},
		{"a certificate for another subject", enrolled(func(r renewal.Request, x *renewal.Answer) (err error) {
			x.Certificate, err = a.issue([]byte{0x30, 0}, parsed(r).PublicKey)
			return err
		}), "wanted that of the request, byte for byte", []string{answers}, false},
		{"nothing", enrolled(func(_ renewal.Request, x *renewal.Answer) error { *x = renewal.Answer{}; return nil }),
			"neither a certificate nor a wait", []string{answers}, false},
		{"a certificate and a wait", enrolled(func(r renewal.Request, x *renewal.Answer) error {
			x.Pending = r.Now.Add(time.Hour)
			return nil
		}), "a certificate and a wait", []string{answers}, false},
		{"a wait that is over", enrolled(func(r renewal.Request, x *renewal.Answer) error {
			*x = renewal.Answer{Pending: r.Now}
			return nil
		}), "wanted an instant after Request.Now", []string{answers}, false},
		{"PEM", enrolled(func(_ renewal.Request, x *renewal.Answer) error {
			x.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Certificate})
			return nil
		}), "is not one certificate in DER", []string{answers}, false},
		{"bytes behind the certificate", enrolled(func(_ renewal.Request, x *renewal.Answer) error {
			x.Certificate = append(x.Certificate, 0)
			return nil
		}), "is not one certificate in DER", []string{answers}, false},
		{"a chain that begins with the certificate itself", enrolled(func(_ renewal.Request, x *renewal.Answer) error {
			x.Chain = append([][]byte{x.Certificate}, x.Chain...)
			return nil
		}), "wanted the issuing CA first", []string{answers}, false},
		{"a chain of something else", enrolled(func(_ renewal.Request, x *renewal.Answer) error {
			x.Chain = append(x.Chain, []byte("no certificate"))
			return nil
		}), "Answer.Chain[1] is not one certificate", []string{answers}, false},
		{"a repetition is refused", func(f *faulty) {
			seen := map[string]bool{}
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if err == nil && seen[r.ID] {
					return renewal.Answer{}, other
				}
				seen[r.ID] = true
				return x, err
			}
		}, "Enrol, asked again failed; wanted a certificate or a wait", []string{repeats}, false},
		{"only the process that asked first is answered", func(f *faulty) {
			mine := map[string]bool{}
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if err == nil && f.confirmed[r.ID] && !mine[r.ID] {
					return renewal.Answer{}, other
				}
				mine[r.ID], f.confirmed[r.ID] = true, true
				return x, err
			}
		}, "by an Enroller that was made anew failed", []string{repeats}, false},
		{"a repetition crashes", func(f *faulty) {
			seen := map[string]bool{}
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if seen[r.ID] {
					panic("planted")
				}
				seen[r.ID] = true
				return x, err
			}
		}, "panicked: planted", []string{repeats}, false},
		{"what was answered first is answered to all", func(f *faulty) {
			var first renewal.Answer
			f.enrol = func(_ context.Context, _ *renewal.Transport, _ renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if err == nil && first.Certificate == nil {
					first = x
				}
				if err != nil {
					return x, err
				}
				return first, nil
			}
		}, "is for another key", []string{atOnce}, false},
		{"who was broken off is not known again", func(f *faulty) {
			f.enrol = func(ctx context.Context, t *renewal.Transport, r renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				used(t)
				f.mu.Lock()
				defer f.mu.Unlock()
				if err == nil && f.confirmed[r.ID] {
					return renewal.Answer{}, other
				}
				if err == nil && ctx.Err() != nil {
					f.confirmed[r.ID] = true
					return renewal.Answer{}, ctx.Err()
				}
				return x, err
			}
		}, "asked again after it was broken off", []string{brokenOff}, false},
		{"what was broken off is unreachable", func(f *faulty) {
			f.enrol = func(ctx context.Context, t *renewal.Transport, _ renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				used(t)
				if err == nil && ctx.Err() != nil {
					return renewal.Answer{}, &renewal.EnrolError{Kind: renewal.Unreachable}
				}
				return x, err
			}
		}, "wanted an answer, or ctx's error", []string{brokenOff}, false},
		{"the request is changed", enrolled(func(r renewal.Request, _ *renewal.Answer) error { r.CSR[0] ^= 1; return nil }),
			"changed Request.CSR", []string{answers, untouched}, false},
		{"something is written behind the request", enrolled(func(r renewal.Request, _ *renewal.Answer) error {
			_ = append(r.CSR, '\n')
			return nil
		}), "wrote behind it", []string{untouched}, false},
		{"the certificate that is renewed is changed", func(f *faulty) {
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				r.Current.Raw[0]++
				return x, err
			}
		}, "changed Request.Current", []string{untouched}, false},
		{"an answer is written over by that to the repetition", func(f *faulty) {
			given := map[string][]byte{}
			f.enrol = func(_ context.Context, _ *renewal.Transport, r renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				clear(given[r.ID])
				given[r.ID] = x.Certificate
				return x, err
			}
		}, "changed an Answer that it had given before", []string{untouched}, false},
		{"an error of no type", failing(func(_ *renewal.Answer, err error) error { return errors.New(err.Error()) }),
			"wanted a *renewal.EnrolError of kind Rejected", []string{rejects, endedBefore, unreachable}, false},
		{"an error of no kind", failing(func(_ *renewal.Answer, err error) error {
			if e := new(renewal.EnrolError); errors.As(err, &e) {
				return &renewal.EnrolError{Detail: "planted"}
			}
			return err
		}), "kind 0, which is none", []string{rejects, unreachable}, false},
		{"an answer beside the error", failing(func(x *renewal.Answer, err error) error { x.Pending = time.Unix(1, 0); return err }),
			"gave an Answer beside its error", []string{rejects}, false},
		{"a request that is refused can be tried again", failing(func(_ *renewal.Answer, err error) error {
			if e := new(renewal.EnrolError); errors.As(err, &e) {
				return &renewal.EnrolError{Kind: renewal.Unreachable}
			}
			return err
		}), "ended with kind Unreachable; wanted Rejected", []string{rejects}, false},
		{"who cannot be reached refuses", failing(func(_ *renewal.Answer, err error) error {
			if e := new(renewal.EnrolError); errors.As(err, &e) {
				return &renewal.EnrolError{Kind: renewal.Rejected}
			}
			return err
		}), "ended with kind Rejected; wanted Unreachable", []string{unreachable}, false},
		{"who cannot be reached is a ctx that ended", failing(func(_ *renewal.Answer, err error) error {
			if e := new(renewal.EnrolError); errors.As(err, &e) && e.Kind == renewal.Unreachable {
				return context.DeadlineExceeded
			}
			return err
		}), "but ctx had not ended", []string{unreachable}, false},
		{"a ctx that has ended is a failed enrolment", failing(func(_ *renewal.Answer, err error) error {
			if errors.Is(err, context.Canceled) {
				return &renewal.EnrolError{Kind: renewal.Unreachable}
			}
			return err
		}), "wanted ctx's error, for errors.Is", []string{endedBefore, endedWithin}, false},
		{"a ctx that has ended is not looked at", func(f *faulty) {
			f.enrol = func(_ context.Context, t *renewal.Transport, r renewal.Request, _ renewal.Answer, _ error) (renewal.Answer, error) {
				return f.channel.Enrol(context.Background(), t, r)
			}
		}, "did not return within", []string{endedBefore, endedWithin}, true},
		{"the transport of the first call is used by the next", func(f *faulty) {
			var kept *renewal.Transport
			f.enrol = func(_ context.Context, t *renewal.Transport, _ renewal.Request, x renewal.Answer, err error) (renewal.Answer, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if kept == nil {
					kept = t
				}
				used(kept)
				return x, err
			}
		}, "a Transport was used after its call had returned", []string{transports}, false},
		{"a probe enrols", func(f *faulty) {
			f.probe = func(ctx context.Context, _ *renewal.Transport, err error) error {
				if err == nil {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.issued[rand.Text()] = []byte("a certificate")
				}
				return err
			}
		}, "Probe had 2 certificates issued; wanted none", []string{probes}, false},
		{"a probe of an authority that answers fails", func(f *faulty) {
			f.probe = func(_ context.Context, _ *renewal.Transport, err error) error { return errors.Join(err, other) }
		}, "Probe of an authority that answers", []string{probes}, false},
		{"a probe says yes whatever is there", func(f *faulty) {
			f.probe = func(context.Context, *renewal.Transport, error) error { return nil }
		}, "succeeded; wanted a *renewal.EnrolError of kind Unreachable", []string{probeEnds}, false},
		{"a question about requests enrols", func(f *faulty) {
			f.wishes = func(w renewal.Attributes, err error) (renewal.Attributes, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.issued[rand.Text()] = []byte("a certificate")
				return w, err
			}
		}, "the Attributes had 2 certificates issued; wanted none", []string{wishing}, false},
		{"a question about requests fails", func(f *faulty) {
			f.wishes = func(w renewal.Attributes, err error) (renewal.Attributes, error) { return w, errors.Join(err, other) }
		}, "the Attributes of an authority that answers", []string{wishing}, false},
		{"a key is wanted that no card makes", func(f *faulty) { f.wished.KeyBits = 1024 },
			"Attributes.KeyBits is 1024; wanted 2048, 3072 or 4096", []string{wishing}, false},
		{"a signature is wanted that no card makes", func(f *faulty) { f.wished.Signature = x509.ECDSAWithSHA256 },
			"Attributes.Signature is ECDSA-SHA256; wanted RSASSA-PKCS1-v1_5", []string{wishing}, false},
		{"there are no wishes whatever is there", func(f *faulty) {
			f.wishes = func(w renewal.Attributes, err error) (renewal.Attributes, error) { return w, nil }
		}, "succeeded; wanted a *renewal.EnrolError of kind Unreachable", []string{wishingEnds}, false},
		{"a proof is taken once", func(f *faulty) {
			seen := map[string]bool{}
			f.confirm = func(r renewal.Request, _ []byte, _ renewal.Proof, err error) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				if err == nil && seen[r.ID] {
					return other
				}
				seen[r.ID] = true
				return err
			}
		}, "Confirm, called again failed", []string{confirmAgain}, false},
		{"a proof is taken by one process alone", func(f *faulty) {
			mine := map[string]bool{}
			f.confirm = func(r renewal.Request, _ []byte, _ renewal.Proof, err error) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				if err == nil && f.issued["confirmed "+r.ID] != nil && !mine[r.ID] {
					return other
				}
				f.issued["confirmed "+r.ID], mine[r.ID] = []byte{1}, true
				return err
			}
		}, "an Enroller that was made anew failed", []string{confirmAgain}, false},
		{"the proof is changed", func(f *faulty) {
			f.confirm = func(_ renewal.Request, _ []byte, p renewal.Proof, err error) error { p.Signature[0] ^= 1; return err }
		}, "changed the request, the certificate or the proof", []string{confirmAgain}, false},
		{"every proof is taken", func(f *faulty) {
			f.confirm = func(_ renewal.Request, _ []byte, _ renewal.Proof, err error) error {
				if e := new(renewal.EnrolError); errors.As(err, &e) && e.Kind == renewal.Rejected {
					return nil
				}
				return err
			}
		}, "Confirm with a proof by another key succeeded", []string{confirmStranger}, false},
		{"a confirmation that did not arrive is a success", func(f *faulty) {
			f.confirm = func(_ renewal.Request, _ []byte, _ renewal.Proof, err error) error {
				if e := new(renewal.EnrolError); errors.As(err, &e) && e.Kind == renewal.Unreachable {
					return nil
				}
				return err
			}
		}, "succeeded; wanted a *renewal.EnrolError of kind Unreachable", []string{confirmEnds}, false},
	} {
		for _, s := range x.in {
			found[s] = true
		}
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := config(t, x.fault)
			if x.hangs {
				c.Patience = 3 * time.Second
			}
			err := renewaltest.CheckWithCachedKeys(t.Context(), c)
			require.ErrorContains(t, err, x.says)
			assert.Subset(t, broken(err), x.in, "%v", err)
			assert.NotEqual(t, all, broken(err), "a sentence that is kept passes: %v", err)
		})
	}
	for _, s := range all {
		assert.True(t, found[s], "no fault for: %s", s)
	}
}

// Run fails the test that it is called from: seen in a process of its own.
func TestRunFailsTheTest(t *testing.T) {
	const name = "RXGUARD_TEST_BROKEN_ENROLLER"
	if os.Getenv(name) != "" {
		renewaltest.Run(t, config(t, enrolled(func(_ renewal.Request, x *renewal.Answer) error { *x = renewal.Answer{}; return nil })))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunFailsTheTest$", "-test.v")
	cmd.Env = append(os.Environ(), name+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	assert.Contains(t, string(out), "--- FAIL: TestRunFailsTheTest/Enrol_answers_with_a_certificate_for_the_key")
	assert.Contains(t, string(out), "--- PASS: TestRunFailsTheTest/Probe_ends_as_Enrol_does")
	assert.NotContains(t, string(out), "panic:")
}

func TestAConfigThatCannotBeUsed(t *testing.T) {
	for _, x := range []struct {
		change func(*renewaltest.Config)
		says   string
	}{
		{func(c *renewaltest.Config) { c.New = nil }, "Config.New is missing"},
		{func(c *renewaltest.Config) { c.At = nil }, "Config.At is missing"},
		{func(c *renewaltest.Config) { c.Transport = nil }, "Config.Transport is missing"},
		{func(c *renewaltest.Config) { c.Current = nil }, "Config.Current is missing"},
		{func(c *renewaltest.Config) { c.Patience = -1 }, "Config.Patience is -1ns"},
		{func(c *renewaltest.Config) {
			c.New = func() (renewal.Enroller, error) { return nil, nil }
		}, "Config.New: no Enroller"},
		{func(c *renewaltest.Config) {
			c.At = func(string) (renewal.Enroller, error) { return nil, errors.New("planted") }
		}, "Config.At: planted"},
		{func(c *renewaltest.Config) {
			c.Transport = func(func() time.Time) *renewal.Transport { return nil }
		}, "Config.Transport made none"},
	} {
		c := config(t, nil)
		x.change(&c)
		assert.ErrorContains(t, renewaltest.CheckWithCachedKeys(t.Context(), c), x.says)
	}
}
