package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
)

const (
	testUser     = "administrator@vsphere.local"
	testPassword = "correct horse"
)

// lab is a running server with one client's session.
type lab struct {
	*server
	t      *testing.T
	client *govmomi.Client
	stream []byte // of the first disk
	flat   []byte
}

// newLab starts a server with two guests: web-server-01 with two disks, and running, which is powered on.
func newLab(t *testing.T, leaseTimeout time.Duration) *lab {
	t.Helper()
	guests := t.TempDir()
	result := &lab{t: t}
	result.flat, result.stream = writeGuest(t, filepath.Join(guests, "web-server-01"), `{
		"name": "web-server-01", "guest_id": "debian12_64Guest", "guest_full_name": "Debian GNU/Linux 12 (64-bit)",
		"firmware": "efi", "secure_boot": true, "host_name": "web-server-01", "annotation": "web & proxy",
		"disks": [{"flat": "disk1.raw", "stream": "disk1.vmdk"}, {"flat": "disk1.raw", "stream": "disk1.vmdk"}],
		"nics": [{"mac": "00:50:56:aa:bb:01", "network": "VM Network", "adapter": "vmxnet3",
			"addresses": ["192.0.2.10/24"], "gateway": "192.0.2.1", "dns": ["192.0.2.53"], "device_name": "ens192"}]}`)
	writeGuest(t, filepath.Join(guests, "running"), `{
		"name": "running", "power_state": "poweredOn", "scsi": "lsilogic", "has_snapshot": true,
		"disks": [{"flat": "disk1.raw", "stream": "disk1.vmdk"}],
		"nics": [{"mac": "00:50:56:aa:bb:02", "network": "Backend"}]}`)

	opts := options{
		listen: "127.0.0.1:0", control: "127.0.0.1:0", guests: guests, username: testUser, password: testPassword,
		state: t.TempDir(), datacenter: "DC1", leaseTimeout: leaseTimeout, sessionTimeout: time.Hour,
	}
	started, err := newServer(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := started.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(started.stop)
	result.server = started
	result.client = result.login()
	return result
}

// writeGuest makes a guest's folder. The stream is a VMDK by its header alone: nothing here decodes it.
func writeGuest(t *testing.T, directory, specification string) (flat, stream []byte) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	flat = make([]byte, 1<<20)
	stream = make([]byte, 600_001)
	_, _ = random.Read(flat)
	_, _ = random.Read(stream)
	copy(stream, "KDMV")
	binary.LittleEndian.PutUint64(stream[12:], uint64(len(flat)/sectorBytes))
	err := errors.Join(
		os.MkdirAll(directory, 0o700),
		os.WriteFile(filepath.Join(directory, "disk1.raw"), flat, 0o600),
		os.WriteFile(filepath.Join(directory, "disk1.vmdk"), stream, 0o600),
		os.WriteFile(filepath.Join(directory, "guest.json"), []byte(specification), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	return flat, stream
}

// connect logs in over TLS that trusts the server's certificate alone.
func (l *lab) connect(user, password string) (*govmomi.Client, error) {
	target, err := url.Parse(l.sdkURL())
	if err != nil {
		return nil, err
	}
	transport := soap.NewClient(target, false)
	if err := transport.SetRootCAs(l.identity.certificateFile); err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(context.Background(), transport)
	if err != nil {
		return nil, err
	}
	manager := session.NewManager(client)
	if err := manager.Login(context.Background(), url.UserPassword(user, password)); err != nil {
		return nil, err
	}
	return &govmomi.Client{Client: client, SessionManager: manager}, nil
}

func (l *lab) login() *govmomi.Client {
	l.t.Helper()
	client, err := l.connect(testUser, testPassword)
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

func (l *lab) vm(client *govmomi.Client, name string) *object.VirtualMachine {
	l.t.Helper()
	vm, err := find.NewFinder(client.Client).VirtualMachine(l.t.Context(), "/DC1/vm/"+name)
	if err != nil {
		l.t.Fatal(err)
	}
	return vm
}

// export opens a lease and waits until it is ready.
func (l *lab) export(vm *object.VirtualMachine) (*nfc.Lease, *nfc.LeaseInfo) {
	l.t.Helper()
	lease, err := vm.Export(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	info, err := lease.Wait(l.t.Context(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return lease, info
}

// get sends a request that trusts the server's certificate and nothing else.
func (l *lab) get(method, target string, header http.Header) (int, http.Header, []byte, error) {
	l.t.Helper()
	certificate, err := os.ReadFile(l.identity.certificateFile)
	if err != nil {
		l.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(method, target, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body, err
}

// download fetches one device of a lease.
func (l *lab) download(info *nfc.LeaseInfo, index int) (int, []byte, error) {
	l.t.Helper()
	target := strings.Replace(info.DeviceUrl[index].Url, "*", "127.0.0.1", 1)
	status, _, body, err := l.get(http.MethodGet, target, nil)
	return status, body, err
}

// ask calls the control endpoint, and decodes the answer into target unless that is nil.
func (l *lab) ask(method, path, body string, target any) int {
	l.t.Helper()
	request, err := http.NewRequest(method, l.controlURL()+path, bytes.NewBufferString(body))
	if err != nil {
		l.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if target != nil {
		if err := json.NewDecoder(response.Body).Decode(target); err != nil {
			l.t.Fatal(err)
		}
	}
	return response.StatusCode
}

func (l *lab) fault(format string, arguments ...any) {
	l.t.Helper()
	var answer map[string]any
	if status := l.ask(http.MethodPost, "/faults", fmt.Sprintf(format, arguments...), &answer); status != http.StatusCreated {
		l.t.Fatalf("fault refused: %d %v", status, answer)
	}
}

func (l *lab) clear() { l.ask(http.MethodDelete, "/faults", "", nil) }

// faultIs checks that a SOAP call failed with a fault of type T.
func faultIs[T any](t *testing.T, err error) {
	t.Helper()
	var wanted T
	if err == nil || !soap.IsSoapFault(err) {
		t.Fatalf("got %v, expected the fault %T", err, wanted)
	}
	if _, ok := soap.ToSoapFault(err).VimFault().(T); !ok {
		t.Fatalf("got the fault %T, expected %T", soap.ToSoapFault(err).VimFault(), wanted)
	}
}

func (l *lab) leaseOutcomes() []leaseReport {
	l.t.Helper()
	var report []leaseReport
	l.ask(http.MethodGet, "/leases", "", &report)
	return report
}
