package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// createVM makes the VM with its hardware, then adds what CreateVM cannot express.
func (i *inventory) createVM(ctx context.Context, host *object.HostSystem, loaded *guest) error {
	devices, err := loaded.devices()
	if err != nil {
		return err
	}
	pool, err := i.cluster.ResourcePool(ctx)
	if err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{
		Name: loaded.Name, GuestId: loaded.GuestID, Annotation: loaded.Annotation, Firmware: loaded.Firmware,
		Version: loaded.HardwareVersion, NumCPUs: loaded.VCPUs, MemoryMB: loaded.MemoryMiB,
		BootOptions: &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(loaded.SecureBoot)},
		Files:       &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] %s/%s.vmx", datastoreName, loaded.Name, loaded.Name)},
	}
	for _, device := range devices {
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device,
		})
	}
	task, err := i.folders.VmFolder.CreateVM(ctx, spec, pool, host)
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return err
	}
	loaded.reference = info.Result.(types.ManagedObjectReference)
	vm := i.registry.Get(loaded.reference).(*simulator.VirtualMachine)
	freshContext(i.root).WithLock(vm, func() { loaded.complete(&vm.VirtualMachine) })
	return nil
}

// devices are the guest's controllers (keys from 1000), disks (from 2000) and NICs (from 4000).
func (g *guest) devices() (object.VirtualDeviceList, error) {
	var list object.VirtualDeviceList
	for bus := int32(0); bus == 0 || int(bus)*disksPerController < len(g.disks); bus++ {
		list = append(list, g.controller(bus))
	}
	for index, disk := range g.disks {
		backing := &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{
				FileName: fmt.Sprintf("[%s] %s", datastoreName, disk.descriptorPath),
			},
			DiskMode:        string(types.VirtualDiskModePersistent),
			ThinProvisioned: types.NewBool(true),
		}
		if g.IndependentDisk && index == 0 {
			backing.DiskMode = string(types.VirtualDiskModeIndependent_persistent)
		}
		list = append(list, &types.VirtualDisk{
			VirtualDevice: types.VirtualDevice{
				Key: disk.key, ControllerKey: 1000 + disk.bus, UnitNumber: types.NewInt32(disk.unit), Backing: backing,
				DeviceInfo: &types.Description{Label: fmt.Sprintf("Hard disk %d", index+1)},
			},
			CapacityInBytes: disk.capacityBytes,
			CapacityInKB:    disk.capacityBytes / 1024,
		})
	}
	for index, nic := range g.NICs {
		adapter := nic.Adapter
		if adapter == "" {
			adapter = "vmxnet3"
		}
		backing := &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: nic.Network},
		}
		device, err := list.CreateEthernetCard(adapter, backing)
		if err != nil {
			return nil, err
		}
		card := device.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
		card.Key = 4000 + int32(index)
		card.ControllerKey = 100
		card.UnitNumber = types.NewInt32(7 + int32(index))
		card.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", index+1)}
		card.AddressType = string(types.VirtualEthernetCardMacTypeManual)
		card.MacAddress = nic.MAC
		card.WakeOnLanEnabled = types.NewBool(true)
		card.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true}
		list = append(list, device)
	}
	return list, nil
}

func (g *guest) controller(bus int32) types.BaseVirtualDevice {
	common := types.VirtualSCSIController{
		VirtualController: types.VirtualController{
			VirtualDevice: types.VirtualDevice{
				Key: 1000 + bus, DeviceInfo: &types.Description{Label: fmt.Sprintf("SCSI controller %d", bus)},
			},
			BusNumber: bus,
		},
		SharedBus:          types.VirtualSCSISharingNoSharing,
		HotAddRemove:       types.NewBool(true),
		ScsiCtlrUnitNumber: 7,
	}
	switch g.SCSI {
	case "lsilogic":
		return &types.VirtualLsiLogicController{VirtualSCSIController: common}
	case "lsilogic-sas":
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: common}
	default:
		return &types.ParaVirtualSCSIController{VirtualSCSIController: common}
	}
}

