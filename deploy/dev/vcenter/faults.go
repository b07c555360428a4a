package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// faultSpec is a fault as POST /faults takes it; README.md describes each kind.
type faultSpec struct {
	Kind           string  `json:"kind"`
	VM             string  `json:"vm,omitempty"`
	Disk           *int    `json:"disk,omitempty"`
	Transport      string  `json:"transport,omitempty"`
	AfterBytes     *int64  `json:"after_bytes,omitempty"`
	Offset         int64   `json:"offset,omitempty"`
	AtSource       bool    `json:"at_source,omitempty"`
	BytesPerSecond int64   `json:"bytes_per_second,omitempty"`
	Seconds        float64 `json:"seconds,omitempty"`
	Method         string  `json:"method,omitempty"`
	Fault          string  `json:"fault,omitempty"`
	KeepLeases     bool    `json:"keep_leases,omitempty"`
	Times          *int    `json:"times,omitempty"`
	HalfDone       bool    `json:"half_done,omitempty"`
	Status         int     `json:"status,omitempty"`
	RetryAfter     *int    `json:"retry_after,omitempty"`
	Everywhere     bool    `json:"everywhere,omitempty"`

	ShutdownSeconds *shutdownSeconds `json:"shutdown_seconds,omitempty"`
}

// activeFault is a fault that was set, with what it has done so far. Remaining is -1 for one without end.
type activeFault struct {
	ID int `json:"id"`
	faultSpec
	Remaining int `json:"remaining"`
	Hits      int `json:"hits"`

	removed chan struct{}
	method  reflect.Type // the fault type of fail_method and fail_task
}

// faults is the set of faults that tests have asked for.
type faults struct {
	sessions  *sessions
	leases    *leases
	inventory *inventory
	mutex     sync.Mutex
	list      []*activeFault
	nextID    int
	sent      map[string]int64 // bytes of disks by transport, since the start
}

func newFaults(sessions *sessions, leases *leases, inventory *inventory) *faults {
	return &faults{sessions: sessions, leases: leases, inventory: inventory, nextID: 1, sent: map[string]int64{}}
}

// count notes bytes that went out.
func (f *faults) count(transport string, size int64) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.sent[transport] += size
}

// traffic says how many bytes of disks went out, by transport.
func (f *faults) traffic() map[string]int64 {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return maps.Clone(f.sent)
}

// add checks a fault and sets it; those that hit no stream happen at once unless they have after_bytes.
func (f *faults) add(spec faultSpec) (activeFault, error) {
	fault := &activeFault{faultSpec: spec, Remaining: 1, removed: make(chan struct{})}
	if err := fault.check(); err != nil {
		return activeFault{}, err
	}
	if spec.Times != nil {
		fault.Remaining = *spec.Times
	} else if spec.Kind == "slow" {
		fault.Remaining = -1
	}
	f.mutex.Lock()
	fault.ID = f.nextID
	f.nextID++
	atOnce := spec.AfterBytes == nil && slices.Contains([]string{"expire_sessions", "lease_expire", "change_etag"}, spec.Kind)
	if atOnce {
		fault.hit()
	}
	f.list = append(f.list, fault)
	result := *fault
	f.mutex.Unlock()
	log.Printf("fault %d: %s", result.ID, spec.Kind)
	if atOnce {
		f.strike(&result)
	}
	return result, nil
}

