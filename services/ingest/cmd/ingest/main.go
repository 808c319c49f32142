// Command ingest runs the ingest service: records in over gRPC and HTTP, batches out to sequencer-storage.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/admin"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

// run starts at settings and ends when ctx does.
func run(ctx context.Context, args []string) error {
	var cfg ingest.Config
	fs := pflag.NewFlagSet("ingest", pflag.ContinueOnError)
	fs.StringVar(&cfg.GRPCAddress, "grpc", "127.0.0.1:7400", "address for gRPC")
	fs.StringVar(&cfg.HTTPAddress, "http", "127.0.0.1:7401", "address for HTTP")
	fs.Int64Var(&cfg.LaneBytes, "lane-bytes", 8<<20, "bound of what waits for one lane, in bytes")
	fs.Int64Var(&cfg.TotalBytes, "total-bytes", 64<<20, "bound of what waits for all lanes, in bytes")
	fs.DurationVar(&cfg.OverloadWait, "overload-wait", time.Second, "how long a request waits for room before it is refused")
	fs.StringVar(&cfg.TokensFile, "tokens-file", "", "bearer tokens and what they grant; empty: open to all")
	adminAddress := fs.String("admin", "127.0.0.1:7490", "address for health and metrics")
	sequencer := fs.String("sequencer", "127.0.0.1:7430", "address of sequencer-storage")
	file := fs.String("config", "", "YAML file of settings")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is not a setting; see --help", fs.Arg(0))
	}
	if err := settings.Load(fs, "LOCKSTEP", *file); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	conn, err := rpc.Dial(*sequencer, rpc.ClientConfig{})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.Connect()
	service, err := ingest.New(cfg, ingest.Deps{Log: log, Metrics: reg, Sequencer: conn})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *adminAddress)
	if err != nil {
		return fmt.Errorf("cannot listen for health and metrics: %w", err)
	}
	return life.Run(ctx, log, admin.Part(l, service.Ready, reg), life.Part{Name: "ingest", Run: service.Run})
}
