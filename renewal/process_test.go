//go:build cgo

package renewal_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

// job is what a process of its own does with a card behind a PKCS#11 module.
type job struct {
	Do            string // provision, look, renew, or look and renew
	Module        string
	Token, Reader string
	PIN, Officer  string // Officer is empty where the module wants none
	State, Record string
	Authority     string // file of the test authority; provision alone
	Issued        time.Time
	CAs           [][]byte // its certificates, the issuing one first
	URL           string   // of its enrolment server
	Notice        []byte   // the advisory that the renewal goes by
	StopAt        string   // the first tick with this name waits for a line
	Fragile       bool     // the card does not survive a login that is broken off
	Replace       bool     // the person says yes to giving up the only pair
}

// What a process prints, a word and what goes with it on a line each.
const (
	sayTick    = "tick"    // something is about to be done, or was
	sayFound   = "found"   // findings, before anything else
	sayStopped = "stopped" // at the tick that it was to stop at; a line lets it go on
	sayFragile = "fragile" // it is about to do what must not be broken off; a line lets it go on
	sayReseat  = "reseat"  // the card may be taken out and put back now
	sayOut     = "out"     // it was seen to be taken out
	sayEnd     = "end"     // ending; nothing follows
)

// findings are what another application, which knows of no notice, makes of the card.
type findings struct {
	Objects []object
	// Signed is the certificate that it signed with; empty: it was refused, for Reasons.
	Signed  string
	Reasons []guard.Reason
	Err     string
}

// object is one on the card. Sum is the SHA-256 of a certificate, Key that of the
// public key of a certificate or key; empty where it is not shown.
type object struct {
	Class    card.Class
	ID       string
	Sum, Key string
}

// ending is what a renewal came to.
type ending struct {
	Outcome   renewal.Outcome
	Text      string
	Remedies  int
	Err       string
	Completed bool // Finish said so, or an earlier process was told

	SignedInfo, Signature []byte // over a prescription, with the new certificate
	Certificate           []byte
}

// jobEnv holds the job of a process that TestMain is, instead of the tests.
const jobEnv = "RXGUARD_TEST_JOB"

func TestMain(m *testing.M) {
	in := os.Getenv(jobEnv)
	if in == "" {
		os.Exit(m.Run())
	}
	p := process{lines: make(chan string)}
	if err := json.Unmarshal([]byte(in), &p.job); err != nil {
		p.fail(err)
	}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			p.lines <- in.Text()
		}
		os.Exit(1) // whoever started this is gone
	}()
	if err := p.run(context.Background()); err != nil {
		p.fail(err)
	}
	os.Exit(0)
}

// patience bounds the wait for a reader. The machine may be busy.
const patience = time.Minute

// process is the other process.
type process struct {
	job
	lines chan string // of its input

	mu      sync.Mutex
	stopped bool
}