func (a *activeFault) check() error {
	need := func(ok bool, what string) error {
		if !ok {
			return fmt.Errorf("%s: %s", a.Kind, what)
		}
		return nil
	}
	err := need(a.Times == nil || *a.Times > 0, "times must be positive")
	if a.AfterBytes != nil {
		err = errors.Join(err, need(*a.AfterBytes >= 0, "after_bytes must not be negative"))
	}
	err = errors.Join(err, need(slices.Contains([]string{"", "nfc", "folder"}, a.Transport), "transport is nfc or folder"))
	switch a.Kind {
	case "drop_connection", "truncate", "stall", "expire_sessions", "lease_expire", "change_etag":
	case "ignore_range", "wrong_range", "renew_cookie":
		err = errors.Join(err, need(a.Transport != "nfc", "it is a fault of folder"))
	case "redirect":
		err = errors.Join(err, need(a.Transport != "nfc", "it is a fault of folder"))
		a.Status = cmp.Or(a.Status, http.StatusFound)
		err = errors.Join(err, need(a.Status == http.StatusFound || a.Status == http.StatusTemporaryRedirect, "status is 302 or 307"))
	case "status":
		err = errors.Join(err, need(a.Transport != "nfc", "it is a fault of folder"))
		a.Status = cmp.Or(a.Status, http.StatusServiceUnavailable)
		err = errors.Join(err, need(a.Status >= 400 && a.Status <= 599, "status is an error of HTTP"))
		err = errors.Join(err, need(a.RetryAfter == nil || *a.RetryAfter >= 0, "retry_after must not be negative"))
	case "shutdown":
		err = errors.Join(err, need(a.ShutdownSeconds != nil, "shutdown_seconds is missing"))
	case "slow_task":
		err = errors.Join(err, need(slices.Contains(slowMethods, a.Method), "method is one of "+strings.Join(slowMethods, ", ")))
		err = errors.Join(err, need(a.Seconds > 0, "seconds must be positive"))
	case "fail_task":
		err = errors.Join(err, need(slices.Contains(slowMethods, a.Method), "method is one of "+strings.Join(slowMethods, ", ")), a.checkFault())
	case "flip_byte":
		err = errors.Join(err, need(a.Offset >= 0, "offset must not be negative"))
	case "slow":
		err = errors.Join(err, need(a.BytesPerSecond > 0, "bytes_per_second must be positive"))
	case "fail_method":
		err = errors.Join(err, need(a.Method != "", "method is missing"), a.checkFault())
	default:
		return fmt.Errorf("unknown kind %q", a.Kind)
	}
	return err
}

// checkFault finds the type of the fault of the vSphere API that a call or a task is to fail with.
func (a *activeFault) checkFault() error {
	name := cmp.Or(a.Fault, "RuntimeFault")
	kind, ok := types.TypeFunc()(name)
	if ok {
		_, ok = reflect.New(kind).Interface().(types.BaseMethodFault)
	}
	if !ok {
		return fmt.Errorf("%s: fault %q is no fault of the vSphere API", a.Kind, name)
	}
	a.method = kind
	return nil
}

// remove takes one fault away, or all of them when id is 0; a stream that a fault stalls goes on.
func (f *faults) remove(id int) bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	before := len(f.list)
	f.list = slices.DeleteFunc(f.list, func(a *activeFault) bool {
		gone := id == 0 || a.ID == id
		if gone {
			close(a.removed)
		}
		return gone
	})
	return id == 0 || len(f.list) < before
}

func (f *faults) report() []activeFault {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	result := make([]activeFault, 0, len(f.list))
	for _, each := range f.list {
		result = append(result, *each)
	}
	return result
}

// hit uses the fault up by one. The caller holds the mutex.
func (a *activeFault) hit() {
	a.Hits++
	if a.Remaining > 0 {
		a.Remaining--
	}
}

// forMethod returns the fault that a SOAP call is to fail with, nil for none.
func (f *faults) forMethod(method *simulator.Method, vm string) types.BaseMethodFault {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, each := range f.list {
		if each.Kind != "fail_method" || each.Remaining == 0 || (each.VM != "" && each.VM != vm) ||
			(each.Method != "*" && each.Method != method.Name) {
			continue
		}
		each.hit()
		return makeFault(each.method, method.This)
	}
	return nil
}

// take uses up the first fault of a kind that matches, and returns it; nil for none.
func (f *faults) take(kind string, match func(*activeFault) bool) *activeFault {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, each := range f.list {
		if each.Kind == kind && each.Remaining != 0 && match(each) {
			each.hit()
			taken := *each
			return &taken
		}
	}
	return nil
}