// controllerName is the class name that a lease's device keys carry.
func (g *guest) controllerName() string {
	switch g.SCSI {
	case "lsilogic":
		return "VirtualLsiLogicController"
	case "lsilogic-sas":
		return "VirtualLsiLogicSASController"
	default:
		return "ParaVirtualSCSIController"
	}
}

// complete writes the guest's facts and its oddities into the VM. The caller holds the VM's lock.
func (g *guest) complete(vm *mo.VirtualMachine) {
	vm.Guest = g.facts(types.VirtualMachinePowerStatePoweredOff)
	vm.Summary.Guest = &types.VirtualMachineGuestSummary{
		GuestId: g.GuestID, GuestFullName: g.GuestFullName, HostName: vm.Guest.HostName, IpAddress: vm.Guest.IpAddress,
		ToolsStatus: vm.Guest.ToolsStatus, ToolsRunningStatus: vm.Guest.ToolsRunningStatus,
		ToolsVersionStatus2: vm.Guest.ToolsVersionStatus2,
	}
	if g.GuestFullName != "" {
		vm.Config.GuestFullName = g.GuestFullName
		vm.Summary.Config.GuestFullName = g.GuestFullName
	}
	vm.Summary.Config.Annotation = g.Annotation
	// Enumerations that a vCenter always sets; clients cannot parse an empty one.
	vm.GuestHeartbeatStatus = types.ManagedEntityStatusGray
	vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
	vm.Runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	vm.Summary.Runtime.FaultToleranceState = vm.Runtime.FaultToleranceState
	vm.Summary.Runtime.RecordReplayState = vm.Runtime.RecordReplayState
	if g.ConsolidationNeeded {
		vm.Runtime.ConsolidationNeeded = true
		vm.Summary.Runtime.ConsolidationNeeded = true
	}
	key := &types.CryptoKeyId{KeyId: "simulated-key", ProviderId: &types.KeyProviderId{Id: "simulated-provider"}}
	if g.Encrypted {
		vm.Config.KeyId = key
	}
	for _, device := range vm.Config.Hardware.Device {
		disk, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		flat := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if g.Encrypted {
			flat.KeyId = key
		}
		if g.PhysicalRDM && disk.Key == 2000 {
			disk.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
				VirtualDeviceFileBackingInfo: flat.VirtualDeviceFileBackingInfo,
				CompatibilityMode:            string(types.VirtualDiskCompatibilityModePhysicalMode),
				DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
				DeviceName:                   "vml.0200000000600000000000000000000000000000000000000000",
				LunUuid:                      "0200000000600000000000000000000000000000000000000000",
				Uuid:                         flat.Uuid,
			}
		}
	}
	if g.VTPM {
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualTPM{
			VirtualDevice: types.VirtualDevice{Key: 11000, DeviceInfo: &types.Description{Label: "Virtual TPM", Summary: "Trusted Platform Module"}},
		})
	}
	vm.Summary.Config.TpmPresent = types.NewBool(g.VTPM)
}

