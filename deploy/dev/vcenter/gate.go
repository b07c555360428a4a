package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// gate sees every SOAP call before the simulator does.
type gate struct {
	server   *server
	exporter types.ManagedObjectReference
	answerer *answerer
}

// admit counts a call, refuses what a real vCenter refuses and the simulator lets through, and sends the
// export methods, which the simulator's own objects lack, to the exporter. An object cannot be substituted
// for a client that is logged in, so it is the call's target that changes.
func (g *gate) admit(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session != nil && ctx.Session.IpAddress == "" {
		return nil, nil // a call of our own, in process
	}
	g.server.calls.add(method.Name)
	if reference, property, ok := fetched(method); ok && ctx.Session == nil &&
		reference.Type == "SessionManager" && property == "currentSession" {
		return g.answer(method, nil) // anybody may read it (System.Anonymous), and there is none
	}
	if ctx.Session == nil && !anonymous(g.server.inventory.registry, method) {
		return g.refuse(method, "The session is not authenticated.", &types.NotAuthenticated{
			NoPermission: types.NoPermission{Object: &method.This, PrivilegeId: "System.View"},
		})
	}
	vm := g.vmName(ctx, method)
	if fault := g.server.faults.forMethod(method, vm); fault != nil {
		return g.refuse(method, method.Name+" fails, as the control endpoint was told.", fault)
	}
	if ctx.Session != nil {
		if object, answered := g.checkRead(ctx, method); answered {
			return object, nil
		}
	}
	switch method.Name {
	case "LoginByToken", "LoginExtensionByCertificate":
		return g.refuse(method, "Cannot complete login due to an incorrect user name or password.", &types.InvalidLogin{})
	case "CreateDescriptor", "ShutdownGuest":
		method.This = g.exporter
	case "ExportVm", "ExportSnapshot", "CreateSnapshot_Task", "CreateSnapshotEx_Task", "RemoveSnapshot_Task",
		"RemoveAllSnapshots_Task", "ConsolidateVMDisks_Task", "PowerOnVM_Task", "PowerOffVM_Task":
		if fault := g.busy(method.Name, vm); fault != nil {
			return g.answer(method, fault)
		}
		method.This = g.exporter
	case "RevertToSnapshot_Task", "RevertToCurrentSnapshot_Task", "CancelTask":
		return g.refuse(method, "The operation is not supported on the object.", &types.NotSupported{})
	case "Logout":
		g.server.leases.endSession(ctx.Session.Key, outcomeSessionEnded)
	case "SuspendVM_Task", "ResetVM_Task", "Destroy_Task", "UnregisterVM", "ReconfigVM_Task", "RelocateVM_Task", "MigrateVM_Task", "MarkAsTemplate":
		if fault := g.busy(method.Name, vm); fault != nil {
			return g.answer(method, fault)
		}
	}
	return nil, nil
}

// busy returns the fault of a method that cannot go with what happens to its VM at the moment.
func (g *gate) busy(method, vm string) *soap.Fault {
	guest := g.server.inventory.byName(vm)
	if guest == nil {
		return nil
	}
	if task := guest.running(); task != nil {
		return inProgress(*task)
	}
	removal := method == "RemoveSnapshot_Task" || method == "RemoveAllSnapshots_Task" || method == "ConsolidateVMDisks_Task"
	exporting := !strings.HasPrefix(method, "Export") // a second lease is refused where leases are made
	if exporting && g.server.leases.holds(vm) || removal && g.server.leases.exportsSnapshot(vm) {
		return simulator.Fault("The operation is not allowed in the current state: the VM is being exported.", &types.InvalidState{})
	}
	return nil
}

// refuse turns a call into one that answers with the fault. Returning the fault would do, but without a
// message.
func (g *gate) refuse(method *simulator.Method, message string, fault types.BaseMethodFault) (mo.Reference, types.BaseMethodFault) {
	return g.answer(method, simulator.Fault(message, fault))
}

// answer turns a call into one that the answerer answers. The object returned counts for a client that is
// not logged in, the call's target for one that is; List is a method that the simulator admits for both.
func (g *gate) answer(method *simulator.Method, fault *soap.Fault) (mo.Reference, types.BaseMethodFault) {
	method.This, method.Name, method.Body = g.answerer.Self, "List", fault
	return g.answerer, nil
}

// vmName is the VM that a call is about, for faults that are meant for one VM; "" for any other call.
func (g *gate) vmName(ctx *simulator.Context, method *simulator.Method) string {
	if ctx.Session != nil {
		if lease, ok := ctx.Session.Get(method.This).(*lease); ok {
			return lease.guest.Name
		}
	}
	target := method.This
	if body, ok := method.Body.(*types.CreateDescriptor); ok {
		target = body.Obj
	}
	if guest := g.server.inventory.byReference(target); guest != nil {
		return guest.Name
	}
	return ""
}

// answerer answers every call with the fault that it is handed, or with an unset property.
type answerer struct{ mo.OvfManager }

func newAnswerer() *answerer {
	result := new(answerer)
	result.Self = types.ManagedObjectReference{Type: "OvfManager", Value: "answerer"}
	return result
}

// List is the target of calls that gate.answer has turned.
func (*answerer) List(fault *soap.Fault) soap.HasFault {
	return &answer{Res: new(FetchResponse), fault: fault}
}

// FetchResponse is a Fetch whose property is unset; its name is the name of the XML element.
type FetchResponse struct{}

type answer struct {
	Res   *FetchResponse
	fault *soap.Fault
}

func (a *answer) Fault() *soap.Fault { return a.fault }
