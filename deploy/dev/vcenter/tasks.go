package main

import (
	"fmt"
	"reflect"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// work is what a task does. Half done, it leaves behind what a failure in its second half would.
type work func(ctx *simulator.Context, halfDone bool) (types.AnyType, *types.LocalizedMethodFault)

// slowMethods are the methods whose tasks slow_task and fail_task can hit.
var slowMethods = []string{
	"CreateSnapshot_Task", "CreateSnapshotEx_Task", "RemoveSnapshot_Task", "RemoveAllSnapshots_Task",
	"ConsolidateVMDisks_Task", "PowerOnVM_Task", "PowerOffVM_Task",
}

// start runs work as a task of a VM, which has one at a time. The simulator's own tasks hold the VM's lock as long
// as they run, so that nobody could read the VM beside a long one; this one takes it only where it needs to.
func (e *exporter) start(ctx *simulator.Context, vm types.ManagedObjectReference, method, name string, run work) (types.ManagedObjectReference, *soap.Fault) {
	guest, fault := e.guest(vm)
	if fault != nil {
		return types.ManagedObjectReference{}, fault
	}
	task := simulator.CreateTask(guest.reference, name, nil)
	task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-vm-%d", e.tasks.Add(1))}
	if other := guest.begin(task.Self); other != nil {
		return task.Self, inProgress(*other)
	}
	now := time.Now()
	task.Info.Key, task.Info.Task, task.Info.Name, task.Info.EntityName = task.Self.Value, task.Self, method, guest.Name
	task.Info.State, task.Info.StartTime = types.TaskInfoStateRunning, &now
	task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	own := freshContext(ctx)
	own.WithLock(guest.reference, func() { own.Map.Put(task) })
	slow, fail := e.server.faults.forTask("slow_task", method, guest.Name), e.server.faults.forTask("fail_task", method, guest.Name)
	go func() {
		if slow != nil {
			e.dawdle(own, task, slow)
		}
		halfDone := fail != nil && fail.HalfDone
		var result types.AnyType
		var fault *types.LocalizedMethodFault
		if fail == nil || halfDone {
			result, fault = run(own, halfDone)
		}
		if fail != nil && fault == nil {
			result, fault = nil, &types.LocalizedMethodFault{
				Fault:            makeFault(fail.method, guest.reference),
				LocalizedMessage: method + " fails, as the control endpoint was told.",
			}
		}
		guest.end()
		finishTask(own, task, result, fault)
	}()
	return task.Self, nil
}

// dawdle lets a task take its time, with a progress, until the fault that asked for it is removed.
func (e *exporter) dawdle(ctx *simulator.Context, task *simulator.Task, fault *activeFault) {
	started, whole := time.Now(), time.Duration(fault.Seconds*float64(time.Second))
	tick := time.NewTicker(min(max(whole/50, time.Millisecond), time.Second))
	defer tick.Stop()
	for passed := time.Duration(0); passed < whole; passed = time.Since(started) {
		ctx.Map.AtomicUpdate(ctx, task, []types.PropertyChange{{Name: "info.progress", Val: int32(99 * passed / whole)}})
		select {
		case <-fault.removed:
			return
		case <-tick.C:
		}
	}
}

func finishTask(ctx *simulator.Context, task *simulator.Task, result types.AnyType, fault *types.LocalizedMethodFault) {
	changes := []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}}
	if fault != nil {
		changes = append(changes, types.PropertyChange{Name: "info.error", Val: *fault})
		changes = append(changes, types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError})
	} else {
		changes = append(changes, types.PropertyChange{Name: "info.result", Val: result})
		changes = append(changes, types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateSuccess})
	}
	ctx.Map.AtomicUpdate(ctx, task, changes)
}

// await waits for the simulator's own task that a method of its objects has started.
func (i *inventory) await(ctx *simulator.Context, answer soap.HasFault) (types.AnyType, *types.LocalizedMethodFault) {
	if fault := answer.Fault(); fault != nil {
		return nil, &types.LocalizedMethodFault{Fault: fault.VimFault().(types.BaseMethodFault), LocalizedMessage: fault.String}
	}
	response := reflect.ValueOf(answer).Elem().FieldByName("Res").Elem()
	reference := response.FieldByName("Returnval").Interface().(types.ManagedObjectReference)
	task := i.registry.Get(reference).(*simulator.Task)
	task.Wait()
	var info types.TaskInfo
	ctx.WithLock(task, func() { info = task.Info })
	if info.Error != nil {
		text := "The operation failed."
		if power, ok := info.Error.Fault.(*types.InvalidPowerState); ok {
			text = fmt.Sprintf("The attempted operation cannot be performed in the current state (%s).", power.ExistingState)
		}
		return nil, &types.LocalizedMethodFault{Fault: info.Error.Fault, LocalizedMessage: text}
	}
	return info.Result, nil
}

func inProgress(task types.ManagedObjectReference) *soap.Fault {
	return simulator.Fault("Another task is already in progress.", &types.TaskInProgress{Task: task})
}

// begin claims the VM for a task, or returns the task that has it.
func (g *guest) begin(task types.ManagedObjectReference) *types.ManagedObjectReference {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.task == nil {
		g.task = &task
		return nil
	}
	return g.task
}

