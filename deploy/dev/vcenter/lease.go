package main

import (
	"context"
	"log"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// outcome says how a lease ended; it is empty while the lease lives.
type outcome string

const (
	outcomeCompleted    outcome = "completed"
	outcomeAborted      outcome = "aborted"
	outcomeTimedOut     outcome = "timed_out"
	outcomeSessionEnded outcome = "session_ended"
)

// initializing is how long a lease takes to become ready; a vCenter never returns a ready one either.
const initializing = 100 * time.Millisecond

// leaseFile is one download of a lease.
type leaseFile struct {
	device    types.HttpNfcLeaseDeviceUrl
	path      string
	raw       bool // the stream is made from the disk's content
	index     int  // of the disk, from 0; -1 for a file that is no disk
	disk      *disk
	sent      *types.HttpNfcLeaseManifestEntry
	streaming int
	bytes     int64
}

// lease is an HttpNfcLease for an export. It lives in its session's registry: no other session sees it.
type lease struct {
	mo.HttpNfcLease
	guest      *guest
	ticket     string
	session    string
	snapshot   *types.ManagedObjectReference // nil for the VM as it is
	timeout    time.Duration
	files      map[string]*leaseFile
	order      []string
	created    time.Time
	registry   *simulator.Context
	context    context.Context // ends with the lease, and breaks its streams
	end        context.CancelFunc
	mutex      sync.Mutex // guards what follows and the files' counters
	outcome    outcome
	isReady    bool
	lastUpdate time.Time
	percent    int32
}

// open makes the lease ready and watches its timeout until it ends.
func (l *lease) open(info *types.HttpNfcLeaseInfo) {
	select {
	case <-l.context.Done():
		return
	case <-time.After(initializing):
	}
	l.mutex.Lock()
	l.isReady, l.lastUpdate = true, time.Now()
	l.mutex.Unlock()
	l.update(
		types.PropertyChange{Name: "info", Val: info},
		types.PropertyChange{Name: "initializeProgress", Val: int32(100)},
		types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateReady},
	)
	for {
		l.mutex.Lock()
		left := time.Until(l.lastUpdate.Add(l.timeout))
		l.mutex.Unlock()
		if left <= 0 {
			l.finish(outcomeTimedOut)
			return
		}
		select {
		case <-l.context.Done():
			return
		case <-time.After(left):
		}
	}
}

// update changes properties under the lease's own lock and tells the property collectors that watch it.
func (l *lease) update(changes ...types.PropertyChange) {
	ctx := freshContext(l.registry)
	ctx.WithLock(l, func() { ctx.Update(l, changes) })
}

// finish ends the lease once; later outcomes lose. It reports whether this call was the one.
func (l *lease) finish(how outcome) bool {
	l.mutex.Lock()
	ended := l.outcome != ""
	if !ended {
		l.outcome = how
	}
	l.mutex.Unlock()
	if ended {
		return false
	}
	l.end()
	log.Printf("lease on %s: %s", l.guest.Name, how)
	if how == outcomeTimedOut {
		// In the background, because a caller that serves the lease's own method holds its lock.
		go l.update(
			types.PropertyChange{Name: "error", Val: &types.LocalizedMethodFault{
				Fault: &types.Timedout{}, LocalizedMessage: "Operation timed out.",
			}},
			types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateError},
		)
	}
	return true
}

// usable returns the fault that a method of a lease answers with when the lease is not ready.
func (l *lease) usable() *soap.Fault {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	switch {
	case l.outcome == outcomeTimedOut:
		return simulator.Fault("The lease has timed out.", &types.Timedout{})
	case l.outcome != "" || !l.isReady:
		return simulator.Fault("The lease is not ready.", &types.InvalidState{})
	}
	return nil
}

// HttpNfcLeaseProgress keeps the lease alive.
func (l *lease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	body := new(methods.HttpNfcLeaseProgressBody)
	if req.Percent < 0 || req.Percent > 100 {
		body.Fault_ = simulator.Fault("percent is out of range", &types.InvalidArgument{InvalidProperty: "percent"})
		return body
	}
	if body.Fault_ = l.usable(); body.Fault_ != nil {
		return body
	}
	l.mutex.Lock()
	l.lastUpdate, l.percent = time.Now(), req.Percent
	l.mutex.Unlock()
	ctx.Update(l, []types.PropertyChange{{Name: "transferProgress", Val: req.Percent}})
	body.Res = new(types.HttpNfcLeaseProgressResponse)
	return body
}

// HttpNfcLeaseComplete ends the lease; the object is gone afterwards.
func (l *lease) HttpNfcLeaseComplete(ctx *simulator.Context, req *types.HttpNfcLeaseComplete) soap.HasFault {
	body := new(methods.HttpNfcLeaseCompleteBody)
	if body.Fault_ = l.close(ctx, outcomeCompleted); body.Fault_ == nil {
		body.Res = new(types.HttpNfcLeaseCompleteResponse)
	}
	return body
}

// HttpNfcLeaseAbort ends the lease and breaks its streams; the object is gone afterwards.
func (l *lease) HttpNfcLeaseAbort(ctx *simulator.Context, req *types.HttpNfcLeaseAbort) soap.HasFault {
	body := new(methods.HttpNfcLeaseAbortBody)
	if body.Fault_ = l.close(ctx, outcomeAborted); body.Fault_ == nil {
		body.Res = new(types.HttpNfcLeaseAbortResponse)
	}
	return body
}

