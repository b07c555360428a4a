package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/vpx"
)

// apiVersion has four parts because a client that is told "8.0" falls back to 6.0 (pyvmomi does).
const apiVersion = "8.0.3.0"

// server is one simulated vCenter with its control endpoint.
type server struct {
	options
	identity  *identity
	service   *simulator.Service
	inventory *inventory
	sessions  *sessions
	leases    *leases
	faults    *faults
	calls     *calls

	listener        net.Listener
	controlListener net.Listener
	web             *http.Server
	control         *http.Server
	failed          chan error
}

// newServer builds the inventory from the guests directory; nothing listens yet.
func newServer(ctx context.Context, opts options) (*server, error) {
	identity, err := loadIdentity(opts.state)
	if err != nil {
		return nil, err
	}
	guests, err := loadGuests(opts.guests)
	if err != nil {
		return nil, err
	}
	content := vpx.ServiceContent
	content.About.FullName = "VMware vCenter Server 8.0.3 build-24022515"
	content.About.Version = "8.0.3"
	content.About.Build = "24022515"
	content.About.ApiVersion = apiVersion
	content.About.LicenseProductVersion = "8.0"
	content.About.InstanceUuid = identity.instanceUUID
	service := simulator.New(simulator.NewServiceInstance(simulator.NewContext(), content, vpx.RootFolder))

	result := &server{options: opts, identity: identity, service: service, failed: make(chan error, 2)}
	result.inventory, err = newInventory(ctx, service, opts.datacenter, opts.state)
	if err != nil {
		return nil, fmt.Errorf("cannot build the inventory: %w", err)
	}
	for _, guest := range guests {
		if err := result.inventory.add(ctx, guest); err != nil {
			return nil, err
		}
	}
	result.leases = newLeases(opts.leaseTimeout)
	result.sessions = newSessions(service, opts.sessionTimeout, result.leases)
	result.faults = newFaults(result.sessions, result.leases, result.inventory)
	result.calls = newCalls()
	return result, nil
}

// start listens on both addresses and serves in the background; a server that dies reports to failed.
func (s *server) start() error {
	var err error
	if s.listener, err = net.Listen("tcp", s.listen); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(s.options.control)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return errors.Join(fmt.Errorf("--control %q is not a loopback address: it has no password", s.options.control), s.listener.Close())
	}
	if s.controlListener, err = net.Listen("tcp", s.options.control); err != nil {
		return errors.Join(err, s.listener.Close())
	}

	s.service.Listen = &url.URL{
		Scheme: "https", Host: s.listener.Addr().String(), Path: s.inventory.registry.Path,
		User: url.UserPassword(s.username, s.password),
	}
	s.requireLogin()
	exporter := newExporter(s)
	s.inventory.registry.Put(exporter)
	answerer := newAnswerer()
	s.inventory.registry.Put(answerer)
	s.inventory.registry.Handler = (&gate{server: s, exporter: exporter.Self, answerer: answerer}).admit

	s.web = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.identity.certificate}, MinVersion: tls.VersionTLS12},
		// A vCenter's SDK and an ESXi host's NFC service speak HTTP/1.1.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     log.Default(),
	}
	s.control = &http.Server{Handler: s.controlRoutes(), ReadHeaderTimeout: 30 * time.Second}
	s.serve(func() error { return s.web.ServeTLS(s.listener, "", "") })
	s.serve(func() error { return s.control.Serve(s.controlListener) })
	return nil
}

func (s *server) serve(serve func() error) {
	go func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
}

// routes are the paths under the vCenter's own address.
func (s *server) routes() http.Handler {
	registry := s.inventory.registry
	s.service.RegisterSDK(registry, registry.Path+"/vimService")
	mux := http.NewServeMux()
	mux.Handle(registry.Path, s.sessions.admit(s.service.ServeMux))
	mux.Handle(registry.Path+"/vimService", s.sessions.admit(s.service.ServeMux))
	mux.HandleFunc("GET "+registry.Path+"/vimServiceVersions.xml", s.service.ServiceVersions)
	mux.HandleFunc("GET /nfc/{ticket}/{target}", s.serveNFC)
	mux.HandleFunc("GET /folder/{path...}", s.serveFolder)
	return mux
}

// stop ends every lease, so that streams break at once, and then both servers.
func (s *server) stop() {
	s.leases.endAll(outcomeSessionEnded)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, each := range []*http.Server{s.web, s.control} {
		if err := each.Shutdown(ctx); err != nil {
			log.Printf("cutting off open connections: %s", errors.Join(err, each.Close()))
		}
	}
	if err := os.RemoveAll(s.inventory.copies); err != nil {
		log.Printf("%s", err)
	}
}

func (s *server) sdkURL() string {
	return "https://" + s.listener.Addr().String() + s.inventory.registry.Path
}

func (s *server) controlURL() string { return "http://" + s.controlListener.Addr().String() }
