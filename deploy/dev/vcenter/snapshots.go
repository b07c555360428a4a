package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// layer is one level of a VM's disks: the base, or a delta that a snapshot has opened. The VM writes to the last
// one. Every other belongs to the snapshot that closed it; where that is gone, it waits for a consolidation.
type layer struct {
	number   int // of the delta's file, 0 for the base
	snapshot *snapshot
	contents []*content // one for each disk
}

type snapshot struct {
	reference types.ManagedObjectReference
	name      string
	quiesced  bool
	created   time.Time
}

// createSnapshot keeps the disks as they are now, and opens new deltas for what comes.
func (i *inventory) createSnapshot(ctx *simulator.Context, g *guest, request *types.CreateSnapshotEx_Task) (types.AnyType, *types.LocalizedMethodFault) {
	vm := i.registry.Get(g.reference).(*simulator.VirtualMachine)
	if i.powerState(ctx, g) != types.VirtualMachinePowerStatePoweredOn {
		request.QuiesceSpec = nil // there is nothing to quiesce
	}
	if request.QuiesceSpec != nil && g.Tools != toolsRunning {
		text := "Cannot quiesce this virtual machine because VMware Tools is not currently available."
		return nil, &types.LocalizedMethodFault{Fault: &types.ApplicationQuiesceFault{}, LocalizedMessage: text}
	}
	result, fault := i.await(ctx, vm.CreateSnapshotExTask(ctx, request))
	if fault != nil {
		return nil, fault
	}
	g.mutex.Lock()
	closed := g.layers[len(g.layers)-1]
	closed.snapshot = &snapshot{
		reference: result.(types.ManagedObjectReference), name: request.Name, quiesced: request.QuiesceSpec != nil, created: time.Now(),
	}
	number := 1
	for slices.ContainsFunc(g.layers, func(l *layer) bool { return l.number == number }) {
		number++
	}
	g.layers = append(g.layers, &layer{number: number, contents: slices.Clone(closed.contents)})
	g.mutex.Unlock()
	i.showLayers(ctx, g)
	return result, nil
}

// removeSnapshots takes snapshots out of the tree, the youngest first, and merges their deltas if asked to.
func (i *inventory) removeSnapshots(ctx *simulator.Context, g *guest, remove []types.ManagedObjectReference, consolidate bool) *types.LocalizedMethodFault {
	for _, reference := range slices.Backward(remove) {
		object, ok := i.registry.Get(reference).(*simulator.VirtualMachineSnapshot)
		if !ok {
			return &types.LocalizedMethodFault{
				Fault: &types.ManagedObjectNotFound{Obj: reference}, LocalizedMessage: "The snapshot is gone.",
			}
		}
		if _, fault := i.await(ctx, object.RemoveSnapshotTask(ctx, &types.RemoveSnapshot_Task{This: reference})); fault != nil {
			return fault
		}
		g.mutex.Lock()
		for _, layer := range g.layers {
			if layer.snapshot != nil && layer.snapshot.reference == reference {
				layer.snapshot = nil
			}
		}
		g.mutex.Unlock()
	}
	if consolidate {
		g.consolidate()
	}
	i.showLayers(ctx, g)
	return nil
}

// snapshots are the VM's snapshots, the oldest first; from one on when that is given.
func (g *guest) snapshots(from *types.ManagedObjectReference) []types.ManagedObjectReference {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	var list []types.ManagedObjectReference
	for _, layer := range g.layers {
		if layer.snapshot != nil && (from == nil || len(list) > 0 || layer.snapshot.reference == *from) {
			list = append(list, layer.snapshot.reference)
		}
	}
	return list
}

// contents are the disks as a snapshot holds them, or as the VM has them now when snapshot is nil.
func (g *guest) contents(snapshot *types.ManagedObjectReference) []*content {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	for _, layer := range g.layers {
		if snapshot != nil && layer.snapshot != nil && layer.snapshot.reference == *snapshot {
			return slices.Clone(layer.contents)
		}
	}
	return slices.Clone(g.layers[len(g.layers)-1].contents)
}

