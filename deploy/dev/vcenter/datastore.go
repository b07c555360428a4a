package main

import (
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// serveFolder serves a datastore's files with Range and HEAD (the vSphere Web Services programming guide,
// "Managing Storage Data by Using HTTP Access"): GET /folder/PATH?dcPath=&dsName=, with a session's cookie
// or with name and password. Nothing can be written.
func (s *server) serveFolder(w http.ResponseWriter, r *http.Request) {
	if username, password, ok := r.BasicAuth(); !s.sessions.alive(r) && (!ok || !s.knows(username, password)) {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "not authenticated", http.StatusUnauthorized)
		return
	}
	query := r.URL.Query()
	if !named(query.Get("dsName"), datastoreName) || (query.Has("dcPath") && !named(query.Get("dcPath"), s.datacenter)) {
		http.Error(w, "no such datacenter or datastore", http.StatusNotFound)
		return
	}
	guest, disk, flat := s.inventory.byDatastorePath(path.Clean(r.PathValue("path")))
	if guest == nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if !flat {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(disk.descriptor()))
		return
	}
	if s.inventory.powerState(freshContext(s.inventory.root), guest) != types.VirtualMachinePowerStatePoweredOff {
		// The running VM holds the file's lock.
		http.Error(w, "the file is locked", http.StatusInternalServerError)
		return
	}
	content, err := os.Open(disk.flat)
	if err != nil {
		log.Printf("%s", err)
		http.Error(w, "cannot open the file", http.StatusInternalServerError)
		return
	}
	defer func() { _ = content.Close() }()
	info, err := content.Stat()
	if err != nil {
		log.Printf("%s", err)
		http.Error(w, "cannot open the file", http.StatusInternalServerError)
		return
	}
	inode := info.Sys().(*syscall.Stat_t).Ino
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x-%x"`, inode, info.Size(), info.ModTime().UnixNano()))
	about := transfer{vm: guest.Name, disk: int(disk.key - 2000), target: path.Base(disk.flatPath), transport: "folder"}
	response := &folderResponse{ResponseWriter: w, sink: faultyWriter{
		Writer: w, flush: http.NewResponseController(w).Flush, faults: s.faults, context: r.Context(), about: about,
	}}
	http.ServeContent(response, r, "", info.ModTime(), content)
	if response.sink.aborted {
		panic(http.ErrAbortHandler)
	}
}

// named compares a query's name; virt-v2v percent-encodes the two names twice, which real servers accept.
func named(value, expected string) bool {
	value = strings.TrimPrefix(value, "/")
	again, err := url.QueryUnescape(value)
	return value == expected || (err == nil && again == expected)
}

// folderResponse passes a file's bytes through the faults, at their offsets in the file.
type folderResponse struct {
	http.ResponseWriter
	sink faultyWriter
}

func (f *folderResponse) WriteHeader(status int) {
	if first, ok := strings.CutPrefix(f.Header().Get("Content-Range"), "bytes "); ok {
		first, _, _ = strings.Cut(first, "-")
		f.sink.base, _ = strconv.ParseInt(first, 10, 64) // written by http.ServeContent
	}
	f.ResponseWriter.WriteHeader(status)
}

func (f *folderResponse) Write(content []byte) (int, error) { return f.sink.Write(content) }
