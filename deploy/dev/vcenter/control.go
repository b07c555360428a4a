package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// calls counts the clients' SOAP calls by method, for tests of batched reads.
type calls struct {
	mutex  sync.Mutex
	counts map[string]int
}

func newCalls() *calls { return &calls{counts: map[string]int{}} }

func (c *calls) add(method string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.counts[method]++
}

func (c *calls) report() map[string]int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return maps.Clone(c.counts)
}

func (c *calls) reset() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	clear(c.counts)
}

type sessionReport struct {
	Username  string `json:"username"`
	UserAgent string `json:"user_agent"`
	Calls     int64  `json:"calls"`
}

type vmReport struct {
	Name       string `json:"name"`
	Moref      string `json:"moref"`
	PowerState string `json:"power_state"`
	ESXiHost   string `json:"esxi_host"`
	Tools      string `json:"tools"`

	ConsolidationNeeded bool             `json:"consolidation_needed"`
	Deltas              int              `json:"deltas"`
	Disks               []diskReport     `json:"disks"`
	Snapshots           []snapshotReport `json:"snapshots"`
}

// diskReport names the file that holds what the VM sees on a disk at the moment; it is only to be read.
type diskReport struct {
	Path          string `json:"path"`
	CapacityBytes int64  `json:"capacity_bytes"`
}

// snapshotReport names the files that hold the disks as the snapshot keeps them.
type snapshotReport struct {
	Name     string    `json:"name"`
	Moref    string    `json:"moref"`
	Quiesced bool      `json:"quiesced"`
	Created  time.Time `json:"created"`
	Disks    []string  `json:"disks"`
}

// controlRoutes is the endpoint for tests: faults in, observations out.
func (s *server) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.faults.report()) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var spec faultSpec
		if !decode(w, r, &spec) {
			return
		}
		if spec.VM != "" && s.inventory.byName(spec.VM) == nil {
			refuse(w, http.StatusBadRequest, s.unknownVM(spec.VM))
			return
		}
		fault, err := s.faults.add(spec)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		reply(w, http.StatusCreated, fault)
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		s.faults.remove(0)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || id < 1 || !s.faults.remove(id) {
			refuse(w, http.StatusNotFound, fmt.Errorf("no fault %s", r.PathValue("id")))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /leases", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.leases.report()) })
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, _ *http.Request) {
		s.sessions.expireIdle()
		list := []sessionReport{}
		for _, session := range s.sessions.list() {
			list = append(list, sessionReport{Username: session.UserName, UserAgent: session.UserAgent, Calls: session.CallCount})
		}
		reply(w, http.StatusOK, map[string]any{"count": len(list), "sessions": list})
	})
	mux.HandleFunc("GET /traffic", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.faults.traffic()) })
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.calls.report()) })
	mux.HandleFunc("DELETE /requests", func(w http.ResponseWriter, _ *http.Request) {
		s.calls.reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /vms", func(w http.ResponseWriter, _ *http.Request) {
		list := []vmReport{}
		for _, name := range s.inventory.names() {
			list = append(list, s.reportVM(s.inventory.byName(name)))
		}
		reply(w, http.StatusOK, list)
	})
	mux.HandleFunc("POST /vms/{name}/power", s.controlPower)
	mux.HandleFunc("POST /vms/{name}/write", s.controlWrite)
	mux.HandleFunc("POST /guests", s.controlGuest)
	return mux
}

// controlPower switches a VM on or off: {"state": "poweredOn"}.
func (s *server) controlPower(w http.ResponseWriter, r *http.Request) {
	var body struct {
		State types.VirtualMachinePowerState `json:"state"`
	}
	if !decode(w, r, &body) {
		return
	}
	guest := s.inventory.byName(r.PathValue("name"))
	if guest == nil {
		refuse(w, http.StatusNotFound, s.unknownVM(r.PathValue("name")))
		return
	}
	if body.State != types.VirtualMachinePowerStatePoweredOn && body.State != types.VirtualMachinePowerStatePoweredOff {
		refuse(w, http.StatusBadRequest, fmt.Errorf("state is %q, expected poweredOn or poweredOff", body.State))
		return
	}
	if err := s.inventory.setPower(r.Context(), guest, body.State); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	reply(w, http.StatusOK, s.reportVM(guest))
}

