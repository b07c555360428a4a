package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"text/template"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// CreateDescriptor writes the OVF of a VM (DMTF DSP0243 1.1, as a vCenter writes it) with the files that
// the client has downloaded.
func (e *exporter) CreateDescriptor(_ *simulator.Context, req *types.CreateDescriptor) soap.HasFault {
	body := new(methods.CreateDescriptorBody)
	guest, fault := e.guest(req.Obj)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	name := req.Cdp.Name
	if name == "" {
		name = guest.Name
	}
	text, err := guest.ovf(name, req.Cdp.OvfFiles)
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), &types.InvalidArgument{InvalidProperty: "cdp"})
		return body
	}
	body.Res = &types.CreateDescriptorResponse{Returnval: types.OvfCreateDescriptorResult{
		OvfDescriptor: text, IncludeImageFiles: types.NewBool(false),
	}}
	return body
}

type ovfDisk struct {
	Number, Unit, Parent, Instance     int
	FileID, Href                       string
	FileBytes, CapacityBytes, Occupied int64
}

type ovfItem struct {
	Instance, Number int
	Network, Adapter string
}

// ovf renders the descriptor; files that are no disks of the guest are listed and not attached.
func (g *guest) ovf(name string, files []types.OvfFile) (string, error) {
	data := struct {
		*guest
		Title       string
		Controllers []int
		Subtype     string
		Files       []types.OvfFile
		OVFDisks    []ovfDisk
		Networks    []string
		Cards       []ovfItem
	}{guest: g, Title: name, Files: files}
	data.Subtype = map[string]string{"pvscsi": "VirtualSCSI", "lsilogic": "lsilogic", "lsilogic-sas": "lsilogicsas"}[g.SCSI]
	for bus := 0; bus == 0 || bus*disksPerController < len(g.disks); bus++ {
		data.Controllers = append(data.Controllers, bus)
	}
	for index, disk := range g.disks {
		key := fmt.Sprintf("%s%d:%d", g.controllerName(), disk.bus, disk.unit)
		entry := ovfDisk{
			Number: index + 1, Unit: int(disk.unit), Parent: 3 + int(disk.bus), Instance: 10 + index,
			CapacityBytes: disk.capacityBytes, Occupied: disk.allocatedBytes,
		}
		for position, file := range files {
			if strings.HasSuffix(file.DeviceId, "/"+key) {
				entry.FileID, entry.Href, entry.FileBytes = fmt.Sprintf("file%d", position+1), file.Path, file.Size
			}
		}
		data.OVFDisks = append(data.OVFDisks, entry)
	}
	known := map[string]bool{}
	for index, nic := range g.NICs {
		if !known[nic.Network] {
			known[nic.Network] = true
			data.Networks = append(data.Networks, nic.Network)
		}
		adapter := map[string]string{"": "VmxNet3", "vmxnet3": "VmxNet3", "e1000": "E1000", "e1000e": "E1000e", "pcnet32": "PCNet32"}[nic.Adapter]
		data.Cards = append(data.Cards, ovfItem{Instance: 100 + index, Number: index + 1, Network: nic.Network, Adapter: adapter})
	}
	var text bytes.Buffer
	err := ovfTemplate.Execute(&text, data)
	return text.String(), err
}

var ovfTemplate = template.Must(template.New("ovf").Funcs(template.FuncMap{
	"xml": func(text string) (string, error) {
		var escaped bytes.Buffer
		err := xml.EscapeText(&escaped, []byte(text))
		return escaped.String(), err
	},
	"next": func(index int) int { return index + 1 },
	"add":  func(a, b int) int { return a + b },
}).Parse(`<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-24022515" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
{{- range $index, $file := .Files}}
    <File ovf:href="{{xml $file.Path}}" ovf:id="file{{next $index}}" ovf:size="{{$file.Size}}"/>
{{- end}}
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
{{- range .OVFDisks}}
    <Disk ovf:capacity="{{.CapacityBytes}}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk{{.Number}}"{{if .FileID}} ovf:fileRef="{{.FileID}}"{{end}} ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="{{.Occupied}}"/>
{{- end}}
  </DiskSection>
  <NetworkSection>
    <Info>The list of logical networks</Info>
{{- range .Networks}}
    <Network ovf:name="{{xml .}}">
      <Description>The {{xml .}} network</Description>
    </Network>
{{- end}}
  </NetworkSection>
  <VirtualSystem ovf:id="{{xml .Title}}">
    <Info>A virtual machine</Info>
    <Name>{{xml .Title}}</Name>
    <OperatingSystemSection ovf:id="101" vmw:osType="{{xml .GuestID}}">
      <Info>The kind of installed guest operating system</Info>
      <Description>{{xml .GuestFullName}}</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{{xml .Title}}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>{{xml .HardwareVersion}}</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:Description>Number of Virtual CPUs</rasd:Description>
        <rasd:ElementName>{{.VCPUs}} virtual CPU(s)</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.VCPUs}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Description>Memory Size</rasd:Description>
        <rasd:ElementName>{{.MemoryMiB}}MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.MemoryMiB}}</rasd:VirtualQuantity>
      </Item>
{{- range .Controllers}}
      <Item>
        <rasd:Address>{{.}}</rasd:Address>
        <rasd:Description>SCSI Controller</rasd:Description>
        <rasd:ElementName>SCSI Controller {{.}}</rasd:ElementName>
        <rasd:InstanceID>{{add 3 .}}</rasd:InstanceID>
        <rasd:ResourceSubType>{{$.Subtype}}</rasd:ResourceSubType>
        <rasd:ResourceType>6</rasd:ResourceType>
      </Item>
{{- end}}
{{- range .OVFDisks}}
      <Item>
        <rasd:AddressOnParent>{{.Unit}}</rasd:AddressOnParent>
        <rasd:ElementName>Hard Disk {{.Number}}</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk{{.Number}}</rasd:HostResource>
        <rasd:InstanceID>{{.Instance}}</rasd:InstanceID>
        <rasd:Parent>{{.Parent}}</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
{{- end}}
{{- range .Cards}}
      <Item>
        <rasd:AddressOnParent>{{.Number}}</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>{{xml .Network}}</rasd:Connection>
        <rasd:ElementName>Network adapter {{.Number}}</rasd:ElementName>
        <rasd:InstanceID>{{.Instance}}</rasd:InstanceID>
        <rasd:ResourceSubType>{{.Adapter}}</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
{{- end}}
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{{.Firmware}}"/>
{{- if .SecureBoot}}
      <vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>
{{- end}}
    </VirtualHardwareSection>
    <AnnotationSection ovf:required="false">
      <Info>A human-readable annotation</Info>
      <Annotation>{{xml .Annotation}}</Annotation>
    </AnnotationSection>
  </VirtualSystem>
</Envelope>
`))