// facts is what VMware tools reported. vCenter keeps the last report while a VM is off, unless the guest
// asks to be one whose report is lost.
func (g *guest) facts(state types.VirtualMachinePowerState) *types.GuestInfo {
	info := &types.GuestInfo{
		GuestId: g.GuestID, GuestFullName: g.GuestFullName, GuestFamily: string(types.VirtualMachineGuestOsFamilyLinuxGuest),
		ToolsVersion: "12352", ToolsVersionStatus2: string(types.VirtualMachineToolsVersionStatusGuestToolsUnmanaged),
		ToolsStatus: types.VirtualMachineToolsStatusToolsNotRunning, GuestState: string(types.VirtualMachineGuestStateNotRunning),
		ToolsRunningStatus: string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning),
	}
	on := state == types.VirtualMachinePowerStatePoweredOn
	if on {
		info.ToolsStatus = types.VirtualMachineToolsStatusToolsOk
		info.GuestState = string(types.VirtualMachineGuestStateRunning)
		info.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	}
	if g.Tools == toolsAbsent {
		info.ToolsVersion, info.ToolsVersionStatus2 = "0", string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled)
		info.ToolsStatus = types.VirtualMachineToolsStatusToolsNotInstalled
		info.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
		info.GuestState = string(types.VirtualMachineGuestStateUnknown)
		return info
	}
	if g.ForgetFactsWhenOff && !on {
		return info
	}
	info.HostName = g.HostName
	stack := types.GuestStackInfo{
		DnsConfig:     &types.NetDnsConfigInfo{HostName: g.HostName},
		IpRouteConfig: &types.NetIpRouteConfigInfo{},
	}
	for index, nic := range g.NICs {
		device := strconv.Itoa(index)
		report := types.GuestNicInfo{
			Network: nic.Network, MacAddress: nic.MAC, Connected: on, DeviceConfigId: 4000 + int32(index),
			IpConfig: &types.NetIpConfigInfo{
				Dhcp: &types.NetDhcpConfigInfo{Ipv4: &types.NetDhcpConfigInfoDhcpOptions{Enable: nic.DHCP}},
			},
		}
		if len(nic.DNS) > 0 {
			report.DnsConfig = &types.NetDnsConfigInfo{HostName: g.HostName, IpAddress: nic.DNS}
			stack.DnsConfig.IpAddress = append(stack.DnsConfig.IpAddress, nic.DNS...)
		}
		if nic.Gateway != "" {
			network := "0.0.0.0"
			if gateway, err := netip.ParseAddr(nic.Gateway); err == nil && gateway.Is6() {
				network = "::"
			}
			stack.IpRouteConfig.IpRoute = append(stack.IpRouteConfig.IpRoute, types.NetIpRouteConfigInfoIpRoute{
				Network: network, Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: nic.Gateway, Device: device},
			})
		}
		for _, text := range nic.Addresses {
			address := netip.MustParsePrefix(text) // checked when guest.json was read
			report.IpAddress = append(report.IpAddress, address.Addr().String())
			report.IpConfig.IpAddress = append(report.IpConfig.IpAddress, types.NetIpConfigInfoIpAddress{
				IpAddress: address.Addr().String(), PrefixLength: int32(address.Bits()),
				State: string(types.NetIpConfigInfoIpAddressStatusPreferred),
			})
			stack.IpRouteConfig.IpRoute = append(stack.IpRouteConfig.IpRoute, types.NetIpRouteConfigInfoIpRoute{
				Network: address.Masked().Addr().String(), PrefixLength: int32(address.Bits()),
				Gateway: types.NetIpRouteConfigInfoGateway{Device: device},
			})
			if info.IpAddress == "" {
				info.IpAddress = address.Addr().String()
			}
		}
		info.Net = append(info.Net, report)
	}
	info.IpStack = []types.GuestStackInfo{stack}
	return info
}

// toolsWatcher keeps a VM's guest facts in step with its power state, whoever changes it.
type toolsWatcher struct {
	mo.Task
	inventory *inventory
}

func newToolsWatcher(inventory *inventory) *toolsWatcher {
	watcher := &toolsWatcher{inventory: inventory}
	watcher.Self = types.ManagedObjectReference{Type: "Task", Value: "tools-watcher"}
	return watcher
}

// PutObject is part of simulator.RegisterObject.
func (*toolsWatcher) PutObject(*simulator.Context, mo.Reference) {}

// RemoveObject is part of simulator.RegisterObject.
func (*toolsWatcher) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

// UpdateObject is called by the power task, which holds the VM's lock.
func (w *toolsWatcher) UpdateObject(ctx *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	vm, ok := object.(*mo.VirtualMachine)
	if !ok {
		return
	}
	for _, change := range changes {
		state, ok := change.Val.(types.VirtualMachinePowerState)
		if !ok || change.Name != "runtime.powerState" {
			continue
		}
		loaded := w.inventory.byReference(vm.Self)
		if loaded == nil {
			continue
		}
		loaded.powerChanges.Add(1)
		facts := loaded.facts(state)
		ctx.Update(vm, []types.PropertyChange{
			{Name: "guest", Val: facts},
			{Name: "summary.guest.toolsStatus", Val: facts.ToolsStatus},
			{Name: "summary.guest.toolsRunningStatus", Val: facts.ToolsRunningStatus},
			{Name: "summary.guest.toolsVersionStatus2", Val: facts.ToolsVersionStatus2},
		})
	}
}
