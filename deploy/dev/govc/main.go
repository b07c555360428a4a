// Command govc is govmomi's own client, with the one command that the bench measures against: export.ovf.
package main

import (
	"os"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/export"
)

func main() {
	os.Exit(cli.Run(os.Args[1:]))
}
