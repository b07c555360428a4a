package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	datastoreName      = "datastore1"
	clusterName        = "Cluster1"
	defaultHost        = "esxi-01.example.com"
	disksPerController = 15 // 16 SCSI addresses, of which 7 is the controller's own
)

// disk is one virtual disk: its files on this machine and its place in the simulated VM.
type disk struct {
	flat           string
	stream         string // empty where the stream is made when it is asked for
	capacityBytes  int64
	allocatedBytes int64
	changes        atomic.Int64 // of the file's time stamp, by change_etag

	key            int32
	bus            int32
	unit           int32
	descriptorPath string // path on the datastore, as /folder sees it
	flatPath       string
}

// guest is a loaded guest and, once it is in the inventory, the VM that shows it.
type guest struct {
	guestSpec
	disks        []*disk
	reference    types.ManagedObjectReference
	powerChanges atomic.Int64 // so that a guest's shutdown ends the run alone that it was asked in

	mutex  sync.Mutex // guards what follows
	layers []*layer
	left   bool // guest.json's consolidation_needed: something is left that is not among the layers
	copies int  // of disks, made so far
	task   *types.ManagedObjectReference
}

// layOut gives every disk its device key, address and datastore paths, as the vSphere client would.
func (g *guest) layOut() {
	base := new(layer)
	for index, disk := range g.disks {
		suffix := ""
		if index > 0 {
			suffix = fmt.Sprintf("_%d", index)
		}
		disk.key = 2000 + int32(index)
		disk.bus = int32(index / disksPerController)
		disk.unit = int32(index % disksPerController)
		if disk.unit >= 7 {
			disk.unit++
		}
		disk.descriptorPath = path.Join(g.Name, g.Name+suffix+".vmdk")
		disk.flatPath = path.Join(g.Name, g.Name+suffix+"-flat.vmdk")
		base.contents = append(base.contents, &content{path: disk.flat})
	}
	g.layers = []*layer{base}
	g.left = g.ConsolidationNeeded
}

// inventory is the datacenter with its cluster, hosts, datastore, networks and guests.
type inventory struct {
	client         *vim25.Client
	registry       *simulator.Registry
	root           *simulator.Context
	datacenterName string
	directory      string // the datastore on this machine: placeholders, never a disk's content
	copies         string // where disks go that a running VM has changed
	datacenter     *object.Datacenter
	folders        *object.DatacenterFolders
	cluster        *object.ClusterComputeResource
	hosts          map[string]*object.HostSystem

	building sync.Mutex // one guest is added at a time
	mutex    sync.RWMutex
	guests   map[string]*guest
}

// newInventory builds the infrastructure that every guest shares.
func newInventory(ctx context.Context, service *simulator.Service, datacenter, state string) (*inventory, error) {
	directory, copies := filepath.Join(state, datastoreName), filepath.Join(state, "disks")
	client, err := vim25.NewClient(ctx, service)
	if err != nil {
		return nil, err
	}
	for _, each := range []string{directory, copies} {
		if err := errors.Join(os.RemoveAll(each), os.MkdirAll(each, 0o700)); err != nil {
			return nil, err
		}
	}
	result := &inventory{
		client: client, registry: service.Context.Map, root: service.Context, datacenterName: datacenter,
		directory: directory, copies: copies, hosts: map[string]*object.HostSystem{}, guests: map[string]*guest{},
	}
	root := object.NewRootFolder(client)
	if result.datacenter, err = root.CreateDatacenter(ctx, datacenter); err != nil {
		return nil, err
	}
	if result.folders, err = result.datacenter.Folders(ctx); err != nil {
		return nil, err
	}
	result.cluster, err = result.folders.HostFolder.CreateCluster(ctx, clusterName, types.ClusterConfigSpecEx{})
	if err != nil {
		return nil, err
	}
	result.registry.AddHandler(newToolsWatcher(result))
	_, err = result.host(ctx, defaultHost)
	return result, err
}