// controlGuest adds a guest's folder while the server runs: {"directory": "/path/of/NAME"}.
func (s *server) controlGuest(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Directory string `json:"directory"`
	}
	if !decode(w, r, &body) {
		return
	}
	guest, err := loadGuest(body.Directory)
	if err == nil {
		err = s.inventory.add(r.Context(), guest)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	reply(w, http.StatusCreated, s.reportVM(guest))
}

func (s *server) reportVM(guest *guest) vmReport {
	state := s.inventory.powerState(freshContext(s.inventory.root), guest)
	guest.mutex.Lock()
	defer guest.mutex.Unlock()
	report := vmReport{
		Name: guest.Name, Moref: guest.reference.Value, PowerState: string(state), ESXiHost: guest.ESXiHost, Tools: guest.Tools,
		ConsolidationNeeded: guest.needsConsolidation(), Deltas: len(guest.layers) - 1,
		Disks: []diskReport{}, Snapshots: []snapshotReport{},
	}
	for index, disk := range guest.disks {
		current := guest.layers[len(guest.layers)-1].contents[index]
		report.Disks = append(report.Disks, diskReport{Path: current.path, CapacityBytes: disk.capacityBytes})
	}
	for _, layer := range guest.layers {
		if layer.snapshot == nil {
			continue
		}
		kept := snapshotReport{
			Name: layer.snapshot.name, Moref: layer.snapshot.reference.Value, Quiesced: layer.snapshot.quiesced,
			Created: layer.snapshot.created,
		}
		for _, each := range layer.contents {
			kept.Disks = append(kept.Disks, each.path)
		}
		report.Snapshots = append(report.Snapshots, kept)
	}
	return report
}

// controlWrite lets a running VM write to a disk: {"disk": 0, "offset": 4096, "length": 512, "seed": 7}.
func (s *server) controlWrite(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Disk   int   `json:"disk"`
		Offset int64 `json:"offset"`
		Length int64 `json:"length"`
		Seed   int64 `json:"seed"`
	}
	if !decode(w, r, &body) {
		return
	}
	guest := s.inventory.byName(r.PathValue("name"))
	if guest == nil {
		refuse(w, http.StatusNotFound, s.unknownVM(r.PathValue("name")))
		return
	}
	if body.Disk < 0 || body.Disk >= len(guest.disks) {
		refuse(w, http.StatusBadRequest, fmt.Errorf("%s has %d disks, counted from 0", guest.Name, len(guest.disks)))
		return
	}
	capacity := guest.disks[body.Disk].capacityBytes
	if body.Length <= 0 || body.Length > capacity || body.Offset < 0 || body.Offset > capacity-body.Length {
		refuse(w, http.StatusBadRequest, fmt.Errorf("offset and length are not within the disk's %d bytes", capacity))
		return
	}
	if s.inventory.powerState(freshContext(s.inventory.root), guest) != types.VirtualMachinePowerStatePoweredOn {
		refuse(w, http.StatusConflict, fmt.Errorf("%s is off: nobody writes to its disks", guest.Name))
		return
	}
	digest, err := guest.write(s.inventory.copies, body.Disk, body.Offset, body.Length, strconv.FormatInt(body.Seed, 10))
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"sha256": digest})
}

func (s *server) unknownVM(name string) error {
	return fmt.Errorf("no VM %q; there are: %s", name, strings.Join(s.inventory.names(), ", "))
}

// decode reads a JSON body of known fields only, and answers the request itself when it cannot.
func decode(w http.ResponseWriter, r *http.Request, target any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(target)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
	}
	return err == nil
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Printf("control: %s", err)
	}
}

func refuse(w http.ResponseWriter, status int, err error) {
	reply(w, status, map[string]string{"error": err.Error()})
}
