package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// addGuest puts a running guest with tools into the lab; its disk has a hole, and no prepared stream.
func (l *lab) addGuest(name, more string) *object.VirtualMachine {
	l.t.Helper()
	directory := filepath.Join(l.t.TempDir(), name)
	writeGuest(l.t, directory, `{"name": "`+name+`", "power_state": "poweredOn", "host_name": "x",
		"disks": [{"flat": "sparse.raw"}]`+more+`}`)
	disk, err := os.Create(filepath.Join(directory, "sparse.raw"))
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = disk.WriteAt(l.flat, 40<<20)
	if err != nil || disk.Truncate(70<<20+1024) != nil || disk.Close() != nil {
		l.t.Fatal(err)
	}
	if status := l.ask(http.MethodPost, "/guests", `{"directory": "`+directory+`"}`, nil); status != http.StatusCreated {
		l.t.Fatal(status)
	}
	return l.vm(l.client, name)
}

func (l *lab) report(name string) vmReport {
	l.t.Helper()
	var list []vmReport
	l.ask(http.MethodGet, "/vms", "", &list)
	index := slices.IndexFunc(list, func(v vmReport) bool { return v.Name == name })
	return list[index]
}

func (l *lab) powerState(vm *object.VirtualMachine) types.VirtualMachinePowerState {
	l.t.Helper()
	state, err := vm.PowerState(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return state
}

// done waits for a task, and returns its fault if it failed.
func (l *lab) done(started *object.Task, err error) types.BaseMethodFault {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	err = started.Wait(l.t.Context())
	if err == nil {
		return nil
	}
	failed, ok := err.(task.Error)
	if !ok {
		l.t.Fatal(err)
	}
	return failed.Fault()
}

func digestOf(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

func (l *lab) write(name string, offset, length, seed int) {
	l.t.Helper()
	body := fmt.Sprintf(`{"disk": 0, "offset": %d, "length": %d, "seed": %d}`, offset, length, seed)
	if status := l.ask(http.MethodPost, "/vms/"+name+"/write", body, nil); status != http.StatusOK {
		l.t.Fatal(status)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 5 s: %s", what)
		}
	}
}

func TestShutdownGuest(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.addGuest("db", `, "shutdown_seconds": 0.3`)
	if err := vm.ShutdownGuest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := lab.powerState(vm); state != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("%s at once", state)
	}
	eventually(t, "off", func() bool { return lab.powerState(vm) == types.VirtualMachinePowerStatePoweredOff })
	faultIs[types.InvalidPowerState](t, vm.ShutdownGuest(t.Context()))
	if fault := lab.done(vm.PowerOn(t.Context())); fault != nil {
		t.Fatalf("%T", fault)
	}
	found, err := event.NewManager(lab.client.Client).QueryEvents(t.Context(), types.EventFilterSpec{
		Entity: &types.EventFilterSpecByEntity{Entity: vm.Reference(), Recursion: types.EventFilterSpecRecursionOptionSelf},
	})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, each := range found {
		kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", each), "*types."))
	}
	slices.Reverse(kinds)
	text := strings.Join(kinds, " ")
	for _, part := range []string{"VmGuestShutdownEvent", "VmPoweredOffEvent", "VmStartingEvent", "VmPoweredOnEvent"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
}

func TestGuestThatDoesNotShutDown(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.addGuest("db", `, "shutdown_seconds": "never"`)
	if err := vm.ShutdownGuest(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(700 * time.Millisecond)
	if state := lab.powerState(vm); state != types.VirtualMachinePowerStatePoweredOn {
		t.Error(state)
	}
	lab.fault(`{"kind": "slow_task", "method": "PowerOffVM_Task", "seconds": 0.5}`)
	slow, err := vm.PowerOff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = vm.PowerOff(t.Context())
	faultIs[types.TaskInProgress](t, err)
	if fault := lab.done(slow, nil); fault != nil {
		t.Errorf("%T", fault)
	}
	if fault, ok := lab.done(vm.PowerOff(t.Context())).(*types.InvalidPowerState); !ok {
		t.Errorf("%T", fault)
	}
	// A shutdown that is under way does not end the next run.
	lab.done(vm.PowerOn(t.Context()))
	lab.fault(`{"kind": "shutdown", "shutdown_seconds": 0.4}`)
	if err := vm.ShutdownGuest(t.Context()); err != nil {
		t.Fatal(err)
	}
	lab.done(vm.PowerOff(t.Context()))
	lab.done(vm.PowerOn(t.Context()))
	time.Sleep(600 * time.Millisecond)
	if state := lab.powerState(vm); state != types.VirtualMachinePowerStatePoweredOn {
		t.Error(state)
	}
}

func TestGuestWithoutTools(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.vm(lab.client, "running") // without an address, so without tools
	faultIs[types.ToolsUnavailable](t, vm.ShutdownGuest(t.Context()))
	var properties mo.VirtualMachine
	if err := vm.Properties(t.Context(), vm.Reference(), []string{"guest"}, &properties); err != nil {
		t.Fatal(err)
	}
	if properties.Guest.ToolsVersionStatus2 != "guestToolsNotInstalled" || properties.Guest.ToolsStatus != "toolsNotInstalled" {
		t.Errorf("%+v", properties.Guest)
	}
	if fault, ok := lab.done(vm.CreateSnapshot(t.Context(), "s", "", false, true)).(*types.ApplicationQuiesceFault); !ok {
		t.Errorf("%T", fault)
	}
	if left := lab.report("running").Snapshots; len(left) != 1 {
		t.Errorf("%+v", left)
	}
}

func backings(t *testing.T, devices object.VirtualDeviceList) []string {
	t.Helper()
	var names []string
	disk := devices.SelectByType((*types.VirtualDisk)(nil))[0].(*types.VirtualDisk)
	for backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); backing != nil; backing = backing.Parent {
		names = append(names, strings.TrimPrefix(backing.FileName, "[datastore1] db/"))
	}
	return names
}

func TestSnapshotKeepsAPointInTime(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.addGuest("db", "")
	source := lab.report("db").Disks[0].Path
	before := digestOf(t, source)
	lab.write("db", 1000, 5000, 1)
	first := digestOf(t, lab.report("db").Disks[0].Path)
	if digestOf(t, source) != before || first == before {
		t.Fatal("the guest's file changed, or the disk did not")
	}
	var occupied syscall.Stat_t
	if err := syscall.Stat(lab.report("db").Disks[0].Path, &occupied); err != nil || occupied.Blocks*512 > 4<<20 {
		t.Errorf("a copy of a disk with 1 MiB of data occupies %d bytes, %v", occupied.Blocks*512, err)
	}

	for _, name := range []string{"one", "two"} {
		if fault := lab.done(vm.CreateSnapshot(t.Context(), name, "", false, true)); fault != nil {
			t.Fatalf("%T", fault)
		}
		lab.write("db", 8000, 1<<20, len(name)*100+int(name[0]))
	}
	report := lab.report("db")
	if len(report.Snapshots) != 2 || !report.Snapshots[0].Quiesced || digestOf(t, report.Snapshots[0].Disks[0]) != first {
		t.Fatalf("%+v", report)
	}
	now := digestOf(t, report.Disks[0].Path)
	second := digestOf(t, report.Snapshots[1].Disks[0])
	if now == first || now == second || second == first {
		t.Error("three times, three contents")
	}
	devices, err := vm.Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := backings(t, devices); !slices.Equal(got, []string{"db-000002.vmdk", "db-000001.vmdk", "db.vmdk"}) {
		t.Errorf("%v", got)
	}
	one := types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: report.Snapshots[0].Moref}
	var kept mo.VirtualMachineSnapshot
	if err := vm.Properties(t.Context(), one, []string{"config"}, &kept); err != nil {
		t.Fatal(err)
	}
	if got := backings(t, kept.Config.Hardware.Device); !slices.Equal(got, []string{"db.vmdk"}) {
		t.Errorf("%v", got)
	}

	// The first one's removal merges the first delta into the base; the second snapshot keeps its content.
	yes := true
	if fault := lab.done(vm.RemoveSnapshot(t.Context(), "one", false, &yes)); fault != nil {
		t.Fatalf("%T", fault)
	}
	report = lab.report("db")
	if len(report.Snapshots) != 1 || digestOf(t, report.Snapshots[0].Disks[0]) != second || digestOf(t, report.Disks[0].Path) != now {
		t.Errorf("%+v", report)
	}
	devices, _ = vm.Device(t.Context())
	if got := backings(t, devices); !slices.Equal(got, []string{"db-000002.vmdk", "db.vmdk"}) {
		t.Errorf("%v", got)
	}
	if fault := lab.done(vm.RemoveAllSnapshot(t.Context(), &yes)); fault != nil {
		t.Fatalf("%T", fault)
	}
	report = lab.report("db")
	devices, _ = vm.Device(t.Context())
	if got := backings(t, devices); !slices.Equal(got, []string{"db.vmdk"}) || len(report.Snapshots) != 0 || report.Deltas != 0 {
		t.Errorf("%v, %+v", got, report)
	}
	copies, _ := os.ReadDir(lab.inventory.copies)
	if len(copies) != 1 || digestOf(t, report.Disks[0].Path) != now || digestOf(t, source) != before {
		t.Errorf("%v are left", copies)
	}
	var properties mo.VirtualMachine
	if err := vm.Properties(t.Context(), vm.Reference(), []string{"snapshot"}, &properties); err != nil || properties.Snapshot != nil {
		t.Errorf("%+v %v", properties.Snapshot, err)
	}
}

