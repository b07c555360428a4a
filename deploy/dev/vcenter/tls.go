package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// identity is the server's certificate with the fingerprints that clients pin.
type identity struct {
	certificate     tls.Certificate
	certificateFile string
	sha1            string
	sha256          string
	instanceUUID    string
}

// loadIdentity returns the state directory's certificate, and makes one when there is none or it is about
// to expire. It is kept so that a pinned fingerprint survives a restart.
func loadIdentity(directory string) (*identity, error) {
	certificateFile := filepath.Join(directory, "certificate.pem")
	keyFile := filepath.Join(directory, "key.pem")
	pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil || time.Until(pair.Leaf.NotAfter) < 30*24*time.Hour {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			log.Printf("making a new certificate, the old one is unusable: %s", err)
		}
		if err := makeCertificate(certificateFile, keyFile); err != nil {
			return nil, fmt.Errorf("cannot make a certificate: %w", err)
		}
		if pair, err = tls.LoadX509KeyPair(certificateFile, keyFile); err != nil {
			return nil, err
		}
	}
	long, short := sha256.Sum256(pair.Leaf.Raw), sha1.Sum(pair.Leaf.Raw)
	return &identity{
		certificate:     pair,
		certificateFile: certificateFile,
		sha1:            fingerprint(short[:]),
		sha256:          fingerprint(long[:]),
		instanceUUID:    fmt.Sprintf("%x-%x-%x-%x-%x", long[0:4], long[4:6], long[6:8], long[8:10], long[10:16]),
	}, nil
}

func fingerprint(digest []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% X", digest), " ", ":")
}

// makeCertificate writes a self-signed certificate for the loopback addresses. It carries the key
// identifiers and the CA bit that strict verifiers (Python 3.13, RFC 5280) ask of a trust anchor.
func makeCertificate(certificateFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	keyID := sha1.Sum(public)
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "simulated vCenter", Organization: []string{"hyperctl development"}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          keyID[:],
		AuthorityKeyId:        keyID[:],
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := writeAtomically(keyFile, keyPEM, 0o600); err != nil {
		return err
	}
	certificatePEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	return writeAtomically(certificateFile, certificatePEM, 0o644)
}