func (g *guest) end() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.task = nil
}

// running is the VM's task, if there is one.
func (g *guest) running() *types.ManagedObjectReference {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.task
}

// PowerOnVMTask is VirtualMachine.powerOn.
func (e *exporter) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	body := new(methods.PowerOnVM_TaskBody)
	task, fault := e.start(ctx, req.This, "PowerOnVM_Task", "powerOn", func(ctx *simulator.Context, _ bool) (types.AnyType, *types.LocalizedMethodFault) {
		return e.server.inventory.await(ctx, e.vm(req.This).PowerOnVMTask(ctx, req))
	})
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.PowerOnVM_TaskResponse{Returnval: task}
	}
	return body
}

// PowerOffVMTask is VirtualMachine.powerOff.
func (e *exporter) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	body := new(methods.PowerOffVM_TaskBody)
	task, fault := e.start(ctx, req.This, "PowerOffVM_Task", "powerOff", func(ctx *simulator.Context, _ bool) (types.AnyType, *types.LocalizedMethodFault) {
		return e.server.inventory.await(ctx, e.vm(req.This).PowerOffVMTask(ctx, req))
	})
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.PowerOffVM_TaskResponse{Returnval: task}
	}
	return body
}

// CreateSnapshotTask is VirtualMachine.createSnapshot.
func (e *exporter) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	body := new(methods.CreateSnapshot_TaskBody)
	request := &types.CreateSnapshotEx_Task{This: req.This, Name: req.Name, Description: req.Description, Memory: req.Memory}
	if req.Quiesce {
		request.QuiesceSpec = &types.VirtualMachineGuestQuiesceSpec{}
	}
	task, fault := e.start(ctx, req.This, "CreateSnapshot_Task", "createSnapshot", e.creating(request))
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.CreateSnapshot_TaskResponse{Returnval: task}
	}
	return body
}

// CreateSnapshotExTask is VirtualMachine.createSnapshotEx.
func (e *exporter) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	body := new(methods.CreateSnapshotEx_TaskBody)
	task, fault := e.start(ctx, req.This, "CreateSnapshotEx_Task", "createSnapshotEx", e.creating(req))
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.CreateSnapshotEx_TaskResponse{Returnval: task}
	}
	return body
}

func (e *exporter) creating(request *types.CreateSnapshotEx_Task) work {
	return func(ctx *simulator.Context, _ bool) (types.AnyType, *types.LocalizedMethodFault) {
		return e.server.inventory.createSnapshot(ctx, e.server.inventory.byReference(request.This), request)
	}
}

// RemoveSnapshotTask is VirtualMachineSnapshot.remove.
func (e *exporter) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	body := new(methods.RemoveSnapshot_TaskBody)
	task, fault := e.start(ctx, req.This, "RemoveSnapshot_Task", "removeSnapshot", func(ctx *simulator.Context, halfDone bool) (types.AnyType, *types.LocalizedMethodFault) {
		guest := e.server.inventory.byReference(req.This)
		if guest == nil {
			return nil, &types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: req.This}, LocalizedMessage: "The snapshot is gone."}
		}
		remove := []types.ManagedObjectReference{req.This}
		if req.RemoveChildren {
			remove = guest.snapshots(&req.This)
		}
		merge := !halfDone && (req.Consolidate == nil || *req.Consolidate)
		return nil, e.server.inventory.removeSnapshots(ctx, guest, remove, merge)
	})
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.RemoveSnapshot_TaskResponse{Returnval: task}
	}
	return body
}

// RemoveAllSnapshotsTask is VirtualMachine.removeAllSnapshots.
func (e *exporter) RemoveAllSnapshotsTask(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	body := new(methods.RemoveAllSnapshots_TaskBody)
	task, fault := e.start(ctx, req.This, "RemoveAllSnapshots_Task", "removeAllSnapshots", func(ctx *simulator.Context, halfDone bool) (types.AnyType, *types.LocalizedMethodFault) {
		guest := e.server.inventory.byReference(req.This)
		merge := !halfDone && (req.Consolidate == nil || *req.Consolidate)
		return nil, e.server.inventory.removeSnapshots(ctx, guest, guest.snapshots(nil), merge)
	})
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.RemoveAllSnapshots_TaskResponse{Returnval: task}
	}
	return body
}

// ConsolidateVMDisksTask is VirtualMachine.consolidateDisks.
func (e *exporter) ConsolidateVMDisksTask(ctx *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	body := new(methods.ConsolidateVMDisks_TaskBody)
	task, fault := e.start(ctx, req.This, "ConsolidateVMDisks_Task", "consolidateDisks", func(ctx *simulator.Context, halfDone bool) (types.AnyType, *types.LocalizedMethodFault) {
		guest := e.server.inventory.byReference(req.This)
		if !halfDone {
			guest.consolidate()
		}
		e.server.inventory.showLayers(ctx, guest)
		return nil, nil
	})
	if body.Fault_ = fault; fault == nil {
		body.Res = &types.ConsolidateVMDisks_TaskResponse{Returnval: task}
	}
	return body
}

func (e *exporter) vm(reference types.ManagedObjectReference) *simulator.VirtualMachine {
	var object mo.Reference = e.server.inventory.registry.Get(reference)
	return object.(*simulator.VirtualMachine)
}