func (p *process) fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (p *process) say(word string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		p.fail(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Printf("%s %s\n", word, b)
}

// tick tells that something is about to be done, or was.
func (p *process) tick(name string) {
	p.say(sayTick, name)
	p.mu.Lock()
	stop := !p.stopped && name == p.StopAt
	p.stopped = p.stopped || stop
	p.mu.Unlock()
	if stop {
		p.say(sayStopped, name)
		<-p.lines
	}
}

func (p *process) run(ctx context.Context) error {
	m, err := p11.Open(ctx, p.Module, p11.Options{Poll: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	token, err := m.Token(ctx, p11.Select{Token: p.Token, Reader: p.Reader}, p.officer)
	if err != nil {
		return err
	}
	for at := token.Presence(); !at.Present; { // the reader takes its time
		ctx, cancel := context.WithTimeout(ctx, patience)
		at, err = token.Wait(ctx, at)
		cancel()
		if err != nil {
			return fmt.Errorf("the token is not there: %w", err)
		}
	}
	if err := p.do(ctx, token); err != nil {
		return err
	}
	if err := token.Close(); err != nil {
		return err
	}
	// No look at the readers goes on behind this: the race detector runs what the module
	// does at the end of a process while the module still works.
	_, err = m.Slots(ctx)
	return err
}

func (p *process) do(ctx context.Context, token card.Token) error {
	switch p.Do {
	case "provision":
		return p.provision(ctx, token)
	case "look":
		return p.look(ctx, token)
	case "look and renew":
		if err := p.look(ctx, token); err != nil {
			return err
		}
		return p.renew(ctx, token)
	case "renew":
		return p.renew(ctx, token)
	}
	return fmt.Errorf("job %q is not known", p.Do)
}

func (p *process) pin(context.Context, signing.PINRequest) ([]byte, error) { return []byte(p.PIN), nil }

func (p *process) officer(context.Context, card.PINRequest) ([]byte, error) {
	if p.Officer == "" {
		return nil, errors.New("no security officer is at hand")
	}
	return []byte(p.Officer), nil
}

// provision puts a prescriber's pairs on an empty token.
func (p *process) provision(ctx context.Context, token card.Token) error {
	ca, err := testcard.LoadCA(p.Authority, testcard.CAConfig{})
	if err != nil {
		return err
	}
	s, err := token.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Login(ctx, []byte(p.PIN)); err != nil {
		return err
	}
	for _, pair := range []struct {
		profile testcard.Profile
		id      []byte
		label   string
	}{
		{testcard.Authentication, testcard.AuthenticationID(), testcard.AuthenticationLabel},
		{testcard.Signing, testcard.SigningID(), testcard.SigningLabel},
	} {
		key, err := s.Generate(ctx, card.KeySpec{ID: pair.id, Label: pair.label, Bits: 2048})
		if err != nil {
			return err
		}
		c, err := ca.Issue(pair.profile, key.Public, testcard.IssueOptions{Subject: testcard.Subject("555000000001"), NotBefore: p.Issued})
		if err != nil {
			return err
		}
		if err := s.WriteCertificate(ctx, pair.id, pair.label, c.Raw); err != nil {
			return err
		}
	}
	return nil
}

// look is another application, whose guard knows of no notice: nothing but a hold keeps
// it from signing.
func (p *process) look(ctx context.Context, token card.Token) error {
	var f findings
	s, err := token.Open(ctx)
	if err != nil {
		return err
	}
	if err := s.Login(ctx, []byte(p.PIN)); err != nil {
		return err
	}
	list, err := s.Objects(ctx)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	f.Objects = objectsOf(list)
	c, err := signing.Open(ctx, signing.Config{Reader: card.NewReader(token, p.State), PIN: p.pin})
	if err != nil {
		return err
	}
	record, err := signing.OpenRecord(p.Record)
	if err != nil {
		return err
	}
	g, err := guard.New(guard.Config{})
	if err != nil {
		return err
	}
	signer, err := signing.New(c, g, record)
	if err != nil {
		return err
	}
	signed, err := sign(ctx, signer)
	var refused *guard.Refused
	var undecided *guard.Undecided
	switch {
	case err == nil:
		f.Signed = sum(signed.Certificate().Raw)
	case errors.As(err, &refused):
		f.Reasons = reasons(refused.Verdict)
	case errors.As(err, &undecided):
		f.Reasons = reasons(undecided.Verdict)
	default:
		f.Err = err.Error()
	}
	p.say(sayFound, f)
	return errors.Join(c.Close(), record.Close())
}

func reasons(v guard.Verdict) (out []guard.Reason) {
	for _, f := range v.Findings {
		if !f.Effect.Permits() {
			out = append(out, f.Reason)
		}
	}
	return out
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func objectsOf(list []card.Object) (out []object) {
	for _, o := range list {
		x := object{Class: o.Class, ID: hex.EncodeToString(o.ID)}
		pub := o.Public
		if o.Class == card.CertificateObject {
			x.Sum = sum(o.DER)
			if c, err := x509.ParseCertificate(o.DER); err == nil {
				pub = c.PublicKey
			}
		}
		if der, err := x509.MarshalPKIXPublicKey(pub); err == nil {
			x.Key = sum(der)
		}
		out = append(out, x)
	}
	return out
}

// sign signs a $prepare answer of now.
func sign(ctx context.Context, s *signing.Signer) (*eps.Signed, error) {
	digest := sha256.Sum256([]byte("a prescription"))
	info, err := eps.SignedInfo(eps.RS256, digest[:])
	if err != nil {
		return nil, err
	}
	prepared, err := eps.ParsePrepared(fmt.Appendf(nil, `{"resourceType": "Parameters", "parameter": [
		{"name": "digest", "valueString": %q},
		{"name": "timestamp", "valueString": %q},
		{"name": "algorithm", "valueString": "RS256"}]}`,
		base64.StdEncoding.EncodeToString(info), time.Now().UTC().Format("2006-01-02T15:04:05+00:00")))
	if err != nil {
		return nil, err
	}
	return signing.Sign(ctx, s, prepared)
}

// guard is one by the notice.
func (p *process) guard() (*guard.Guard, *x509.CertPool, error) {
	a, err := advisory.Parse(p.Notice, nil)
	if err != nil {
		return nil, nil, err
	}
	set, err := advisory.NewSet(1, p.Issued, a)
	if err != nil {
		return nil, nil, err
	}
	var cas []*x509.Certificate
	for _, der := range p.CAs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		cas = append(cas, c)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cas[1])
	g, err := guard.New(guard.Config{Advisories: set, Issuers: cas[:1], Roots: cas[1:]})
	return g, roots, err
}

// renew renews the card, as far as that is not done, waits for its re-seat where it can
// be taken out, and signs.
func (p *process) renew(ctx context.Context, token card.Token) error {
	g, roots, err := p.guard()
	if err != nil {
		return err
	}
	c, err := signing.Open(ctx, signing.Config{Reader: card.NewReader(tickingToken{token, p}, p.State), PIN: p.pin})
	if err != nil {
		return err
	}
	defer c.Close()
	record, err := signing.OpenRecord(p.Record)
	if err != nil {
		return err
	}
	defer record.Close()
	client, err := est.New(est.Config{URL: p.URL, Label: testcard.SigningESTLabel, Roots: roots, Anchors: roots})
	if err != nil {
		return err
	}
	r, err := renewal.New(renewal.Config{
		Card: c, Guard: g, Recorder: tickingRecord{record, p}, Enroller: tickingEnroller{client, p},
		Replace: func(context.Context, renewal.Plan) (bool, error) { return p.Replace, nil },
	})
	if err != nil {
		return err
	}
	var e ending
	res, err := r.Renew(ctx, func(x renewal.Progress) { p.tick(tickStep + string(x.Step)) })
	e.told(res, err)
	switch {
	case err != nil || p.Reader == "":
		p.say(sayEnd, e)
		return nil
	case res.Outcome == renewal.ReseatCard:
		signer, err := signing.New(c, g, tickingRecord{record, p})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { p.watch(ctx, c) })
		p.say(sayReseat, "")
		res, err = r.Finish(ctx, signer)
		cancel()
		watching.Wait()
		e.told(res, err)
	}
	e.Completed = res.Outcome == renewal.Completed || res.Outcome == renewal.NotNeeded
	if e.Completed {
		signer, err := signing.New(c, g, record)
		if err != nil {
			return err
		}
		signed, err := sign(ctx, signer)
		if err != nil {
			return err
		}
		e.SignedInfo, e.Signature, e.Certificate = signed.SignedInfo(), signed.SignatureValue(), signed.Certificate().Raw
	}
	p.say(sayEnd, e)
	return nil
}

func (e *ending) told(res renewal.Result, err error) {
	e.Outcome, e.Text, e.Remedies = res.Outcome, res.Text, len(res.Remedies)
	if err != nil {
		e.Err = err.Error()
	}
}

// watch tells when the card was seen to be out.
func (p *process) watch(ctx context.Context, c *signing.Card) {
	for {
		changed := c.Changed()
		if s, err := c.Snapshot(ctx); err != nil || errors.Is(s.Err, guard.ErrNoCard) {
			p.say(sayOut, "")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
