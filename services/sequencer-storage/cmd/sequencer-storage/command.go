package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/service-kit/admin"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// options are the flags of "run".
type options struct {
	service                         sequencer.Config
	admin, nats, consumers, setting string
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "sequencer-storage", Short: "Order, durability and state of streams", SilenceUsage: true, SilenceErrors: true}
	var o options
	run := &cobra.Command{
		Use: "run", Short: "Run the service", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Load(cmd.Flags(), "LOCKSTEP_SEQUENCER", o.setting); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	for _, c := range []*cobra.Command{root, run} { // run is the default
		f := c.Flags()
		f.StringVar(&o.service.Dir, "data", "./data/sequencer", "data directory; made when missing")
		f.StringVar(&o.service.Address, "address", sequencer.DefaultAddress, "address for gRPC")
		f.StringVar(&o.admin, "admin", "127.0.0.1:7491", "address for /healthz, /readyz and /metrics")
		f.StringVar(&o.nats, "nats", "", "URL of NATS for notifications; empty: none, readers poll")
		f.StringVar(&o.consumers, "consumers", "", "address of consumer-state; empty: consumers' cursors are not known")
		f.Uint64Var(&o.service.SnapshotDiskBytes, "snapshot-disk-bytes", 8<<30, "disk space that kept snapshots may take, beyond those in use")
		f.Uint64Var(&o.service.ReserveBytes, "reserve-bytes", 128<<20, "free disk space below which appends are refused")
		f.Uint64Var(&o.service.SegmentBytes, "segment-bytes", 256<<20, "size of a segment, the unit of freeing")
		f.Uint64Var(&o.service.CacheBytes, "cache-bytes", 64<<20, "block cache of the engine")
		f.IntVar(&o.service.ElementBytes, "element-bytes", 64<<20, "memory for what is remembered of the state's rows")
		f.Uint64Var(&o.service.TombstoneMaxCount, "tombstone-max-count", 1_000_000, "deleted keys kept per lane for replicas that were away")
		f.DurationVar(&o.service.TombstoneMaxAge, "tombstone-max-age", 30*24*time.Hour, "how long deleted keys are kept for them")
		f.Uint64Var(&o.service.LogBufferBytes, "log-buffer-bytes", 32<<20, "one of at most three write buffers of the log")
		f.Uint64Var(&o.service.StateBufferBytes, "state-buffer-bytes", 16<<20, "one of at most two write buffers of the state")
		f.DurationVar(&o.service.RetentionInterval, "retention-interval", 0, "time between two rounds of retention (default 5s)")
		f.StringVar(&o.setting, "config", "", "YAML file with settings named like the flags")
	}
	root.RunE, root.Args = run.RunE, cobra.NoArgs
	root.AddCommand(run, checkCommand())
	return root
}

// run starts the admin page first and stops it last, so that probes see the service come and go.
func (o *options) run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("service", "sequencer-storage")
	reg := prometheus.NewRegistry()
	deps := sequencer.Deps{Log: log, Metrics: reg}
	if o.nats != "" {
		bus, err := notify.Connect(notify.Config{URL: o.nats, Name: "sequencer-storage"}, log)
		if err != nil {
			return err
		}
		defer bus.Close()
		deps.Bus = bus
	}
	if o.consumers != "" {
		conn, err := rpc.Dial(o.consumers, rpc.ClientConfig{})
		if err != nil {
			return err
		}
		defer conn.Close()
		deps.Consumers = conn
	}
	l, err := net.Listen("tcp", o.admin)
	if err != nil {
		return err
	}
	s, err := sequencer.New(o.service, deps)
	if err != nil {
		l.Close()
		return err
	}
	return life.Run(ctx, log, admin.Part(l, s.Ready, reg), life.Part{Name: "sequencer", Run: s.Run})
}
