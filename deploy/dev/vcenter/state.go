package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const readyFile = "vcenter.json"

// ready is what clients of the simulator need to find it; it is written when every server listens.
type ready struct {
	URL               string `json:"url"`
	Server            string `json:"server"`
	Control           string `json:"control"`
	CertificateSHA256 string `json:"certificate_sha256"`
	CAFile            string `json:"ca_file"`
	Datacenter        string `json:"datacenter"`
	Username          string `json:"username"`
	PID               int    `json:"pid"`
}

// lockState makes the state directory, takes it for this process alone, and removes an earlier run's
// vcenter.json, so that its presence always means a running server.
func lockState(directory string) (func(), error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(directory, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%s: another simulated vCenter runs on this state directory (%w)", directory, err)
	}
	path := filepath.Join(directory, readyFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = lock.Close()
		return nil, err
	}
	return func() {
		_ = os.Remove(path)
		_ = lock.Close()
	}, nil
}

func (s *server) writeReady() error {
	content, err := json.MarshalIndent(ready{
		URL:               s.sdkURL(),
		Server:            s.listener.Addr().String(),
		Control:           s.controlURL(),
		CertificateSHA256: s.identity.sha256,
		CAFile:            s.identity.certificateFile,
		Datacenter:        s.datacenter,
		Username:          s.username,
		PID:               os.Getpid(),
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomically(filepath.Join(s.state, readyFile), append(content, '\n'), 0o644)
}

// writeAtomically puts content under path so that a reader sees all of it or none.
func writeAtomically(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Chmod(mode), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