// forTask returns the fault of a kind that a task is to meet.
func (f *faults) forTask(kind, method, vm string) *activeFault {
	return f.take(kind, func(a *activeFault) bool { return a.Method == method && (a.VM == "" || a.VM == vm) })
}

// forShutdown returns how long a guest is to take to shut down, nil when no fault says so.
func (f *faults) forShutdown(vm string) *shutdownSeconds {
	if fault := f.take("shutdown", func(a *activeFault) bool { return a.VM == "" || a.VM == vm }); fault != nil {
		return fault.ShutdownSeconds
	}
	return nil
}

// forRequest returns the fault of a kind that a request for a file is to meet.
func (f *faults) forRequest(kind string, about transfer) *activeFault {
	return f.take(kind, about.concerns)
}

// makeFault builds a fault of the given type. A required reference or enumeration must not be empty, or
// clients fail to parse the answer: references name the call's own target, and a Task a task.
func makeFault(kind reflect.Type, target types.ManagedObjectReference) types.BaseMethodFault {
	value := reflect.New(kind)
	fillRequired(value.Elem(), target)
	fault := value.Interface().(types.BaseMethodFault)
	switch typed := fault.(type) {
	case *types.NotAuthenticated:
		typed.PrivilegeId = "System.View"
	case *types.NoPermission:
		typed.PrivilegeId = "VApp.Export"
	}
	return fault
}

func fillRequired(value reflect.Value, target types.ManagedObjectReference) {
	for index := range value.NumField() {
		field, name := value.Field(index), value.Type().Field(index).Name
		reference := target
		if name == "Task" {
			reference = types.ManagedObjectReference{Type: "Task", Value: "task-1"}
		}
		switch {
		case field.Type() == reflect.TypeOf(reference):
			field.Set(reflect.ValueOf(reference))
		case field.Type() == reflect.TypeOf(&reference):
			field.Set(reflect.ValueOf(&reference))
		case field.Kind() == reflect.Struct && value.Type().Field(index).Anonymous:
			fillRequired(field, target)
		case field.Kind() == reflect.String:
			if values := field.MethodByName("Values"); values.IsValid() { // an enumeration
				field.Set(values.Call(nil)[0].Index(0))
			}
		}
	}
}

// strike carries out a fault that hits sessions or leases.
func (f *faults) strike(fault *activeFault) {
	switch fault.Kind {
	case "expire_sessions":
		f.sessions.expireAll(fault.KeepLeases)
	case "change_etag":
		f.inventory.touch(fault.VM, fault.Disk)
	case "lease_expire":
		f.leases.finish(outcomeTimedOut, func(l *lease) bool { return fault.VM == "" || fault.VM == l.guest.Name })
	}
}

// transfer is what a stream carries, for faults that are meant for some streams only. Disk counts from 0.
type transfer struct {
	vm        string
	disk      int
	target    string
	transport string
}

func (t transfer) concerns(fault *activeFault) bool {
	return (fault.VM == "" || fault.VM == t.vm) && (fault.Disk == nil || *fault.Disk == t.disk) &&
		(fault.Transport == "" || fault.Transport == t.transport)
}

var (
	errTruncated = errors.New("truncated by a fault")
	errDropped   = errors.New("dropped by a fault")
)

// faultyWriter sends a stream's bytes and lets the faults of the moment happen to them, so that a fault set
// in mid-stream takes effect at once.
type faultyWriter struct {
	io.Writer
	flush   func() error
	faults  *faults
	context context.Context
	about   transfer
	digest  hash.Hash // of what the source sent; nil when nobody asks
	base    int64     // offset in the file of the stream's first byte
	sent    int64
	due     time.Time // when a slowed stream may go on
	aborted bool
}

// mostCatchUp is how far a slowed stream may be behind its rate, as a sleep is often longer than was asked
// for, and still be allowed to make up for it.
const mostCatchUp = 100 * time.Millisecond