func TestRemovalThatIsSlowAndFails(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.addGuest("db", "")
	lab.done(vm.CreateSnapshot(t.Context(), "s", "", false, false))
	yes := true
	lab.fault(`{"kind": "fail_task", "method": "RemoveSnapshot_Task", "fault": "FileLocked"}`)
	if fault, ok := lab.done(vm.RemoveSnapshot(t.Context(), "s", false, &yes)).(*types.FileLocked); !ok {
		t.Errorf("%T", fault)
	}
	if report := lab.report("db"); len(report.Snapshots) != 1 || report.ConsolidationNeeded {
		t.Errorf("%+v", report)
	}
	lab.fault(`{"kind": "slow_task", "method": "RemoveSnapshot_Task", "seconds": 0.6}`)
	lab.fault(`{"kind": "fail_task", "method": "RemoveSnapshot_Task", "fault": "FileLocked", "half_done": true}`)
	started := time.Now()
	slow, err := vm.RemoveSnapshot(t.Context(), "s", false, &yes)
	if err != nil {
		t.Fatal(err)
	}
	if state := lab.powerState(vm); state != types.VirtualMachinePowerStatePoweredOn || time.Since(started) > 500*time.Millisecond {
		t.Errorf("a long task hides the VM for %s", time.Since(started))
	}
	if fault, ok := lab.done(slow, nil).(*types.FileLocked); !ok || time.Since(started) < 600*time.Millisecond {
		t.Errorf("%T after %s", fault, time.Since(started))
	}
	if report := lab.report("db"); len(report.Snapshots) != 0 || !report.ConsolidationNeeded || report.Deltas != 1 {
		t.Errorf("%+v", report)
	}
	var properties mo.VirtualMachine
	if err := vm.Properties(t.Context(), vm.Reference(), []string{"runtime"}, &properties); err != nil || !properties.Runtime.ConsolidationNeeded {
		t.Errorf("%+v %v", properties.Runtime, err)
	}
	answer, err := methods.ConsolidateVMDisks_Task(t.Context(), lab.client, &types.ConsolidateVMDisks_Task{This: vm.Reference()})
	if err != nil {
		t.Fatal(err)
	}
	if fault := lab.done(object.NewTask(lab.client.Client, answer.Returnval), nil); fault != nil {
		t.Errorf("%T", fault)
	}
	if report := lab.report("db"); report.ConsolidationNeeded || report.Deltas != 0 {
		t.Errorf("%+v", report)
	}
}

