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

	"github.com/vmware/govmomi/vim25/soap"
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
	index := int(disk.key - 2000)
	about := transfer{vm: guest.Name, disk: index, target: path.Base(disk.flatPath), transport: "folder"}
	if s.answersOtherwise(w, r, about) {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if !flat {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(disk.descriptor()))
		return
	}
	if s.inventory.powerState(freshContext(s.inventory.root), guest) != types.VirtualMachinePowerStatePoweredOff {
		// The running VM holds the file's lock; of the base, too, that its snapshots have left behind.
		http.Error(w, "the file is locked", http.StatusInternalServerError)
		return
	}
	content, err := os.Open(guest.base(index).path)
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
	modified := info.ModTime().Add(time.Duration(disk.changes.Load()) * time.Second)
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x-%x"`, inode, info.Size(), modified.UnixNano()))
	s.disturbRange(r, about, info.Size())
	response := &folderResponse{ResponseWriter: w, sink: faultyWriter{
		Writer: w, flush: http.NewResponseController(w).Flush, faults: s.faults, context: r.Context(), about: about,
	}}
	http.ServeContent(response, r, "", modified, content)
	if response.sink.aborted {
		panic(http.ErrAbortHandler)
	}
}

// answersOtherwise carries out the faults that a request for a file meets before its content does; it reports
// whether the request is answered with that.
func (s *server) answersOtherwise(w http.ResponseWriter, r *http.Request, about transfer) bool {
	if fault := s.faults.forRequest("status", about); fault != nil {
		if fault.RetryAfter != nil {
			w.Header().Set("Retry-After", strconv.Itoa(*fault.RetryAfter))
		}
		http.Error(w, http.StatusText(fault.Status), fault.Status)
		return true
	}
	if fault := s.faults.forRequest("redirect", about); fault != nil {
		target := url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery}
		query := target.Query()
		query.Set("redirected", strconv.Itoa(fault.Hits))
		target.RawQuery = query.Encode()
		http.Redirect(w, r, target.String(), fault.Status)
		return true
	}
	if _, err := r.Cookie(soap.SessionCookieName); err == nil {
		if fault := s.faults.forRequest("renew_cookie", about); fault != nil {
			http.SetCookie(w, s.sessions.renew(r, fault.Everywhere))
		}
	}
	return false
}

// disturbRange lets a request for a range have the whole file, or another range, if a fault says so.
func (s *server) disturbRange(r *http.Request, about transfer, size int64) {
	asked := r.Header.Get("Range")
	if asked == "" {
		return
	}
	if s.faults.forRequest("ignore_range", about) != nil {
		r.Header.Del("Range")
		return
	}
	var first, last int64
	if count, _ := fmt.Sscanf(asked, "bytes=%d-%d", &first, &last); count == 0 {
		return
	} else if count == 1 {
		last = size - 1
	}
	if last = min(last, size-1); first < last && s.faults.forRequest("wrong_range", about) != nil {
		shift := min(int64(sectorBytes), last-first)
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first+shift, last))
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
