// Command delivery-gateway delivers streams to consumers over RSocket.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/admin"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "delivery-gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var cfg gateway.Config
	fs := pflag.NewFlagSet("delivery-gateway", pflag.ContinueOnError)
	file := fs.String("settings", "", "YAML file with these settings")
	adminAddress := fs.String("admin", "127.0.0.1:7492", "address of /healthz, /readyz and /metrics")
	sequencer := fs.String("sequencer", "127.0.0.1:7430", "sequencer-storage, gRPC")
	consumers := fs.String("consumers", "127.0.0.1:7420", "consumer-state, gRPC")
	nats := fs.String("nats", "nats://127.0.0.1:4222", "NATS; empty: poll only")
	certificate := fs.String("tls-certificate", "", "PEM file; with --tls-key, both listeners speak TLS")
	key := fs.String("tls-key", "", "PEM file")
	fs.StringVar(&cfg.Address, "address", "127.0.0.1:7410", "RSocket over TCP")
	fs.StringVar(&cfg.WebSocketAddress, "websocket-address", "127.0.0.1:7411", "RSocket over WebSocket, path /rsocket; off: none")
	fs.StringSliceVar(&cfg.OriginPatterns, "origins", nil, "hosts whose pages may connect over WebSocket")
	fs.StringVar(&cfg.Redis, "redis", "", "Redis, host:port, shared with other gateways; empty: none")
	fs.StringVar(&cfg.TokensFile, "tokens-file", "", "bearer tokens and the streams they grant; empty: open to all")
	fs.StringVar(&cfg.Name, "name", "", "this gateway's name in lists of consumers; empty: its address")
	fs.Int64Var(&cfg.RingBytes, "ring-bytes", 64<<20, "memory for recent batches of all lanes")
	fs.Int64Var(&cfg.CatchUpBytes, "catch-up-bytes", 64<<20, "memory for older batches")
	fs.Int64Var(&cfg.WindowBytes, "window-bytes", 4<<20, "bytes under way to one subscriber")
	fs.IntVar(&cfg.MaxBootstraps, "max-bootstraps", 8, "bootstraps at once")
	fs.IntVar(&cfg.MaxRepairs, "max-repairs", 16, "repairs at once")
	fs.Int64Var(&cfg.ResyncBytesPerSecond, "resync-bytes-per-second", 200_000_000, "bytes a second that all bootstraps and repairs may take together")
	fs.StringVar(&cfg.SnapshotDir, "snapshot-dir", "", "directory for copies of snapshots, of this gateway alone; empty: a temporary one")
	fs.Int64Var(&cfg.SnapshotDiskBytes, "snapshot-disk-bytes", 8<<30, "disk space for copies of snapshots")
	fs.DurationVar(&cfg.SnapshotMaxAge, "snapshot-max-age", 0, "age at which a copy that is behind is not handed out any more (default 1m)")
	fs.Int64Var(&cfg.SketchBytes, "sketch-bytes", 64<<20, "memory for sketches of snapshots")
	fs.IntVar(&cfg.MaxConnections, "max-connections", 20000, "connections at once")
	fs.DurationVar(&cfg.DrainTimeout, "drain-timeout", 0, "wait for consumers to leave when stopping (default 10s)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := settings.Load(fs, "LOCKSTEP", *file); err != nil {
		return err
	}
	if *certificate != "" || *key != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	deps := gateway.Deps{Log: log, Metrics: metrics}
	storage, err := rpc.Dial(*sequencer, rpc.ClientConfig{})
	if err != nil {
		return fmt.Errorf("--sequencer: %w", err)
	}
	defer func() { _ = storage.Close() }()
	state, err := rpc.Dial(*consumers, rpc.ClientConfig{})
	if err != nil {
		return fmt.Errorf("--consumers: %w", err)
	}
	defer func() { _ = state.Close() }()
	deps.Storage, deps.Consumers = storage, state
	if *nats != "" {
		if deps.Bus, err = notify.Connect(notify.Config{URL: *nats, Name: "delivery-gateway"}, log); err != nil {
			return err
		}
		defer deps.Bus.Close()
	}
	s, err := gateway.New(cfg, deps)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *adminAddress)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	return life.Run(ctx, log, admin.Part(l, s.Ready, metrics), life.Part{Name: "gateway", Run: s.Run})
}
