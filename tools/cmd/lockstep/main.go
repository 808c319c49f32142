// Lockstep is the command line: it runs everything in one process (dev), publishes, follows, keeps and proves replicas.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/lockstep-mq/lockstep/tools/internal/command"
)

// version is set by the build (make build); "dev" when built by hand.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Execute(ctx, version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
