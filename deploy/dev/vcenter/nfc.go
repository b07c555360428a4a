package main

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

const chunkBytes = 256 << 10

// serveNFC streams one file of a lease. The ticket in the path is the only credential, there is no Range
// and no length, and the stream breaks with its lease: so it is on an ESXi host.
func (s *server) serveNFC(w http.ResponseWriter, r *http.Request) {
	lease := s.leases.byTicket(r.PathValue("ticket"))
	if lease == nil {
		http.Error(w, "no such lease", http.StatusNotFound)
		return
	}
	file := lease.files[r.PathValue("target")]
	if file == nil {
		http.Error(w, "no such device", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet {
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	source, err := os.Open(file.path)
	if err != nil {
		log.Printf("%s", err)
		http.Error(w, "cannot open the disk", http.StatusInternalServerError)
		return
	}
	defer func() { _ = source.Close() }()

	// The request ends with the lease; a write that waits for a client that has stopped reading ends too.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	response := http.NewResponseController(w)
	defer context.AfterFunc(lease.context, func() {
		cancel()
		_ = response.SetWriteDeadline(time.Now())
	})()

	lease.count(file, 1, 0)
	defer lease.count(file, -1, 0)
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	_ = response.Flush() // no Content-Length: the body is chunked

	digest := sha1.New()
	sink := &faultyWriter{
		Writer: w, flush: response.Flush, faults: s.faults, context: ctx, digest: digest,
		about: transfer{vm: lease.guest.Name, disk: file.index, target: file.device.TargetId, transport: "nfc"},
	}
	counted := &countingWriter{to: sink, lease: lease, file: file}
	if file.raw {
		err = writeStream(counted, source, file.disk.capacityBytes, file.device.TargetId)
	} else {
		_, err = io.CopyBuffer(counted, struct{ io.Reader }{source}, make([]byte, chunkBytes))
	}
	if (err != nil && !errors.Is(err, errTruncated)) || lease.context.Err() != nil {
		log.Printf("nfc %s %s: cut off after %d bytes: %v", lease.guest.Name, file.device.TargetId, sink.sent, err)
		panic(http.ErrAbortHandler) // closes the connection without the final chunk
	}
	lease.record(file, sink.sent, digest.Sum(nil))
	log.Printf("nfc %s %s: %d bytes", lease.guest.Name, file.device.TargetId, sink.sent)
}

// countingWriter keeps a lease's figures while a stream goes out.
type countingWriter struct {
	to    io.Writer
	lease *lease
	file  *leaseFile
}

func (c *countingWriter) Write(piece []byte) (int, error) {
	written, err := c.to.Write(piece)
	c.lease.count(c.file, 0, int64(written))
	return written, err
}

// count keeps the figures of GET /leases.
func (l *lease) count(file *leaseFile, streams int, bytes int64) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	file.streaming += streams
	file.bytes += bytes
}

// record enters a stream that was sent to its end into the manifest.
func (l *lease) record(file *leaseFile, size int64, digest []byte) {
	entry := &types.HttpNfcLeaseManifestEntry{
		Key: file.device.Key, Sha1: hex.EncodeToString(digest), Size: size, Disk: file.disk != nil,
	}
	if file.disk != nil {
		entry.Capacity = file.disk.capacityBytes
		entry.PopulatedSize = file.disk.allocatedBytes
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	file.sent = entry
}
