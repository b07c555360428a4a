package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestLoginChecksUserAndPassword(t *testing.T) {
	lab := newLab(t, time.Minute)
	for _, each := range [][2]string{{testUser, "wrong"}, {"somebody", testPassword}, {testUser, ""}} {
		_, err := lab.connect(each[0], each[1])
		faultIs[types.InvalidLogin](t, err)
	}
	if _, err := lab.connect(strings.ToUpper(testUser), testPassword); err != nil {
		t.Errorf("a user's name is compared without case: %s", err)
	}
	if version := lab.client.ServiceContent.About.ApiVersion; version != apiVersion {
		t.Errorf("API version %s", version)
	}
}

func TestLogoutRemovesTheSessionAndItsLease(t *testing.T) {
	lab := newLab(t, time.Minute)
	lab.export(lab.vm(lab.client, "web-server-01"))
	if err := lab.client.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	var report struct{ Count int }
	lab.ask(http.MethodGet, "/sessions", "", &report)
	if report.Count != 0 {
		t.Errorf("%d sessions are left", report.Count)
	}
	if lease := lab.leaseOutcomes()[0]; lease.Active || lease.Outcome != outcomeSessionEnded {
		t.Errorf("the lease: %+v", lease)
	}
}

func TestIdleSessionExpires(t *testing.T) {
	lab := newLab(t, time.Minute)
	lab.server.sessions.timeout = 0
	_, err := methods.GetCurrentTime(t.Context(), lab.client)
	faultIs[types.NotAuthenticated](t, err)
}

func TestInventoryShowsTheGuest(t *testing.T) {
	lab := newLab(t, time.Minute)
	var vm mo.VirtualMachine
	reference := lab.vm(lab.client, "web-server-01").Reference()
	err := property.DefaultCollector(lab.client.Client).RetrieveOne(t.Context(), reference, []string{"config", "guest", "runtime", "summary"}, &vm)
	if err != nil {
		t.Fatal(err)
	}
	var disks []*types.VirtualDisk
	for _, device := range vm.Config.Hardware.Device {
		if disk, ok := device.(*types.VirtualDisk); ok {
			disks = append(disks, disk)
		}
	}
	if len(disks) != 2 || disks[0].Key != 2000 || disks[0].CapacityInBytes != int64(len(lab.flat)) ||
		disks[1].DeviceInfo.GetDescription().Label != "Hard disk 2" || *disks[1].UnitNumber != 1 {
		t.Errorf("disks: %+v", disks)
	}
	if vm.Config.Firmware != "efi" || !*vm.Config.BootOptions.EfiSecureBootEnabled || vm.Config.GuestFullName != "Debian GNU/Linux 12 (64-bit)" {
		t.Errorf("configuration: %+v", vm.Config)
	}
	nic := vm.Guest.Net[0]
	if nic.MacAddress != "00:50:56:aa:bb:01" || nic.IpConfig.IpAddress[0].IpAddress != "192.0.2.10" ||
		nic.IpConfig.IpAddress[0].PrefixLength != 24 || nic.DeviceConfigId != 4000 {
		t.Errorf("guest.net: %+v", nic)
	}
	stack := vm.Guest.IpStack[0]
	if stack.IpRouteConfig.IpRoute[0].Gateway.IpAddress != "192.0.2.1" || stack.DnsConfig.IpAddress[0] != "192.0.2.53" {
		t.Errorf("guest.ipStack: %+v", stack)
	}
	if vm.Guest.ToolsRunningStatus != "guestToolsNotRunning" || vm.Summary.Storage.Committed < int64(2*len(lab.flat)) {
		t.Errorf("tools %s, storage %+v", vm.Guest.ToolsRunningStatus, vm.Summary.Storage)
	}
}

