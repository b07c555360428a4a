package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const sectorBytes = 512

// guestSpec is a guest.json: one virtual machine and the files its disks are made of.
type guestSpec struct {
	Name                string     `json:"name"`
	GuestID             string     `json:"guest_id"`
	GuestFullName       string     `json:"guest_full_name"`
	Firmware            string     `json:"firmware"`
	SecureBoot          bool       `json:"secure_boot"`
	MemoryMiB           int64      `json:"memory_mib"`
	VCPUs               int32      `json:"vcpus"`
	PowerState          string     `json:"power_state"`
	HardwareVersion     string     `json:"hardware_version"`
	HostName            string     `json:"host_name"`
	SCSI                string     `json:"scsi"`
	Disks               []diskSpec `json:"disks"`
	NICs                []nicSpec  `json:"nics"`
	Annotation          string     `json:"annotation"`
	ESXiHost            string     `json:"esxi_host"`
	NVRAM               string     `json:"nvram"`
	ForgetFactsWhenOff  bool       `json:"forget_facts_when_off"`
	Encrypted           bool       `json:"encrypted"`
	VTPM                bool       `json:"vtpm"`
	IndependentDisk     bool       `json:"independent_disk"`
	PhysicalRDM         bool       `json:"physical_rdm"`
	ConsolidationNeeded bool       `json:"consolidation_needed"`
	HasSnapshot         bool       `json:"has_snapshot"`

	Tools           string          `json:"tools"`
	ShutdownSeconds shutdownSeconds `json:"shutdown_seconds"`
}

// diskSpec names the two forms of one disk: raw, and for the lease a streamOptimized VMDK, which may be missing.
type diskSpec struct {
	Flat   string `json:"flat"`
	Stream string `json:"stream"`
}

type nicSpec struct {
	MAC        string   `json:"mac"`
	Network    string   `json:"network"`
	Adapter    string   `json:"adapter"`
	Addresses  []string `json:"addresses"`
	Gateway    string   `json:"gateway"`
	DNS        []string `json:"dns"`
	DHCP       bool     `json:"dhcp"`
	DeviceName string   `json:"device_name"` // the guest's own name; vCenter does not report it
}

