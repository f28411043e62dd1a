package testcard

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

const caNotice = "This is the rxguard simulation's certificate authority. Trust nothing that it issues."

// caFile is a CA on disk.
type caFile struct {
	Notice     string `json:"simulated_ca"`
	Version    int    `json:"version"`
	Root       []byte `json:"root"`
	RootKey    []byte `json:"root_key"` // PKCS #8
	Issuing    []byte `json:"issuing"`
	IssuingKey []byte `json:"issuing_key"`
}

// Save writes the CA with its keys to a file that only its owner may read, in one
// step. Clock and Backdate are not part of it.
func (ca *CA) Save(path string) error {
	f := caFile{Notice: caNotice, Version: 1, Root: ca.root.Raw, Issuing: ca.issuing.Raw}
	var err error
	if f.RootKey, err = x509.MarshalPKCS8PrivateKey(ca.rootKey); err != nil {
		return fmt.Errorf("testcard: save %s: %w", path, err)
	}
	if f.IssuingKey, err = x509.MarshalPKCS8PrivateKey(ca.issuingKey); err != nil {
		return fmt.Errorf("testcard: save %s: %w", path, err)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("testcard: save %s: %w", path, err)
	}
	return writeFile(path, b)
}

// LoadCA reads a CA that Save wrote. CachedKeys has no meaning here.
func LoadCA(path string, cfg CAConfig) (*CA, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	ca, err := decodeCA(b, cfg)
	if err != nil {
		return nil, fmt.Errorf("testcard: load %s: %w", path, err)
	}
	return ca, nil
}

func decodeCA(b []byte, cfg CAConfig) (*CA, error) {
	var f caFile
	if err := strict(b, &f); err != nil {
		return nil, err
	}
	if f.Notice != caNotice || f.Version != 1 {
		return nil, errors.New("not a simulated CA of version 1")
	}
	root, rootKey, err := authority(f.Root, f.RootKey)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	issuing, issuingKey, err := authority(f.Issuing, f.IssuingKey)
	if err != nil {
		return nil, fmt.Errorf("issuing authority: %w", err)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if err := issuing.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("issuing authority: %w", err)
	}
	return newCA(cfg, rootKey, issuingKey, root, issuing), nil
}

// authority reads a CA certificate and its key.
func authority(der, pkcs8 []byte) (*x509.Certificate, crypto.Signer, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	key, err := parseKey(pkcs8)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(spki, cert.RawSubjectPublicKeyInfo) {
		return nil, nil, errors.New("certificate and private key are not a pair")
	}
	if !slices.Equal(cert.Subject.Organization, []string{Organization}) {
		return nil, nil, fmt.Errorf("organisation %q, expected %q", cert.Subject.Organization, Organization)
	}
	return cert, key, nil
}
