// Command vcenter is the simulated vCenter that development and the tests run against.
//
// It is govmomi's simulator as a library, with what an export needs and the library lacks: ExportVm and
// ExportSnapshot with leases that time out, a download manifest, authenticated datastore access with
// Range, and faults on demand. README.md documents the guest directory, the flags and the faults.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are the command line, with the password already read from its file.
type options struct {
	listen         string
	control        string
	guests         string
	username       string
	password       string
	state          string
	datacenter     string
	leaseTimeout   time.Duration
	sessionTimeout time.Duration
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	log.SetPrefix("vcenter: ")
	opts, err := parseOptions(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "vcenter: %s\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, opts); err != nil {
		fmt.Fprintf(os.Stderr, "vcenter: %s\n", err)
		os.Exit(1)
	}
}

// parseOptions reads the flags. The password comes from a file, never from the arguments, which any user
// of the machine can read.
func parseOptions(arguments []string) (options, error) {
	var opts options
	var passwordFile string
	flags := flag.NewFlagSet("vcenter", flag.ExitOnError)
	flags.StringVar(&opts.listen, "listen", "127.0.0.1:0", "`address` of the SDK, NFC and datastore server (TLS)")
	flags.StringVar(&opts.control, "control", "127.0.0.1:0", "loopback `address` of the fault control endpoint (plain HTTP)")
	flags.StringVar(&opts.guests, "guests", "", "`directory` of guests, one NAME/guest.json each")
	flags.StringVar(&opts.username, "username", "administrator@vsphere.local", "`name` that may log in")
	flags.StringVar(&passwordFile, "password-file", "", "`file` that holds the password on its first line")
	flags.StringVar(&opts.state, "state", "", "`directory` for the certificate, the datastore and vcenter.json")
	flags.StringVar(&opts.datacenter, "datacenter", "DC1", "`name` of the datacenter")
	flags.DurationVar(&opts.leaseTimeout, "lease-timeout", 300*time.Second, "an export lease dies when it sees no progress call for this long")
	flags.DurationVar(&opts.sessionTimeout, "session-timeout", 30*time.Minute, "an idle session expires after this long")
	_ = flags.Parse(arguments) // ExitOnError

	var missing []string
	for name, value := range map[string]string{
		"--guests": opts.guests, "--password-file": passwordFile, "--state": opts.state,
		"--username": opts.username, "--datacenter": opts.datacenter,
	} {
		if value == "" {
			missing = append(missing, name)
		}
	}
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case len(missing) > 0:
		return opts, fmt.Errorf("missing: %s", strings.Join(missing, ", "))
	case opts.leaseTimeout < time.Second || opts.sessionTimeout < time.Second:
		return opts, fmt.Errorf("--lease-timeout and --session-timeout must be at least 1s")
	}
	var err error
	if opts.state, err = filepath.Abs(opts.state); err != nil {
		return opts, err
	}
	content, err := os.ReadFile(passwordFile)
	if err != nil {
		return opts, fmt.Errorf("cannot read the password: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	opts.password = strings.TrimSuffix(first, "\r")
	if opts.password == "" {
		return opts, fmt.Errorf("%s: the first line, the password, is empty", passwordFile)
	}
	return opts, nil
}

// run serves until ctx ends, then stops gracefully.
func run(ctx context.Context, opts options) error {
	unlock, err := lockState(opts.state)
	if err != nil {
		return err
	}
	defer unlock()
	server, err := newServer(ctx, opts)
	if err != nil {
		return err
	}
	if err := server.start(); err != nil {
		return err
	}
	defer server.stop()
	if err := server.writeReady(); err != nil {
		return err
	}
	log.Printf("ready: %s, control %s, %d guests", server.sdkURL(), server.controlURL(), server.inventory.count())
	select {
	case <-ctx.Done():
		log.Printf("stopping")
		return nil
	case err := <-server.failed:
		return err
	}
}