func (l *lab) exportSnapshot(vm *object.VirtualMachine, name string) (*nfc.Lease, *nfc.LeaseInfo) {
	l.t.Helper()
	snapshot, err := vm.FindSnapshot(l.t.Context(), name)
	if err != nil {
		l.t.Fatal(err)
	}
	lease, err := vm.ExportSnapshot(l.t.Context(), snapshot)
	if err != nil {
		l.t.Fatal(err)
	}
	info, err := lease.Wait(l.t.Context(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return lease, info
}

func TestExportOfASnapshotIsItsContent(t *testing.T) {
	lab := newLab(t, time.Minute)
	vm := lab.addGuest("db", "")
	lab.write("db", 3<<20, 200_000, 1)
	lab.done(vm.CreateSnapshot(t.Context(), "s", "", false, false))
	expected, err := os.ReadFile(lab.report("db").Snapshots[0].Disks[0])
	if err != nil {
		t.Fatal(err)
	}
	lab.write("db", 0, 100_000, 2)
	lease, info := lab.exportSnapshot(vm, "s")
	_, stream, err := lab.download(info, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := readStream(t, stream); !bytes.Equal(got, expected) {
		t.Errorf("%d bytes, %d expected, and not the same", len(got), len(expected))
	}
	manifest, err := lease.GetManifest(t.Context())
	digest := sha1.Sum(stream)
	if err != nil || manifest[0].Sha1 != hex.EncodeToString(digest[:]) || manifest[0].Size != int64(len(stream)) {
		t.Errorf("%+v %v", manifest, err)
	}
	yes := true
	_, err = vm.RemoveSnapshot(t.Context(), "s", false, &yes)
	faultIs[types.InvalidState](t, err)

	lab.fault(`{"kind": "truncate", "after_bytes": 70000}`)
	if _, body, err := lab.download(info, 0); err != nil || !bytes.Equal(body, stream[:70000]) {
		t.Errorf("truncate: %d bytes, %v", len(body), err)
	}
	lab.fault(`{"kind": "drop_connection", "after_bytes": 70000}`)
	if _, body, err := lab.download(info, 0); err == nil || !bytes.Equal(body, stream[:70000]) {
		t.Errorf("drop_connection: %d bytes, %v", len(body), err)
	}
	if err := lease.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fault := lab.done(vm.RemoveSnapshot(t.Context(), "s", false, &yes)); fault != nil {
		t.Errorf("%T", fault)
	}
}

func TestWritesThatMakeNoSense(t *testing.T) {
	lab := newLab(t, time.Minute)
	for path, expected := range map[string]int{"web-server-01": http.StatusConflict, "nobody": http.StatusNotFound} {
		if status := lab.ask(http.MethodPost, "/vms/"+path+"/write", `{"disk": 0, "offset": 0, "length": 1, "seed": 1}`, nil); status != expected {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, body := range []string{`{"disk": 1, "offset": 0, "length": 1}`, `{"disk": 0, "offset": 1048576, "length": 1}`, `{"disk": 0, "length": 0}`} {
		if status := lab.ask(http.MethodPost, "/vms/running/write", body, nil); status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, status)
		}
	}
}