// host returns an ESXi host of the cluster, adding it and mounting the datastore when it is new.
func (i *inventory) host(ctx context.Context, name string) (*object.HostSystem, error) {
	if host, ok := i.hosts[name]; ok {
		return host, nil
	}
	task, err := i.cluster.AddHost(ctx, types.HostConnectSpec{HostName: name}, true, nil, nil)
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return nil, err
	}
	host := object.NewHostSystem(i.client, info.Result.(types.ManagedObjectReference))
	system := i.registry.Get(host.Reference()).(*simulator.HostSystem)
	product := types.AboutInfo{ // 8.0.2 is the newest version that the simulator can parse
		Name: "VMware ESXi", FullName: "VMware ESXi 8.0.2 build-22380479", Vendor: "VMware, Inc.", Version: "8.0.2",
		Build: "22380479", OsType: "vmnix-x86", ProductLineId: "embeddedEsx", ApiType: "HostAgent", ApiVersion: "8.0.2.0",
	}
	system.Config.Product = product
	system.Summary.Config.Product = &product
	datastores, err := host.ConfigManager().DatastoreSystem(ctx)
	if err != nil {
		return nil, err
	}
	datastore, err := datastores.CreateLocalDatastore(ctx, datastoreName, i.directory)
	if err != nil {
		return nil, err
	}
	// For every host but the first the simulator answers with a reference to nothing.
	if made, ok := i.registry.Get(datastore.Reference()).(*simulator.Datastore); ok {
		made.Summary.Type = "VMFS"
	}
	i.hosts[name] = host
	return host, nil
}

// network makes sure that a port group of this name exists. "VM Network" is there from the start.
func (i *inventory) network(ctx context.Context, host *object.HostSystem, name string) error {
	datacenter := i.registry.Get(i.datacenter.Reference()).(*simulator.Datacenter)
	if i.registry.FindByName(name, datacenter.Network) != nil {
		return nil
	}
	networks, err := host.ConfigManager().NetworkSystem(ctx)
	if err != nil {
		return err
	}
	err = networks.AddPortGroup(ctx, types.HostPortGroupSpec{Name: name, VswitchName: "vSwitch0"})
	if err != nil {
		return err
	}
	reference := i.registry.FindByName(name, datacenter.Network).Reference()
	cluster := i.registry.Get(i.cluster.Reference()).(*simulator.ClusterComputeResource)
	i.registry.AddReference(i.root, cluster, &cluster.Network, reference)
	for _, each := range i.hosts {
		system := i.registry.Get(each.Reference()).(*simulator.HostSystem)
		i.registry.AddReference(i.root, system, &system.Network, reference)
	}
	return nil
}

// add puts a loaded guest into the inventory as a VM.
func (i *inventory) add(ctx context.Context, loaded *guest) error {
	i.building.Lock()
	defer i.building.Unlock()
	if i.byName(loaded.Name) != nil {
		return fmt.Errorf("there is already a guest named %q", loaded.Name)
	}
	host, err := i.host(ctx, loaded.ESXiHost)
	if err != nil {
		return fmt.Errorf("host %s: %w", loaded.ESXiHost, err)
	}
	for _, nic := range loaded.NICs {
		if err := i.network(ctx, host, nic.Network); err != nil {
			return fmt.Errorf("network %s: %w", nic.Network, err)
		}
	}
	if err := i.placeholders(loaded); err != nil {
		return err
	}
	if err := i.createVM(ctx, host, loaded); err != nil {
		return fmt.Errorf("guest %s: %w", loaded.Name, err)
	}
	i.mutex.Lock()
	i.guests[loaded.Name] = loaded
	i.mutex.Unlock()
	if loaded.HasSnapshot {
		if _, fault := i.createSnapshot(freshContext(i.root), loaded, &types.CreateSnapshotEx_Task{Name: "before"}); fault != nil {
			return fmt.Errorf("guest %s: snapshot: %s", loaded.Name, fault.LocalizedMessage)
		}
	}
	return i.setPower(ctx, loaded, types.VirtualMachinePowerState(loaded.PowerState))
}

