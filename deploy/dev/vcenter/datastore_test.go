package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// flatFile is where a VM's first disk can be fetched, and the header that a client of this session sends.
func (l *lab) flatFile(vm string) (string, http.Header) {
	header := http.Header{}
	for _, cookie := range l.client.Jar.Cookies(l.client.URL()) {
		header.Add("Cookie", cookie.Name+"="+cookie.Value)
	}
	return "https://" + l.listener.Addr().String() + "/folder/" + vm + "/" + vm + "-flat.vmdk?dcPath=DC1&dsName=datastore1", header
}

func TestFileOfARunningVMIsLocked(t *testing.T) {
	lab := newLab(t, time.Minute)
	target, login := lab.flatFile("running") // which has a snapshot: the base is not what it writes to
	if status, _, _, _ := lab.get(http.MethodGet, target, login); status != http.StatusInternalServerError {
		t.Error(status)
	}
	lab.write("running", 0, 1000, 3)
	lab.ask(http.MethodPost, "/vms/running/power", `{"state": "poweredOff"}`, nil)
	status, _, body, err := lab.get(http.MethodGet, target, login)
	if status != http.StatusOK || err != nil || !bytes.Equal(body, lab.flat) {
		t.Errorf("the base is as it was at the snapshot: %d, %v", status, err)
	}
}

func TestRangeFaults(t *testing.T) {
	lab := newLab(t, time.Minute)
	target, login := lab.flatFile("web-server-01")
	login.Set("Range", "bytes=4096-8191")
	lab.fault(`{"kind": "ignore_range"}`)
	if status, _, body, _ := lab.get(http.MethodGet, target, login); status != http.StatusOK || !bytes.Equal(body, lab.flat) {
		t.Errorf("ignore_range: %d, %d bytes", status, len(body))
	}
	lab.fault(`{"kind": "wrong_range", "disk": 0}`)
	status, header, body, _ := lab.get(http.MethodGet, target, login)
	if status != http.StatusPartialContent || header.Get("Content-Range") != "bytes 4608-8191/1048576" || !bytes.Equal(body, lab.flat[4608:8192]) {
		t.Errorf("wrong_range: %d, %v", status, header)
	}
	if status, _, body, _ := lab.get(http.MethodGet, target, login); status != http.StatusPartialContent || !bytes.Equal(body, lab.flat[4096:8192]) {
		t.Errorf("a fault struck twice: %d", status)
	}
	_, header, _, _ = lab.get(http.MethodHead, target, login)
	lab.fault(`{"kind": "change_etag", "vm": "web-server-01"}`)
	_, changed, _, _ := lab.get(http.MethodHead, target, login)
	if header.Get("ETag") == changed.Get("ETag") || header.Get("Last-Modified") == changed.Get("Last-Modified") {
		t.Errorf("change_etag: %v, %v", header, changed)
	}
	login.Set("If-Match", header.Get("ETag"))
	if status, _, _, _ := lab.get(http.MethodGet, target, login); status != http.StatusPreconditionFailed {
		t.Errorf("If-Match: %d", status)
	}
}

func TestStatusAndRedirect(t *testing.T) {
	lab := newLab(t, time.Minute)
	target, login := lab.flatFile("web-server-01")
	lab.fault(`{"kind": "status", "status": 429, "retry_after": 2, "times": 2}`)
	for range 2 {
		if status, header, _, _ := lab.get(http.MethodGet, target, login); status != 429 || header.Get("Retry-After") != "2" {
			t.Errorf("%d %v", status, header)
		}
	}
	lab.fault(`{"kind": "redirect", "status": 307, "times": 3}`)
	status, _, body, err := lab.get(http.MethodGet, target, login) // the client follows
	if status != http.StatusOK || err != nil || !bytes.Equal(body, lab.flat) {
		t.Errorf("%d, %d bytes, %v", status, len(body), err)
	}
	var report []activeFault
	lab.ask(http.MethodGet, "/faults", "", &report)
	if report[1].Hits != 3 {
		t.Errorf("%+v", report)
	}
}

func TestRenewedCookie(t *testing.T) {
	lab := newLab(t, time.Minute)
	target, login := lab.flatFile("web-server-01")
	for _, everywhere := range []string{"false", "true"} {
		lab.fault(`{"kind": "renew_cookie", "everywhere": %s}`, everywhere)
		status, header, _, _ := lab.get(http.MethodGet, target, login)
		set := header.Get("Set-Cookie")
		if status != http.StatusOK || !strings.HasPrefix(set, "vmware_soap_session=") {
			t.Fatalf("%d %v", status, header)
		}
		if status, _, _, _ := lab.get(http.MethodGet, target, login); status != http.StatusUnauthorized {
			t.Errorf("the old cookie: %d", status)
		}
		cookie, _, _ := strings.Cut(set, ";")
		login.Set("Cookie", cookie)
		if status, _, _, _ := lab.get(http.MethodGet, target, login); status != http.StatusOK {
			t.Errorf("the new cookie: %d", status)
		}
		if _, err := methods.GetCurrentTime(t.Context(), lab.client); err != nil {
			t.Errorf("the SDK still takes the first cookie: %v", err)
		}
	}
	lab.client = lab.login()
	target, login = lab.flatFile("web-server-01")
	lab.fault(`{"kind": "renew_cookie", "everywhere": true}`)
	lab.get(http.MethodGet, target, login)
	_, err := methods.GetCurrentTime(t.Context(), lab.client)
	faultIs[types.NotAuthenticated](t, err)
}
