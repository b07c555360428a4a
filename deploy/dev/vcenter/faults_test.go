package main

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func TestStreamFaults(t *testing.T) {
	lab := newLab(t, time.Minute)
	lease, info := lab.export(lab.vm(lab.client, "web-server-01"))
	manifest := func() []types.HttpNfcLeaseManifestEntry {
		entries, err := lease.GetManifest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}

	lab.fault(`{"kind": "drop_connection", "after_bytes": 300000, "disk": 0, "vm": "web-server-01"}`)
	if _, body, err := lab.download(info, 1); err != nil || len(body) != len(lab.stream) {
		t.Errorf("the fault of another disk hit: %d bytes, %v", len(body), err)
	}
	if _, body, err := lab.download(info, 0); err == nil || !bytes.Equal(body, lab.stream[:300000]) {
		t.Errorf("drop_connection: %d bytes, %v", len(body), err)
	}
	if entries := manifest(); len(entries) != 1 {
		t.Errorf("a broken stream is in the manifest: %+v", entries)
	}
	if _, body, err := lab.download(info, 0); err != nil || !bytes.Equal(body, lab.stream) {
		t.Errorf("a fault with times=1 struck twice: %d bytes, %v", len(body), err)
	}

	lab.fault(`{"kind": "truncate", "after_bytes": 1234, "disk": 0}`)
	if _, body, err := lab.download(info, 0); err != nil || !bytes.Equal(body, lab.stream[:1234]) {
		t.Errorf("truncate: %d bytes, %v", len(body), err)
	}
	if entries := manifest(); entries[0].Size != 1234 {
		t.Errorf("the manifest tells what was sent: %+v", entries)
	}

	whole := func() string {
		if _, body, err := lab.download(info, 0); err != nil || !bytes.Equal(body, lab.stream) {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		return manifest()[0].Sha1
	}
	sound := whole()
	for _, each := range []struct {
		fault string
		same  bool
	}{{`{"kind": "flip_byte", "offset": 400000}`, true}, {`{"kind": "flip_byte", "offset": 400000, "at_source": true}`, false}} {
		lab.fault("%s", each.fault)
		_, body, err := lab.download(info, 0)
		if err != nil || body[400000] != ^lab.stream[400000] || !bytes.Equal(body[400001:], lab.stream[400001:]) {
			t.Errorf("%s: %v", each.fault, err)
		}
		if same := manifest()[0].Sha1 == sound; same != each.same {
			t.Errorf("%s: the manifest has the sound digest: %t", each.fault, same)
		}
	}

	lab.fault(`{"kind": "slow", "bytes_per_second": 1000000, "disk": 0}`)
	started := time.Now()
	whole()
	if took := time.Since(started); took < 500*time.Millisecond || took > 3*time.Second {
		t.Errorf("600 kB at 1 MB/s took %s", took)
	}
	lab.clear()

	lab.fault(`{"kind": "stall", "after_bytes": 1000}`)
	time.AfterFunc(500*time.Millisecond, lab.clear)
	started = time.Now()
	whole()
	if took := time.Since(started); took < 400*time.Millisecond {
		t.Errorf("the stall was over after %s", took)
	}
}

func TestLeaseExpireInMidStream(t *testing.T) {
	lab := newLab(t, time.Minute)
	lease, info := lab.export(lab.vm(lab.client, "web-server-01"))
	lab.fault(`{"kind": "lease_expire", "after_bytes": 100000}`)
	if _, body, err := lab.download(info, 0); err == nil {
		t.Errorf("%d bytes and no error", len(body))
	}
	faultIs[types.Timedout](t, lease.Complete(t.Context()))
}

func TestExpireSessions(t *testing.T) {
	lab := newLab(t, time.Minute)
	_, info := lab.export(lab.vm(lab.client, "web-server-01"))
	lab.fault(`{"kind": "expire_sessions", "keep_leases": true}`)
	_, err := methods.GetCurrentTime(t.Context(), lab.client)
	faultIs[types.NotAuthenticated](t, err)
	if _, body, err := lab.download(info, 0); err != nil || !bytes.Equal(body, lab.stream) {
		t.Errorf("a lease that was to be kept: %d bytes, %v", len(body), err)
	}
	lab.client = lab.login()
	_, err = lab.vm(lab.client, "web-server-01").Export(t.Context())
	faultIs[types.InvalidState](t, err)

	lab.fault(`{"kind": "expire_sessions"}`)
	lab.client = lab.login()
	// The first lease has lost its session already and is left to its timeout.
	if reports := lab.leaseOutcomes(); !reports[0].Active {
		t.Errorf("%+v", reports)
	}
}

func TestFailMethod(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.vm(lab.client, "web-server-01")
	lab.fault(`{"kind": "fail_method", "method": "ExportVm", "fault": "HostCommunication", "times": 2, "vm": "web-server-01"}`)
	for range 2 {
		_, err := vm.Export(t.Context())
		faultIs[types.HostCommunication](t, err)
	}
	lab.fault(`{"kind": "fail_method", "method": "ExportVm", "fault": "TaskInProgress"}`)
	_, err := vm.Export(t.Context())
	faultIs[types.TaskInProgress](t, err)
	lab.fault(`{"kind": "fail_method", "method": "HttpNfcLeaseProgress", "fault": "NotAuthenticated", "vm": "web-server-01"}`)
	lease, _ := lab.export(vm)
	faultIs[types.NotAuthenticated](t, lease.Progress(t.Context(), 1))
	if err := lease.Progress(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestFaultsThatMakeNoSense(t *testing.T) {
	lab := newLab(t, time.Minute)
	for _, body := range []string{
		`{"kind": "nonsense"}`, `{"kind": "slow"}`, `{"kind": "fail_method"}`, `{"kind": "truncate", "vm": "nobody"}`,
		`{"kind": "fail_method", "method": "Login", "fault": "VirtualMachine"}`, `{"kind": "truncate", "after": 3}`,
		`{"kind": "truncate", "after_bytes": -1}`, `{"kind": "truncate", "times": 0}`, `{}`, `[`,
	} {
		var answer map[string]string
		if status := lab.ask(http.MethodPost, "/faults", body, &answer); status != http.StatusBadRequest || answer["error"] == "" {
			t.Errorf("%s: %d %v", body, status, answer)
		}
	}
	var report []activeFault
	lab.ask(http.MethodGet, "/faults", "", &report)
	if len(report) != 0 {
		t.Errorf("%+v", report)
	}
}

func TestCallsAreCounted(t *testing.T) {
	lab := newLab(t, time.Minute)
	lab.ask(http.MethodDelete, "/requests", "", nil)
	if _, err := methods.GetCurrentTime(t.Context(), lab.client); err != nil {
		t.Fatal(err)
	}
	var counts map[string]int
	lab.ask(http.MethodGet, "/requests", "", &counts)
	if len(counts) != 1 || counts["CurrentTime"] != 1 {
		t.Errorf("%v", counts)
	}
}

func TestReadOfAGoneObject(t *testing.T) {
	lab := newLab(t, time.Minute)
	lease, _ := lab.export(lab.vm(lab.client, "web-server-01"))
	if err := lease.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	request := types.RetrievePropertiesEx{
		This: property.DefaultCollector(lab.client.Client).Reference(),
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: "HttpNfcLease", PathSet: []string{"state"}}},
			ObjectSet: []types.ObjectSpec{{Obj: lease.Reference()}},
		}},
	}
	_, err := methods.RetrievePropertiesEx(t.Context(), lab.client, &request)
	faultIs[types.ManagedObjectNotFound](t, err)
}

func TestGuestAddedWhileRunning(t *testing.T) {
	lab := newLab(t, time.Minute)
	directory := t.TempDir() + "/late"
	writeGuest(t, directory, `{"name": "late", "disks": [{"flat": "disk1.raw", "stream": "disk1.vmdk"}],
		"esxi_host": "esxi-02.example.com", "nics": [{"mac": "00:50:56:aa:bb:09", "network": "Late"}]}`)
	if status := lab.ask(http.MethodPost, "/guests", `{"directory": "`+directory+`"}`, nil); status != http.StatusCreated {
		t.Fatal(status)
	}
	host, err := lab.vm(lab.client, "late").HostSystem(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if name, err := host.ObjectName(t.Context()); name != "esxi-02.example.com" || err != nil {
		t.Errorf("%s %v", name, err)
	}
	if status := lab.ask(http.MethodPost, "/guests", `{"directory": "`+directory+`"}`, nil); status != http.StatusBadRequest {
		t.Errorf("a second guest of that name: %d", status)
	}
}
