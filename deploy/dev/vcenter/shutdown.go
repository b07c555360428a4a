package main

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// What guest.json's "tools" may be.
const (
	toolsRunning = "running"
	toolsAbsent  = "absent"
)

const (
	defaultShutdown shutdownSeconds = 0.5
	neverShutdown   shutdownSeconds = -1
)

// shutdownSeconds is how long a guest takes to be off after it was asked; in JSON a number, or "never".
type shutdownSeconds float64

// UnmarshalJSON is part of json.Unmarshaler.
func (s *shutdownSeconds) UnmarshalJSON(text []byte) error {
	if string(text) == `"never"` {
		*s = neverShutdown
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(text, &seconds); err != nil || seconds < 0 {
		return errors.New(`shutdown_seconds is not a number of seconds or "never"`)
	}
	*s = shutdownSeconds(seconds)
	return nil
}

// MarshalJSON is part of json.Marshaler.
func (s shutdownSeconds) MarshalJSON() ([]byte, error) {
	if s == neverShutdown {
		return []byte(`"never"`), nil
	}
	return json.Marshal(float64(s))
}

// ShutdownGuest is VirtualMachine.shutdownGuest: it asks the guest and returns; whether the guest does it, and
// when, shows in the power state alone.
func (e *exporter) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	body := new(methods.ShutdownGuestBody)
	guest, fault := e.guest(req.This)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	inventory := e.server.inventory
	if state := inventory.powerState(ctx, guest); state != types.VirtualMachinePowerStatePoweredOn {
		body.Fault_ = simulator.Fault(
			"The attempted operation cannot be performed in the current state (Powered off).",
			&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: state},
		)
		return body
	}
	if guest.Tools != toolsRunning {
		text := "Cannot complete operation because VMware Tools is not running in this virtual machine."
		body.Fault_ = simulator.Fault(text, &types.ToolsUnavailable{})
		return body
	}
	own, boot := freshContext(ctx), guest.powerChanges.Load()
	inventory.post(own, &types.VmGuestShutdownEvent{VmEvent: inventory.event(guest)})
	takes := guest.ShutdownSeconds
	if asked := e.server.faults.forShutdown(guest.Name); asked != nil {
		takes = *asked
	}
	if takes != neverShutdown {
		time.AfterFunc(time.Duration(float64(takes)*float64(time.Second)), func() { inventory.guestOff(own, guest, boot) })
	}
	body.Res = new(types.ShutdownGuestResponse)
	return body
}

// guestOff is the end of a guest's own shutdown, unless the VM was switched off or on since it began.
func (i *inventory) guestOff(ctx *simulator.Context, guest *guest, boot int64) {
	vm, ok := i.registry.Get(guest.reference).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx.WithLock(vm, func() {
		if guest.powerChanges.Load() != boot {
			return
		}
		i.post(ctx, &types.VmPoweredOffEvent{VmEvent: i.event(guest)})
		ctx.Update(vm, []types.PropertyChange{
			{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
			{Name: "summary.runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff},
			{Name: "summary.runtime.bootTime", Val: nil},
		})
	})
}

// event names what an event of a guest is about.
func (i *inventory) event(guest *guest) types.VmEvent {
	named := func(name string) types.EntityEventArgument { return types.EntityEventArgument{Name: name} }
	return types.VmEvent{Event: types.Event{
		Datacenter:      &types.DatacenterEventArgument{EntityEventArgument: named(i.datacenterName), Datacenter: i.datacenter.Reference()},
		ComputeResource: &types.ComputeResourceEventArgument{EntityEventArgument: named(clusterName), ComputeResource: i.cluster.Reference()},
		Host:            &types.HostEventArgument{EntityEventArgument: named(guest.ESXiHost), Host: i.hosts[guest.ESXiHost].Reference()},
		Vm:              &types.VmEventArgument{EntityEventArgument: named(guest.Name), Vm: guest.reference},
	}}
}

func (i *inventory) post(ctx *simulator.Context, event types.BaseEvent) {
	manager := i.registry.EventManager()
	ctx.WithLock(manager, func() { manager.PostEvent(ctx, &types.PostEvent{EventToPost: event}) })
}
