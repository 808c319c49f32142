// Command consumer-state remembers who consumes, how far and how healthy. See package consumerstate.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "consumer-state:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var cfg consumerstate.Config
	var file string
	cmd := &cobra.Command{
		Use:           "consumer-state",
		Short:         "Remember who consumes, how far and how healthy",
		Long:          "Remember who consumes, how far and how healthy.\n\nEvery flag can be given as LOCKSTEP_<FLAG_NAME> in the environment, or in the settings file.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "settings `file` (YAML)")
	f.StringVar(&cfg.Address, "address", consumerstate.DefaultAddress, "`host:port` to serve gRPC on")
	f.StringVar(&cfg.AdminAddress, "admin-address", consumerstate.DefaultAdminAddress, "`host:port` of /healthz, /readyz and /metrics; empty for none")
	f.StringVar(&cfg.DataDir, "data-dir", "", "`directory` of the database; made when missing")
	f.StringVar(&cfg.TokensFile, "tokens-file", "", "`file` of bearer tokens and what they grant; empty: open to all")
	f.DurationVar(&cfg.SilentAfter, "silent-after", 0, "silence after which a consumer shows as not attached (default 1m)")
	f.DurationVar(&cfg.TailStaleAfter, "tail-stale-after", 0, "age of news after which lag is unknown (default 30s)")
	f.IntVar(&cfg.MaxConsumers, "max-consumers", 0, "most consumers registered (default 10000)")
	f.IntVar(&cfg.MaxLanes, "max-lanes", 0, "most lanes whose tails are remembered (default 16384)")
	f.DurationVar(&cfg.StopGrace, "stop-grace", 0, "time open calls get to end at a stop (default 5s)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := settings.Load(f, "LOCKSTEP", file); err != nil {
			return err
		}
		metrics := prometheus.NewRegistry()
		metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		service, err := consumerstate.New(cfg, consumerstate.Deps{Log: log, Metrics: metrics, Gatherer: metrics})
		if err != nil {
			return err
		}
		return service.Run(cmd.Context())
	}
	return cmd
}