func TestPowerChangesTheFactsOfTheTools(t *testing.T) {
	lab := newLab(t, time.Minute)
	if status := lab.ask(http.MethodPost, "/vms/web-server-01/power", `{"state": "poweredOn"}`, nil); status != http.StatusOK {
		t.Fatal(status)
	}
	var vm mo.VirtualMachine
	machine := lab.vm(lab.client, "web-server-01")
	if err := machine.Properties(t.Context(), machine.Reference(), []string{"guest", "runtime"}, &vm); err != nil {
		t.Fatal(err)
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || vm.Guest.ToolsRunningStatus != "guestToolsRunning" {
		t.Errorf("%s, %s", vm.Runtime.PowerState, vm.Guest.ToolsRunningStatus)
	}
}

func TestExportOfAPoweredOffVM(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.vm(lab.client, "web-server-01")
	lease, info := lab.export(vm)
	if info.TotalDiskCapacityInKB != int64(2*len(lab.flat)/1024) || info.LeaseTimeout != 60 || len(info.DeviceUrl) != 2 {
		t.Errorf("info: %+v", info)
	}
	if device := info.DeviceUrl[1]; !strings.HasSuffix(device.Key, "/ParaVirtualSCSIController0:1") ||
		!strings.HasPrefix(device.Url, "https://*:") || device.SslThumbprint != lab.identity.sha1 || !*device.Disk {
		t.Errorf("device: %+v", device)
	}
	_, err := vm.Export(t.Context())
	faultIs[types.InvalidState](t, err)
	_, err = vm.PowerOn(t.Context())
	faultIs[types.InvalidState](t, err)

	if err := lease.Progress(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	status, body, err := lab.download(info, 1)
	if status != http.StatusOK || err != nil || !bytes.Equal(body, lab.stream) {
		t.Fatalf("status %d, %d bytes, %v", status, len(body), err)
	}
	manifest, err := lease.GetManifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha1.Sum(lab.stream)
	if len(manifest) != 1 || manifest[0].Key != info.DeviceUrl[1].Key || manifest[0].Sha1 != hex.EncodeToString(digest[:]) ||
		manifest[0].Size != int64(len(lab.stream)) || manifest[0].Capacity != int64(len(lab.flat)) {
		t.Errorf("manifest: %+v", manifest)
	}
	if err := lease.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	faultIs[types.ManagedObjectNotFound](t, lease.Abort(t.Context(), nil))
	if status, _, _ := lab.download(info, 0); status != http.StatusNotFound {
		t.Errorf("the ticket outlives its lease: %d", status)
	}
	if lease := lab.leaseOutcomes()[0]; lease.Outcome != outcomeCompleted || lease.Percent != 40 {
		t.Errorf("the lease: %+v", lease)
	}
}

func TestExportOfARunningVMNeedsASnapshot(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.vm(lab.client, "running")
	_, err := vm.Export(t.Context())
	faultIs[types.InvalidPowerState](t, err)
	snapshot, err := vm.FindSnapshot(t.Context(), "before")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := vm.ExportSnapshot(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	info, err := lease.Wait(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, body, err := lab.download(info, 0); err != nil || !bytes.Equal(body, lab.stream) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if err := lease.Complete(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLeaseTimesOutWithoutProgress(t *testing.T) {
	lab := newLab(t, time.Second)
	lease, info := lab.export(lab.vm(lab.client, "web-server-01"))
	lab.fault(`{"kind": "slow", "bytes_per_second": 100000}`)
	if _, body, err := lab.download(info, 0); err == nil {
		t.Errorf("the stream outlived its lease, %d bytes", len(body))
	}
	faultIs[types.Timedout](t, lease.Progress(t.Context(), 50))
	properties, err := lease.Properties(t.Context())
	for err == nil && properties.Error == nil { // its properties change a moment later
		time.Sleep(10 * time.Millisecond)
		properties, err = lease.Properties(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := properties.Error.Fault.(*types.Timedout); !ok || properties.State != types.HttpNfcLeaseStateError {
		t.Errorf("state %s, error %+v", properties.State, properties.Error)
	}
}

func TestProgressKeepsALeaseAlive(t *testing.T) {
	lab := newLab(t, time.Second)
	lease, _ := lab.export(lab.vm(lab.client, "web-server-01"))
	for range 5 {
		time.Sleep(300 * time.Millisecond)
		if err := lease.Progress(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLeaseBelongsToItsSession(t *testing.T) {
	lab := newLab(t, time.Minute)
	lease, _ := lab.export(lab.vm(lab.client, "web-server-01"))
	other := lab.login()
	_, err := methods.HttpNfcLeaseProgress(t.Context(), other.Client, &types.HttpNfcLeaseProgress{This: lease.Reference(), Percent: 9})
	faultIs[types.ManagedObjectNotFound](t, err)
}

func TestCreateDescriptor(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.vm(lab.client, "web-server-01")
	result, err := ovf.NewManager(lab.client.Client).CreateDescriptor(t.Context(), vm, types.OvfCreateDescriptorParams{
		OvfFiles: []types.OvfFile{{DeviceId: "/" + vm.Reference().Value + "/ParaVirtualSCSIController0:1", Path: "b.vmdk", Size: 7}},
	})
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := ovf.Unmarshal(strings.NewReader(result.OvfDescriptor))
	if err != nil {
		t.Fatal(err)
	}
	if len(envelope.Disk.Disks) != 2 || *envelope.Disk.Disks[1].FileRef != "file1" || envelope.References[0].Href != "b.vmdk" {
		t.Errorf("%+v", envelope.Disk)
	}
}

func TestFolder(t *testing.T) {
	lab := newLab(t, time.Minute)
	target := "https://" + lab.listener.Addr().String() + "/folder/web-server-01/web-server-01-flat.vmdk?dcPath=DC1&dsName=datastore1"
	login := http.Header{}
	for _, cookie := range lab.client.Jar.Cookies(lab.client.URL()) {
		login.Add("Cookie", cookie.Name+"=\""+cookie.Value+"\"")
	}
	if status, _, _, _ := lab.get(http.MethodGet, target, nil); status != http.StatusUnauthorized {
		t.Errorf("without a session: %d", status)
	}
	status, header, body, err := lab.get(http.MethodGet, target, http.Header{"Cookie": login["Cookie"], "Range": {"bytes=1000-1999"}})
	if status != http.StatusPartialContent || err != nil || !bytes.Equal(body, lab.flat[1000:2000]) || header.Get("ETag") == "" {
		t.Errorf("range: %d, %v, %d bytes, %v", status, err, len(body), header)
	}
	if status, header, _, _ := lab.get(http.MethodHead, target, login); status != http.StatusOK || header.Get("Content-Length") != "1048576" {
		t.Errorf("HEAD: %d %v", status, header)
	}
	if status, _, _, _ := lab.get(http.MethodPut, target, login); status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", status)
	}
	for _, bad := range []string{strings.Replace(target, "DC1", "DC2", 1), strings.Replace(target, "-flat", "-none", 1), strings.Split(target, "?")[0]} {
		if status, _, _, _ := lab.get(http.MethodGet, bad, login); status != http.StatusNotFound {
			t.Errorf("%s: %d", bad, status)
		}
	}
	lab.fault(`{"kind": "flip_byte", "offset": 5000, "transport": "folder"}`)
	_, _, body, _ = lab.get(http.MethodGet, target, http.Header{"Cookie": login["Cookie"], "Range": {"bytes=4000-5999"}})
	expected := slices.Clone(lab.flat[4000:6000])
	expected[1000] ^= 0xff
	if !bytes.Equal(body, expected) {
		t.Error("the byte at offset 5000 of the file, and no other, should have been flipped")
	}
	lab.sessions.expireAll(false)
	if status, _, _, _ := lab.get(http.MethodGet, target, login); status != http.StatusUnauthorized {
		t.Errorf("with an expired session: %d", status)
	}
}

func TestIdentityIsKept(t *testing.T) {
	state := t.TempDir()
	first, err := loadIdentity(state)
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadIdentity(state)
	if err != nil || first.sha256 != second.sha256 || len(first.sha256) != 95 {
		t.Errorf("%s, then %s, %v", first.sha256, second.sha256, err)
	}
	if info, err := os.Stat(filepath.Join(state, "key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info, err)
	}
}

func TestStateDirectoryIsForOneServer(t *testing.T) {
	state := t.TempDir()
	unlock, err := lockState(state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockState(state); err == nil {
		t.Error("a second server took the same directory")
	}
	unlock()
	unlock, err = lockState(state)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestGuestReportsEveryProblem(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "bad")
	writeGuest(t, directory, `{"name": "a/b", "firmware": "coreboot", "power_state": "on",
		"disks": [{"flat": "none.raw", "stream": "disk1.vmdk"}],
		"nics": [{"mac": "nonsense", "network": "", "addresses": ["192.0.2.1"]}]}`)
	_, err := loadGuest(directory)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"a/b", "coreboot", "power_state", "none.raw", "nonsense", "network is missing", "192.0.2.1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %q in: %s", part, err)
		}
	}
}

func TestStreamAndFlatMustAgree(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "bad")
	writeGuest(t, directory, `{"name": "bad", "disks": [{"flat": "disk1.raw", "stream": "disk1.vmdk"}]}`)
	if err := os.Truncate(filepath.Join(directory, "disk1.raw"), 2<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := loadGuest(directory); err == nil || !strings.Contains(err.Error(), "holds 1048576 bytes") {
		t.Errorf("got %v", err)
	}
}