// loadGuests reads every guest of a directory in the order of their names, and reports every problem of
// every guest at once.
func loadGuests(directory string) ([]*guest, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var guests []*guest
	var problems []error
	for _, entry := range entries {
		path := filepath.Join(directory, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if _, err := os.Stat(filepath.Join(path, "guest.json")); errors.Is(err, os.ErrNotExist) {
			log.Printf("%s: no guest.json, passed over", path)
			continue
		}
		guest, err := loadGuest(path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		guests = append(guests, guest)
	}
	return guests, errors.Join(problems...)
}

// loadGuest reads one guest's folder and checks that its files are what guest.json says.
func loadGuest(directory string) (*guest, error) {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(directory, "guest.json")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	spec := guestSpec{
		GuestID: "otherLinux64Guest", Firmware: "bios", MemoryMiB: 1024, VCPUs: 1, PowerState: "poweredOff",
		HardwareVersion: "vmx-19", SCSI: "pvscsi", ESXiHost: defaultHost, ShutdownSeconds: defaultShutdown,
	}
	strict := json.NewDecoder(bytes.NewReader(content))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&spec); err != nil {
		if !strings.Contains(err.Error(), "unknown field") {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		log.Printf("%s: %s (ignored)", path, err)
		if err := json.Unmarshal(content, &spec); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if spec.Tools == "" {
		spec.Tools = toolsAbsent
		if spec.HostName != "" || slices.ContainsFunc(spec.NICs, func(n nicSpec) bool { return len(n.Addresses) > 0 }) {
			spec.Tools = toolsRunning // who else would have reported these
		}
	}
	result := &guest{guestSpec: spec}
	problems := spec.check()
	for index, disk := range spec.Disks {
		loaded, err := loadDisk(directory, disk)
		if err != nil {
			problems = append(problems, fmt.Errorf("disk %d: %w", index+1, err))
			continue
		}
		result.disks = append(result.disks, loaded)
	}
	if spec.NVRAM != "" {
		result.NVRAM = resolve(directory, spec.NVRAM)
		if _, err := os.Stat(result.NVRAM); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s:\n%w", path, errors.Join(problems...))
	}
	result.layOut()
	return result, nil
}

// check reports everything in guest.json that cannot be.
func (s *guestSpec) check() []error {
	var problems []error
	complain := func(format string, arguments ...any) {
		problems = append(problems, fmt.Errorf(format, arguments...))
	}
	oneOf := func(field, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			complain("%s is %q, expected one of %s", field, value, strings.Join(allowed, ", "))
		}
	}
	if s.Name == "" || strings.ContainsAny(s.Name, "/\\[]%") || s.Name == "." || s.Name == ".." {
		complain("name %q cannot be a folder of a datastore", s.Name)
	}
	oneOf("firmware", s.Firmware, "bios", "efi")
	oneOf("power_state", s.PowerState, "poweredOff", "poweredOn")
	oneOf("scsi", s.SCSI, "pvscsi", "lsilogic", "lsilogic-sas")
	oneOf("tools", s.Tools, toolsRunning, toolsAbsent)
	if s.MemoryMiB < 1 || s.VCPUs < 1 {
		complain("memory_mib and vcpus must be positive")
	}
	if s.ESXiHost == "" {
		complain("esxi_host must not be empty")
	}
	if len(s.Disks) > 4*disksPerController {
		complain("%d disks are more than four controllers hold", len(s.Disks))
	}
	for index, nic := range s.NICs {
		if hardware, err := net.ParseMAC(nic.MAC); err != nil || len(hardware) != 6 {
			complain("nic %d: mac %q is not a MAC address", index+1, nic.MAC)
		}
		if nic.Network == "" {
			complain("nic %d: network is missing", index+1)
		}
		oneOf(fmt.Sprintf("nic %d: adapter", index+1), nic.Adapter, "vmxnet3", "vmxnet2", "vmxnet", "e1000", "e1000e", "pcnet32", "")
		for _, address := range nic.Addresses {
			if _, err := netip.ParsePrefix(address); err != nil {
				complain("nic %d: %w", index+1, err)
			}
		}
	}
	return problems
}

// loadDisk checks that a disk is there, and its stream, if it has one, of the same capacity.
func loadDisk(directory string, spec diskSpec) (*disk, error) {
	if spec.Flat == "" {
		return nil, errors.New("flat is missing")
	}
	result := &disk{flat: resolve(directory, spec.Flat)}
	info, err := os.Stat(result.flat)
	if err != nil {
		return nil, err
	}
	result.capacityBytes = info.Size()
	result.allocatedBytes = min(info.Sys().(*syscall.Stat_t).Blocks*sectorBytes, info.Size())
	if result.capacityBytes == 0 || result.capacityBytes%1024 != 0 {
		return nil, fmt.Errorf("%s: %d bytes, expected a whole number of KiB", result.flat, result.capacityBytes)
	}
	if spec.Stream == "" {
		return result, nil
	}
	result.stream = resolve(directory, spec.Stream)
	capacity, err := streamCapacity(result.stream)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", result.stream, err)
	}
	if capacity != result.capacityBytes {
		return nil, fmt.Errorf("%s holds %d bytes, but %s has %d", result.stream, capacity, result.flat, result.capacityBytes)
	}
	return result, nil
}

// streamCapacity reads the capacity in bytes from a sparse VMDK's header (VMware Virtual Disk Format 5.0,
// SparseExtentHeader: magic at 0, capacity in sectors at 12).
func streamCapacity(path string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	header := make([]byte, sectorBytes)
	if _, err := io.ReadFull(file, header); err != nil {
		return 0, err
	}
	if string(header[:4]) != "KDMV" {
		return 0, errors.New("not a sparse VMDK")
	}
	return int64(binary.LittleEndian.Uint64(header[12:])) * sectorBytes, nil
}

func resolve(directory, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(directory, path)
}