// base is what a disk's -flat.vmdk holds: with a snapshot no longer what the VM sees.
func (g *guest) base(index int) *content {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if !g.snapshotted(index) {
		return g.layers[len(g.layers)-1].contents[index]
	}
	return g.layers[0].contents[index]
}

// consolidate merges every layer whose snapshot is gone with the one above it, and deletes what nothing holds.
func (g *guest) consolidate() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.left = false
	before := map[*content]bool{}
	for _, layer := range g.layers {
		for _, each := range layer.contents {
			before[each] = each.copy
		}
	}
	for index := 0; index < len(g.layers)-1; {
		lower, upper := g.layers[index], g.layers[index+1]
		if lower.snapshot != nil {
			index++
			continue
		}
		lower.snapshot, lower.contents = upper.snapshot, upper.contents
		g.layers = slices.Delete(g.layers, index+1, index+2)
	}
	for each, copied := range before {
		if copied && g.uses(each) == 0 {
			if err := os.Remove(each.path); err != nil && !errors.Is(err, os.ErrNotExist) {
				log.Printf("%s", err)
			}
		}
	}
}

// needsConsolidation reports whether deltas are left that no snapshot needs. The caller holds the mutex.
func (g *guest) needsConsolidation() bool {
	return g.left || slices.ContainsFunc(g.layers[:len(g.layers)-1], func(l *layer) bool { return l.snapshot == nil })
}

// snapshotted reports whether snapshots cover a disk.
func (g *guest) snapshotted(index int) bool {
	return index != 0 || (!g.IndependentDisk && !g.PhysicalRDM)
}

// showLayers gives the VM's disks and those of its snapshots the backings that their layers have.
func (i *inventory) showLayers(ctx *simulator.Context, g *guest) {
	g.mutex.Lock()
	layers := make([]layer, 0, len(g.layers))
	numbers := make([]int, 0, len(g.layers))
	for _, each := range g.layers {
		layers = append(layers, *each)
		numbers = append(numbers, each.number)
	}
	needed := g.needsConsolidation()
	g.mutex.Unlock()
	vm := i.registry.Get(g.reference).(*simulator.VirtualMachine)
	ctx.WithLock(vm, func() {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "config.hardware.device", Val: g.backed(vm.Config.Hardware.Device, numbers)},
			{Name: "runtime.consolidationNeeded", Val: needed},
			{Name: "summary.runtime.consolidationNeeded", Val: needed},
		})
	})
	for index, each := range layers {
		if each.snapshot == nil {
			continue
		}
		if object, ok := i.registry.Get(each.snapshot.reference).(*simulator.VirtualMachineSnapshot); ok {
			ctx.WithLock(object, func() {
				ctx.Update(object, []types.PropertyChange{
					{Name: "config.hardware.device", Val: g.backed(object.Config.Hardware.Device, numbers[:index+1])},
				})
			})
		}
	}
}

// backed copies a device list, with the chain of these layers behind every disk that snapshots cover.
func (g *guest) backed(devices []types.BaseVirtualDevice, numbers []int) []types.BaseVirtualDevice {
	result := slices.Clone(devices)
	for index, device := range result {
		disk, ok := device.(*types.VirtualDisk)
		if !ok || !g.snapshotted(int(disk.Key-2000)) || int(disk.Key-2000) >= len(g.disks) {
			continue
		}
		backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok {
			continue
		}
		for backing.Parent != nil {
			backing = backing.Parent
		}
		base := *backing
		var top *types.VirtualDiskFlatVer2BackingInfo
		for _, number := range numbers {
			next := base
			next.Parent = top
			if number > 0 {
				next.FileName = fmt.Sprintf("[%s] %s", datastoreName, g.disks[disk.Key-2000].deltaPath(number))
				next.DeltaDiskFormat = string(types.VirtualDiskDeltaDiskFormatSeSparseFormat)
			}
			top = &next
		}
		copied := *disk
		copied.Backing = top
		result[index] = &copied
	}
	return result
}

// deltaPath is the descriptor of a snapshot's delta, beside the disk's own.
func (d *disk) deltaPath(number int) string {
	return fmt.Sprintf("%s-%06d.vmdk", strings.TrimSuffix(d.descriptorPath, path.Ext(d.descriptorPath)), number)
}
