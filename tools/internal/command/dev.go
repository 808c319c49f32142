package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
	"github.com/lockstep-mq/lockstep/tools/internal/demofeed"
	"github.com/lockstep-mq/lockstep/tools/internal/devhouse"
)

func newDev(c *console) *cobra.Command {
	cfg := devhouse.Config{Ports: devhouse.DefaultPorts}
	ports := []struct {
		flag, what string
		port       *int
	}{
		{"ingest-port", "ingest (gRPC)", &cfg.Ports.Ingest},
		{"ingest-http-port", "ingest (HTTP)", &cfg.Ports.IngestHTTP},
		{"gateway-port", "the delivery gateway (RSocket over TCP)", &cfg.Ports.Gateway},
		{"gateway-websocket-port", "the delivery gateway (RSocket over WebSocket)", &cfg.Ports.GatewayWeb},
		{"consumer-state-port", "consumer-state (gRPC)", &cfg.Ports.Consumers},
		{"sequencer-port", "sequencer-storage (gRPC)", &cfg.Ports.Sequencer},
		{"admin-port", "/healthz, /readyz and /metrics", &cfg.Ports.Admin},
	}
	var demo, freePorts bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in this process, with data in one directory",
		Long: `Run all four services in this process, with an embedded NATS server, on loopback addresses, with all data in one directory.

The command prints its addresses and what to try next (with --json: the addresses, once everything answers), and runs until it is
interrupted. It is for one person's machine: nobody is asked who they are unless --tokens-file lists who may do what (docs/security.md).`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if freePorts {
				for _, one := range ports {
					if !cmd.Flags().Changed(one.flag) {
						*one.port = 0
					}
				}
			}
			cfg.Ready = func(ctx context.Context, at devhouse.Addresses) error {
				if demo {
					return c.feed(ctx, at)
				}
				if err := c.welcome(at, demo); err != nil {
					return err
				}
				<-ctx.Done()
				return nil
			}
			level := slog.LevelWarn
			if c.verbose {
				level = slog.LevelDebug
			}
			house, err := devhouse.New(cmd.Context(), cfg, slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level})))
			if err != nil {
				return err
			}
			if err := house.Run(cmd.Context()); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			c.say("stopped; the data stays in %s", house.Addresses().Data)
			return nil
		},
	}
	f := cmd.Flags()
	settings.File(f)
	f.StringVar(&cfg.Data, settings.Data, "./data", "data directory; made when missing")
	f.StringVar(&cfg.TokensFile, settings.TokensFile, "", "bearer tokens and what they grant; empty: open to all on this machine")
	f.BoolVar(&demo, "demo", false, "also publish a small live stream named demo")
	f.BoolVar(&freePorts, "free-ports", false, "listen on any free ports, except where one is given")
	for _, one := range ports {
		f.IntVar(one.port, one.flag, *one.port, "loopback port of "+one.what)
	}
	return cmd
}

// feed publishes the demo stream until ctx ends. The addresses are printed once there is something to follow.
func (c *console) feed(ctx context.Context, at devhouse.Addresses) error {
	if err := demofeed.Run(ctx, at.Ingest, c.token, func() error { return c.welcome(at, true) }); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the demo feed: %w", err)
	}
	return nil
}

// welcome prints the addresses and the next commands.
func (c *console) welcome(at devhouse.Addresses, demo bool) error {
	if c.json {
		return c.line(at)
	}
	flags, name := flagsFor(at), "lockstep"
	if strings.ContainsRune(os.Args[0], os.PathSeparator) {
		name = os.Args[0] // it may not be on the PATH: what is printed can be pasted
	}
	var b strings.Builder
	fmt.Fprintf(&b, `Lockstep is running, data in %s

  publish   gRPC %s   HTTP %s
  follow    RSocket %s   %s
  watch     consumers %s   health and metrics %s

Try, in another terminal:

`, at.Data, at.Ingest, at.HTTP, at.Gateway, at.WebSocket, at.Consumers, at.Admin)
	if demo {
		fmt.Fprintf(&b, "  %[1]s replica%[2]s demo ./demo.db\n  sqlite3 ./demo.db \"SELECT key, value->>'price' FROM demo LIMIT 5\"\n  %[1]s tail%[2]s demo\n", name, flags)
	} else {
		fmt.Fprintf(&b, "  %[1]s stream create%[2]s orders\n  %[1]s put%[2]s orders o-1 '{\"total\": 12.5}'\n  %[1]s replica%[2]s orders ./orders.db\n", name, flags)
	}
	b.WriteString("\nInterrupt (Ctrl-C) to stop.\n")
	_, err := io.WriteString(c.out, b.String())
	return err
}

// flagsFor gives the flags that the next commands need, none when the addresses are the usual ones.
func flagsFor(at devhouse.Addresses) string {
	flags := ""
	for _, one := range []struct{ name, address, usual string }{
		{settings.Ingest, at.Ingest, defaultIngest}, {settings.Gateway, at.Gateway, defaultGateway}, {settings.ConsumerState, at.Consumers, defaultConsumers},
	} {
		if one.address != one.usual {
			flags += " --" + one.name + " " + one.address
		}
	}
	return flags
}
