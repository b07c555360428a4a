package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// exporter answers the methods that the simulator's objects lack; the gate sends them here. The original
// target of a call is in its body.
type exporter struct {
	mo.OvfManager
	server *server
	tasks  atomic.Int64
}

func newExporter(server *server) *exporter {
	result := &exporter{server: server}
	result.Self = types.ManagedObjectReference{Type: "OvfManager", Value: "exporter"}
	return result
}

// ExportVm opens a lease on a powered-off VM (VirtualMachine.exportVm in the vSphere API reference).
func (e *exporter) ExportVm(ctx *simulator.Context, req *types.ExportVm) soap.HasFault {
	body := new(methods.ExportVmBody)
	guest, fault := e.guest(req.This)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	if state := e.server.inventory.powerState(ctx, guest); state != types.VirtualMachinePowerStatePoweredOff {
		body.Fault_ = simulator.Fault(
			"The attempted operation cannot be performed in the current state (Powered on).",
			&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: state},
		)
		return body
	}
	reference, fault := e.lease(ctx, guest, nil)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ExportVmResponse{Returnval: reference}
	return body
}

// ExportSnapshot opens a lease on a snapshot, whatever the VM's power state.
func (e *exporter) ExportSnapshot(ctx *simulator.Context, req *types.ExportSnapshot) soap.HasFault {
	body := new(methods.ExportSnapshotBody)
	guest, fault := e.guest(req.This)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	reference, fault := e.lease(ctx, guest, &req.This)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &types.ExportSnapshotResponse{Returnval: reference}
	return body
}

func (e *exporter) guest(reference types.ManagedObjectReference) (*guest, *soap.Fault) {
	if guest := e.server.inventory.byReference(reference); guest != nil {
		return guest, nil
	}
	if e.server.inventory.registry.Get(reference) == nil {
		return nil, simulator.Fault(
			"The object has already been deleted or has not been completely created",
			&types.ManagedObjectNotFound{Obj: reference},
		)
	}
	return nil, simulator.Fault("This VM has no disks that can be exported.", &types.NotSupported{})
}

// lease opens a lease; it is initializing when this returns and ready a moment later.
func (e *exporter) lease(ctx *simulator.Context, guest *guest, snapshot *types.ManagedObjectReference) (types.ManagedObjectReference, *soap.Fault) {
	lifetime, end := context.WithCancel(context.Background())
	result := &lease{
		guest: guest, ticket: newTicket(), session: ctx.Session.Key, snapshot: snapshot, timeout: e.server.leaseTimeout,
		files: map[string]*leaseFile{}, created: time.Now(), registry: ctx, context: lifetime, end: end,
	}
	result.Self.Type = "HttpNfcLease" // else the registry names it after the Go type
	result.State = types.HttpNfcLeaseStateInitializing
	result.Mode = string(types.HttpNfcLeaseModePushOrGet)
	result.Capabilities = types.HttpNfcLeaseCapabilities{CorsSupported: true}
	if !e.server.leases.claim(result) {
		end()
		return types.ManagedObjectReference{}, simulator.Fault(
			"The operation is not allowed in the current state: the VM is being exported.", &types.InvalidState{},
		)
	}
	reference := ctx.Session.Put(result).Reference()
	go result.open(e.describe(result))
	return reference, nil
}

// describe fills the lease's files and returns its info.
func (e *exporter) describe(l *lease) *types.HttpNfcLeaseInfo {
	info := &types.HttpNfcLeaseInfo{
		Lease: l.Self, Entity: l.guest.reference, LeaseTimeout: int32(math.Ceil(l.timeout.Seconds())),
	}
	add := func(file *leaseFile, suffix string) {
		_, port, _ := net.SplitHostPort(e.server.listener.Addr().String())
		file.device.Key = fmt.Sprintf("/%s/%s", l.guest.reference.Value, suffix)
		file.device.ImportKey = fmt.Sprintf("/%s/%s", l.guest.Name, suffix)
		// "*" is for the client to replace by the host it is connected to, as a server behind NAT answers.
		file.device.Url = fmt.Sprintf("https://*:%s/nfc/%s/%s", port, l.ticket, file.device.TargetId)
		file.device.SslThumbprint = e.server.identity.sha1
		l.files[file.device.TargetId] = file
		l.order = append(l.order, file.device.TargetId)
		info.DeviceUrl = append(info.DeviceUrl, file.device)
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	contents := l.guest.contents(l.snapshot)
	for index, disk := range l.guest.disks {
		if l.snapshot != nil && !l.guest.snapshotted(index) {
			continue
		}
		device := types.HttpNfcLeaseDeviceUrl{Disk: types.NewBool(true), TargetId: fmt.Sprintf("disk-%d.vmdk", index)}
		file := &leaseFile{device: device, path: disk.stream, index: index, disk: disk}
		if contents[index].copy || disk.stream == "" {
			file.path, file.raw = contents[index].path, true
		}
		add(file, fmt.Sprintf("%s%d:%d", l.guest.controllerName(), disk.bus, disk.unit))
		info.TotalDiskCapacityInKB += disk.capacityBytes / 1024
	}
	if l.guest.NVRAM != "" {
		device := types.HttpNfcLeaseDeviceUrl{Disk: types.NewBool(false), TargetId: l.guest.Name + ".nvram"}
		if stat, err := os.Stat(l.guest.NVRAM); err == nil {
			device.FileSize = stat.Size() // set for files that are no disks, and only for those
		}
		add(&leaseFile{device: device, path: l.guest.NVRAM, index: -1}, "nvram")
	}
	return info
}

// newTicket is the secret part of a lease's URLs, in the form that an ESXi host gives it.
func newTicket() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", random[0:4], random[4:6], random[6:8], random[8:10], random[10:16])
}
