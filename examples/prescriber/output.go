package main

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/signing/eps"
)

// output writes the files of --out. Without a folder it writes nothing.
type output struct {
	dir     string
	old     []byte // PEM
	renewed bool   // a new certificate was written
}

// newOutput makes the folder of --out, out, and removes what an earlier journey left.
// The files are not among those of the card in its folder, world, where there is one
// already. With goesOn, an earlier run began the journey.
func newOutput(out, world string, goesOn bool) (*output, error) {
	if out == "" {
		return &output{}, nil
	}
	if world != "" {
		inside, err := isInside(out, world)
		if err != nil {
			return nil, err
		}
		if inside {
			return nil, fmt.Errorf("--out %s is in the folder of the simulated card or token; name another", out)
		}
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return nil, err
	}
	// What an earlier journey left would be taken for this one's. The verdicts of
	// the journey that is gone on with are its own.
	stale := []string{"old-certificate.pem", "new-certificate.pem", "signed-info.xml", "signature.bin", "signature.xml", "provenance.json"}
	if !goesOn {
		stale = append(stale, "verdicts.jsonl")
	}
	for _, name := range stale {
		if err := os.Remove(filepath.Join(out, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return &output{dir: out}, nil
}

// isInside tells whether a path is a folder or below it.
func isInside(path, dir string) (bool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return false, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

func (o *output) write(name string, b []byte) error {
	if o.dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(o.dir, name), b, 0o666)
}

func (o *output) oldCertificate(pem []byte) error {
	o.old = pem
	return o.write("old-certificate.pem", pem)
}

// verdict appends a verdict to verdicts.jsonl.
func (o *output) verdict(v guard.Verdict) error {
	if o.dir == "" {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(o.dir, "verdicts.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Close())
}

// signed writes a signature. A card that needed no renewal has no new certificate.
func (o *output) signed(s *eps.Signed, provenance []byte) error {
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if !bytes.Equal(cert, o.old) {
		o.renewed = true
		if err := o.write("new-certificate.pem", cert); err != nil {
			return err
		}
	}
	return errors.Join(
		o.write("signed-info.xml", s.SignedInfo()),
		o.write("signature.bin", s.SignatureValue()),
		o.write("signature.xml", s.XML()),
		o.write("provenance.json", provenance),
	)
}

// verify looks at the result once more, with nothing but crypto/rsa: what was
// signed is what was prepared.
func verify(p *eps.Prepared, s *eps.Signed) error {
	if string(p.SignedInfo()) != string(s.SignedInfo()) {
		return errors.New("what was signed is not what was prepared")
	}
	h := crypto.SHA256
	if p.Algorithm() == eps.RS1 {
		h = crypto.SHA1
	}
	d := h.New()
	d.Write(s.SignedInfo())
	key, ok := s.Certificate().PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("the certificate has a %T, not an RSA key", s.Certificate().PublicKey)
	}
	return rsa.VerifyPKCS1v15(key, h, d.Sum(nil), s.SignatureValue())
}