// placeholders makes the files that the simulator looks for when a VM is created. A flat file is given the
// size that its disk occupies, because a thin disk's file size is what the storage figures add up.
func (i *inventory) placeholders(loaded *guest) error {
	if err := os.MkdirAll(filepath.Join(i.directory, loaded.Name), 0o700); err != nil {
		return err
	}
	for _, disk := range loaded.disks {
		descriptor := filepath.Join(i.directory, disk.descriptorPath)
		flat := filepath.Join(i.directory, disk.flatPath)
		err := errors.Join(
			os.WriteFile(descriptor, []byte(disk.descriptor()), 0o600),
			os.WriteFile(flat, nil, 0o600),
			os.Truncate(flat, disk.allocatedBytes),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// descriptor is the small text file that names a flat extent (VMware Virtual Disk Format 5.0).
func (d *disk) descriptor() string {
	sectors := d.capacityBytes / sectorBytes
	var text strings.Builder
	text.WriteString("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\n")
	text.WriteString("createType=\"vmfs\"\n\n# Extent description\n")
	fmt.Fprintf(&text, "RW %d VMFS \"%s\"\n\n# The Disk Data Base\n#DDB\n\n", sectors, path.Base(d.flatPath))
	fmt.Fprintf(&text, "ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"%d\"\n", sectors/(255*63))
	text.WriteString("ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.thinProvisioned = \"1\"\n")
	text.WriteString("ddb.virtualHWVersion = \"19\"\n")
	return text.String()
}

func (i *inventory) count() int {
	i.mutex.RLock()
	defer i.mutex.RUnlock()
	return len(i.guests)
}

func (i *inventory) names() []string {
	i.mutex.RLock()
	defer i.mutex.RUnlock()
	names := make([]string, 0, len(i.guests))
	for name := range i.guests {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (i *inventory) byName(name string) *guest {
	i.mutex.RLock()
	defer i.mutex.RUnlock()
	return i.guests[name]
}

// byReference finds the guest that a VM or one of its snapshots shows; nil for any other object.
func (i *inventory) byReference(reference types.ManagedObjectReference) *guest {
	if snapshot, ok := i.registry.Get(reference).(*simulator.VirtualMachineSnapshot); ok {
		reference = snapshot.Vm
	}
	i.mutex.RLock()
	defer i.mutex.RUnlock()
	for _, guest := range i.guests {
		if guest.reference == reference {
			return guest
		}
	}
	return nil
}

// byDatastorePath finds the disk that a path on the datastore names, and whether it names the flat file.
func (i *inventory) byDatastorePath(name string) (*guest, *disk, bool) {
	i.mutex.RLock()
	defer i.mutex.RUnlock()
	for _, guest := range i.guests {
		index := slices.IndexFunc(guest.disks, func(d *disk) bool { return d.flatPath == name || d.descriptorPath == name })
		if index >= 0 {
			return guest, guest.disks[index], guest.disks[index].flatPath == name
		}
	}
	return nil, nil, false
}

// touch changes the time stamps of disks, as if somebody had written to them; of one VM, or one disk, if given.
func (i *inventory) touch(vm string, index *int) {
	for _, name := range i.names() {
		for number, disk := range i.byName(name).disks {
			if (vm == "" || vm == name) && (index == nil || *index == number) {
				disk.changes.Add(1)
			}
		}
	}
}

// powerState reads a VM's power state under its lock.
func (i *inventory) powerState(ctx *simulator.Context, loaded *guest) types.VirtualMachinePowerState {
	vm := i.registry.Get(loaded.reference).(*simulator.VirtualMachine)
	var state types.VirtualMachinePowerState
	ctx.WithLock(vm, func() { state = vm.Runtime.PowerState })
	return state
}

// setPower switches a VM on or off; asking for the state it is in does nothing.
func (i *inventory) setPower(ctx context.Context, loaded *guest, state types.VirtualMachinePowerState) error {
	if i.powerState(freshContext(i.root), loaded) == state {
		return nil
	}
	vm := object.NewVirtualMachine(i.client, loaded.reference)
	change := vm.PowerOff
	if state == types.VirtualMachinePowerStatePoweredOn {
		change = vm.PowerOn
	}
	task, err := change(ctx)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// freshContext is a simulator context of its own: object locks are held on behalf of a context, so two
// goroutines must not share one.
func freshContext(from *simulator.Context) *simulator.Context {
	return &simulator.Context{Context: context.Background(), Session: from.Session, Map: from.Map}
}