// Write sends content piece by piece, each up to the next fault.
func (w *faultyWriter) Write(content []byte) (int, error) {
	written := 0
	for written < len(content) {
		if err := w.context.Err(); err != nil {
			w.aborted = true
			return written, err
		}
		step := w.next(int64(len(content) - written))
		if step.strike != nil {
			if err := w.suffer(step.strike); err != nil {
				return written, err
			}
			continue
		}
		piece := content[written : written+int(step.size)]
		if w.digest != nil {
			w.digest.Write(w.damage(piece, step.flips, true))
		}
		damaged := w.damage(piece, step.flips, false)
		started := time.Now()
		count, err := w.Writer.Write(damaged)
		written += count
		w.sent += int64(count)
		w.faults.count(w.about.transport, int64(count))
		if err != nil {
			w.aborted = true
			return written, err
		}
		if step.rate > 0 {
			_ = w.flush()
			if started.Sub(w.due) > mostCatchUp {
				w.due = started
			}
			w.due = w.due.Add(time.Duration(float64(count) / float64(step.rate) * float64(time.Second)))
			w.sleep(time.Until(w.due))
		}
	}
	return written, nil
}

// damage returns the next piece with the bytes of the flips inverted: all of them, or those alone that
// happen at the source, before the digest of what was sent is taken.
func (w *faultyWriter) damage(piece []byte, flips []*activeFault, atSource bool) []byte {
	if len(flips) == 0 {
		return piece
	}
	piece = slices.Clone(piece)
	for _, flip := range flips {
		if flip.AtSource || !atSource {
			piece[flip.Offset-w.base-w.sent] ^= 0xff
		}
	}
	return piece
}

// step is what happens next to a stream: a fault strikes, or some bytes go out.
type step struct {
	strike *activeFault
	size   int64
	rate   int64
	flips  []*activeFault
}

// next decides the next step for up to size bytes.
func (w *faultyWriter) next(size int64) step {
	f := w.faults
	f.mutex.Lock()
	defer f.mutex.Unlock()
	result := step{size: size}
	for _, each := range f.list {
		if each.Remaining == 0 || !w.about.concerns(each) {
			continue
		}
		switch each.Kind {
		case "drop_connection", "truncate", "stall", "expire_sessions", "lease_expire", "change_etag":
			var after int64
			if each.AfterBytes != nil {
				after = *each.AfterBytes
			}
			if w.sent >= after {
				each.hit()
				result.strike = each
				return result
			}
			result.size = min(result.size, after-w.sent)
		case "slow":
			if result.rate == 0 || each.BytesPerSecond < result.rate {
				result.rate = each.BytesPerSecond
			}
		}
	}
	if result.rate > 0 {
		result.size = min(result.size, max(result.rate/20, 512))
	}
	start := w.base + w.sent
	for _, each := range f.list {
		if each.Kind == "flip_byte" && each.Remaining != 0 && w.about.concerns(each) &&
			each.Offset >= start && each.Offset < start+result.size {
			each.hit()
			result.flips = append(result.flips, each)
		}
	}
	return result
}

// suffer carries out a fault that interrupts the stream.
func (w *faultyWriter) suffer(fault *activeFault) error {
	log.Printf("fault %d: %s of %s %s after %d bytes", fault.ID, fault.Kind, w.about.vm, w.about.target, w.sent)
	switch fault.Kind {
	case "drop_connection":
		_ = w.flush()
		w.aborted = true
		return errDropped
	case "truncate":
		return errTruncated
	case "stall":
		_ = w.flush()
		w.stall(fault)
	default:
		w.faults.strike(fault)
	}
	return nil
}

// stall sends nothing until the fault is removed, its time is over, or the client has gone.
func (w *faultyWriter) stall(fault *activeFault) {
	var over <-chan time.Time
	if fault.Seconds > 0 {
		over = time.After(time.Duration(fault.Seconds * float64(time.Second)))
	}
	select {
	case <-w.context.Done():
	case <-fault.removed:
	case <-over:
	}
}

func (w *faultyWriter) sleep(duration time.Duration) {
	select {
	case <-w.context.Done():
	case <-time.After(duration):
	}
}
