package sequencer

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Program is sequencer-storage as a process, with the command that checks a stopped directory.
func Program() process.Program {
	var cfg Config
	var nats, consumers string
	return process.Program{
		Name: "sequencer-storage", Short: "Order, durability and state of streams", Admin: "127.0.0.1:7491",
		Settings: func(fs *pflag.FlagSet) {
			fs.StringVar(&cfg.Dir, settings.Data, "./data/sequencer", "data directory; made when missing")
			fs.StringVar(&cfg.Address, settings.Listen, DefaultAddress, "address to serve gRPC on")
			fs.StringVar(&consumers, settings.ConsumerState, "", "address of consumer-state (gRPC); empty: consumers' cursors are not known")
			fs.StringVar(&nats, settings.NATS, "", "URL of NATS for notifications; empty: none, readers poll")
			fs.Int64Var(&cfg.SnapshotDiskBytes, "snapshot-disk-bytes", 8<<30, "disk space that kept snapshots may take, beyond those in use")
			fs.Uint64Var(&cfg.ReserveBytes, "reserve-bytes", 128<<20, "free disk space below which appends are refused")
			fs.Uint64Var(&cfg.SegmentBytes, "segment-bytes", 256<<20, "size of a segment, the unit of freeing")
			fs.Uint64Var(&cfg.CacheBytes, "cache-bytes", 64<<20, "block cache of the engine")
			fs.IntVar(&cfg.ElementBytes, "element-bytes", 64<<20, "memory for what is remembered of the state's rows")
			fs.Uint64Var(&cfg.TombstoneMaxCount, "tombstone-max-count", 1_000_000, "deleted keys kept per lane for replicas that were away")
			fs.DurationVar(&cfg.TombstoneMaxAge, "tombstone-max-age", 30*24*time.Hour, "how long deleted keys are kept for them")
			fs.Uint64Var(&cfg.LogBufferBytes, "log-buffer-bytes", 32<<20, "one of at most three write buffers of the log")
			fs.Uint64Var(&cfg.StateBufferBytes, "state-buffer-bytes", 16<<20, "one of at most two write buffers of the state")
			fs.DurationVar(&cfg.RetentionInterval, "retention-interval", 5*time.Second, "time between two rounds of retention")
			fs.DurationVar(&cfg.StopGrace, "stop-grace", 5*time.Second, "how long open calls may take to end at a stop")
		},
		Open: func(env *process.Env) (process.Service, error) {
			deps := Deps{Log: env.Log, Metrics: env.Metrics}
			var err error
			if deps.Bus, err = env.Bus(nats); err != nil {
				return nil, err
			}
			if consumers != "" {
				if deps.Consumers, err = env.Dial(settings.ConsumerState, consumers); err != nil {
					return nil, err
				}
			}
			return New(cfg, deps)
		},
		Commands: []*cobra.Command{checkCommand()},
	}
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check DIR", Short: "Verify a stopped data directory: chains, checksums, witnesses, state and digest", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := Check(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			for _, line := range report.Lines() {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if n := len(report.Problems); n > 0 {
				return fmt.Errorf("%d problems found in %s", n, args[0])
			}
			return nil
		},
	}
}