func (l *lease) close(ctx *simulator.Context, how outcome) *soap.Fault {
	fault := l.usable()
	l.mutex.Lock()
	young := how == outcomeAborted && !l.isReady && l.outcome == "" // an initializing lease can be aborted
	l.mutex.Unlock()
	if fault != nil && !young {
		return fault
	}
	if !l.finish(how) {
		return l.usable()
	}
	ctx.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}})
	ctx.Session.Remove(ctx, l.Self)
	return nil
}

// HttpNfcLeaseGetManifest lists the files that were sent whole, with the digest of what was sent.
func (l *lease) HttpNfcLeaseGetManifest(*simulator.Context, *types.HttpNfcLeaseGetManifest) soap.HasFault {
	body := new(methods.HttpNfcLeaseGetManifestBody)
	if body.Fault_ = l.usable(); body.Fault_ != nil {
		return body
	}
	body.Res = new(types.HttpNfcLeaseGetManifestResponse)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, target := range l.order {
		if entry := l.files[target].sent; entry != nil {
			body.Res.Returnval = append(body.Res.Returnval, *entry)
		}
	}
	return body
}

// leases is every lease of this run, so that a test can see that none leaks.
type leases struct {
	timeout time.Duration
	mutex   sync.Mutex
	list    []*lease
}

func newLeases(timeout time.Duration) *leases { return &leases{timeout: timeout} }

// claim adds a lease unless its VM has a live one.
func (t *leases) claim(new *lease) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, each := range t.list {
		if each.guest == new.guest && each.live() {
			return false
		}
	}
	t.list = append(t.list, new)
	return true
}

// holds reports whether a live lease covers the VM itself, not a snapshot of it.
func (t *leases) holds(vm string) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, each := range t.list {
		if each.guest.Name == vm && each.snapshot == nil && each.live() {
			return true
		}
	}
	return false
}

// exportsSnapshot reports whether a live lease covers a snapshot of a VM.
func (t *leases) exportsSnapshot(vm string) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, each := range t.list {
		if each.guest.Name == vm && each.snapshot != nil && each.live() {
			return true
		}
	}
	return false
}

// byTicket finds a ready lease by the secret in its URLs.
func (t *leases) byTicket(ticket string) *lease {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, each := range t.list {
		if each.ticket == ticket && each.usable() == nil {
			return each
		}
	}
	return nil
}

// finish ends the live leases that match.
func (t *leases) finish(how outcome, match func(*lease) bool) {
	t.mutex.Lock()
	list := append([]*lease(nil), t.list...)
	t.mutex.Unlock()
	for _, each := range list {
		if match(each) {
			each.finish(how)
		}
	}
}

func (t *leases) endAll(how outcome) { t.finish(how, func(*lease) bool { return true }) }

func (t *leases) endSession(key string, how outcome) {
	t.finish(how, func(l *lease) bool { return l.session == key })
}

func (l *lease) live() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.outcome == ""
}

// leaseReport is a lease as GET /leases shows it.
type leaseReport struct {
	VM          string       `json:"vm"`
	Lease       string       `json:"lease"`
	Active      bool         `json:"active"`
	State       string       `json:"state"`
	Outcome     outcome      `json:"outcome"`
	Snapshot    bool         `json:"snapshot"`
	Percent     int32        `json:"percent"`
	AgeSeconds  float64      `json:"age_seconds"`
	IdleSeconds float64      `json:"idle_seconds"`
	Files       []fileReport `json:"files"`
}

type fileReport struct {
	Target      string `json:"target"`
	OpenStreams int    `json:"open_streams"`
	SentBytes   int64  `json:"sent_bytes"`
	SentWhole   bool   `json:"sent_whole"`
}

func (t *leases) report() []leaseReport {
	t.mutex.Lock()
	list := append([]*lease(nil), t.list...)
	t.mutex.Unlock()
	reports := make([]leaseReport, 0, len(list))
	for _, each := range list {
		reports = append(reports, each.report())
	}
	return reports
}

func (l *lease) report() leaseReport {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	state := types.HttpNfcLeaseStateInitializing
	switch {
	case l.outcome == outcomeTimedOut:
		state = types.HttpNfcLeaseStateError
	case l.outcome != "":
		state = types.HttpNfcLeaseStateDone
	case l.isReady:
		state = types.HttpNfcLeaseStateReady
	}
	report := leaseReport{
		VM: l.guest.Name, Lease: l.Self.Value, Active: l.outcome == "", State: string(state), Outcome: l.outcome,
		Snapshot: l.snapshot != nil, Percent: l.percent, AgeSeconds: time.Since(l.created).Seconds(),
	}
	if l.isReady {
		report.IdleSeconds = time.Since(l.lastUpdate).Seconds()
	}
	for _, target := range l.order {
		file := l.files[target]
		report.Files = append(report.Files, fileReport{
			Target: target, OpenStreams: file.streaming, SentBytes: file.bytes, SentWhole: file.sent != nil,
		})
	}
	return report
}
