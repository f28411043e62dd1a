package testcard

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/rxguard/rxguard/internal/card"
)

const (
	cardNotice = "This is an rxguard simulated card. Its keys are test keys, not for patients and not for any real system."
	maxFile    = 4 << 20
	maxKey     = 4 << 10 // RSA-4096 in PKCS #8 has 2.4 kB
)

// cardFile is a card on disk.
type cardFile struct {
	Notice       string          `json:"simulated_card"`
	Version      int             `json:"version"`
	Manufacturer string          `json:"manufacturer"`
	Model        string          `json:"model"`
	Config       Config          `json:"config"`
	TriesLeft    int             `json:"tries_left"`
	Present      bool            `json:"present"`
	Insertion    uint64          `json:"insertion"`
	Containers   []containerFile `json:"containers"`

	// Of the PIV face; absent in the files of cards that had none.
	PUKTriesLeft        *int              `json:"puk_tries_left,omitempty"`
	ManagementAlgorithm byte              `json:"management_algorithm,omitempty"`
	Objects             map[uint32][]byte `json:"objects,omitempty"`
}

type containerFile struct {
	ID                 []byte `json:"id"`
	Label              string `json:"label"`
	PrivateKey         []byte `json:"private_key,omitempty"` // PKCS #8, RFC 5208
	PublicKey          []byte `json:"public_key,omitempty"`  // SubjectPublicKeyInfo
	AlwaysAuthenticate bool   `json:"always_authenticate"`
	Local              bool   `json:"local,omitempty"`
	CertificateLabel   string `json:"certificate_label"`
	Certificate        []byte `json:"certificate,omitempty"`
	Signatures         int    `json:"signatures"`
}

// Save writes the card with its keys and passcode to a file that only its owner
// may read, in one step: a crash leaves the file of before.
func (c *Card) Save(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.save(path)
}

// SaveTo saves the card now, and again after each change before the change is
// answered, so that a killed process leaves the card as it was. A save that fails
// is the answer to the operation (Kind Fault). An empty path ends it. Two
// processes must not save the same card.
func (c *Card) SaveTo(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.path, c.saveErr = path, nil
	return c.changed()
}

// SaveError is what went wrong with the last automatic save, or nil.
func (c *Card) SaveError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saveErr
}

// changed is called after each change of state, under the lock.
func (c *Card) changed() error {
	if c.path != "" {
		c.saveErr = c.save(c.path)
	}
	return c.saveErr
}

func (c *Card) save(path string) error {
	b, err := c.encode()
	if err != nil {
		return fmt.Errorf("testcard: save %s: %w", path, err)
	}
	return writeFile(path, b)
}

func (c *Card) encode() ([]byte, error) {
	f := cardFile{
		Notice: cardNotice, Version: 1, Manufacturer: Manufacturer, Model: Model,
		Config: c.cfg, TriesLeft: c.triesLeft, Present: c.present, Insertion: c.insertion,
		Containers:   []containerFile{},
		PUKTriesLeft: &c.pukLeft, ManagementAlgorithm: c.managementAlg, Objects: c.objects,
	}
	for _, k := range c.containers {
		x := containerFile{
			ID: k.id, Label: k.label, AlwaysAuthenticate: k.alwaysAuthenticate, Local: k.local,
			CertificateLabel: k.certificateLabel, Certificate: k.certificate, Signatures: k.signatures,
		}
		var err error
		if k.private != nil {
			if x.PrivateKey, err = x509.MarshalPKCS8PrivateKey(k.private); err != nil {
				return nil, err
			}
		}
		if k.public != nil {
			if x.PublicKey, err = x509.MarshalPKIXPublicKey(k.public); err != nil {
				return nil, err
			}
		}
		f.Containers = append(f.Containers, x)
	}
	return json.MarshalIndent(f, "", "  ")
}

// Load reads a card that Save wrote: as it was, in or out of the reader. It does
// not go on saving; SaveTo does.
func Load(path string) (*Card, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	c, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("testcard: load %s: %w", path, err)
	}
	return c, nil
}

func decode(b []byte) (*Card, error) {
	var f cardFile
	if err := strict(b, &f); err != nil {
		return nil, err
	}
	if f.Notice != cardNotice || f.Version != 1 || f.Manufacturer != Manufacturer || f.Model != Model {
		return nil, errors.New("not a simulated card of version 1")
	}
	var containers []*container
	for _, x := range f.Containers {
		k := &container{
			id: x.ID, label: x.Label, alwaysAuthenticate: x.AlwaysAuthenticate, local: x.Local,
			certificateLabel: x.CertificateLabel, certificate: x.Certificate, signatures: x.Signatures,
		}
		if x.PrivateKey != nil {
			key, err := parseKey(x.PrivateKey)
			if err != nil {
				return nil, fmt.Errorf("private key of container %x: %w", x.ID, err)
			}
			k.private = key
		}
		if x.PublicKey != nil {
			pub, err := x509.ParsePKIXPublicKey(x.PublicKey)
			if err != nil {
				return nil, fmt.Errorf("public key of container %x: %w", x.ID, err)
			}
			k.public = pub
		}
		containers = append(containers, k)
	}
	piv := personal{pukLeft: pukTries, managementAlg: f.ManagementAlgorithm, objects: f.Objects}
	if f.PUKTriesLeft != nil {
		piv.pukLeft = *f.PUKTriesLeft
	}
	return build(f.Config, f.TriesLeft, containers, piv, card.Presence{Present: f.Present, Insertion: f.Insertion})
}

func parseKey(pkcs8 []byte) (crypto.Signer, error) {
	if len(pkcs8) > maxKey { // reading a long one is slow
		return nil, fmt.Errorf("private key of %d bytes, expected at most %d", len(pkcs8), maxKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T cannot sign", parsed)
	}
	if err := usable(key.Public()); err != nil {
		return nil, err
	}
	return key, nil
}

// strict decodes one JSON value without unknown fields.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value, expected one")
	}
	return nil
}

// writeFile replaces a file in one step; its mode is 0600.
func writeFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".testcard-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("testcard: save: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("testcard: save: %w", err)
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // has no fsync of a folder
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("testcard: load: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("testcard: load: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("testcard: load %s: longer than the %d bytes of any simulated card", path, maxFile)
	}
	return b, nil
}
