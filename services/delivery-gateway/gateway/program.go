package gateway

import (
	"crypto/tls"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Program is delivery-gateway as a process.
func Program() process.Program {
	var cfg Config
	var sequencer, consumers, nats, certificate, key string
	return process.Program{
		Name: "delivery-gateway", Short: "Deliver streams to consumers over RSocket", Admin: "127.0.0.1:7492",
		Settings: func(fs *pflag.FlagSet) {
			fs.StringVar(&cfg.Address, settings.Listen, "127.0.0.1:7410", "address to serve RSocket over TCP on")
			fs.StringVar(&cfg.WebSocketAddress, settings.Listen+"-websocket", "127.0.0.1:7411", "address to serve RSocket over WebSocket on, at /rsocket; off: none")
			fs.StringVar(&sequencer, settings.Sequencer, "127.0.0.1:7430", "address of sequencer-storage (gRPC)")
			fs.StringVar(&consumers, settings.ConsumerState, "127.0.0.1:7420", "address of consumer-state (gRPC)")
			fs.StringVar(&nats, settings.NATS, "", "URL of NATS for notifications; empty: none, lanes are polled")
			fs.StringVar(&cfg.Redis, settings.Redis, "", "Redis, host:port, shared with other gateways; empty: none")
			fs.StringVar(&certificate, "tls-certificate", "", "PEM file; with --tls-key, both listeners speak TLS")
			fs.StringVar(&key, "tls-key", "", "PEM file of the certificate's key")
			fs.StringSliceVar(&cfg.OriginPatterns, "origins", nil, "hosts whose pages may connect over WebSocket")
			fs.StringVar(&cfg.TokensFile, settings.TokensFile, "", "bearer tokens and what they grant; empty: open to all")
			fs.StringVar(&cfg.Name, "name", "", "this gateway's name in lists of consumers; empty: its address")
			fs.Int64Var(&cfg.RingBytes, "ring-bytes", 64<<20, "memory for recent batches of all lanes")
			fs.Int64Var(&cfg.CatchUpBytes, "catch-up-bytes", 64<<20, "memory for older batches")
			fs.Int64Var(&cfg.WindowBytes, "window-bytes", 4<<20, "bytes under way to one subscriber, at least 512 KiB")
			fs.IntVar(&cfg.MaxBootstraps, "max-bootstraps", 8, "bootstraps at once")
			fs.IntVar(&cfg.MaxRepairs, "max-repairs", 16, "repairs at once")
			fs.Int64Var(&cfg.ResyncBytesPerSecond, "resync-bytes-per-second", 200_000_000, "bytes a second that all bootstraps and repairs may take together")
			fs.StringVar(&cfg.SnapshotDir, settings.Data, "", "data directory: of copies of snapshots, of this gateway alone; empty: a temporary one")
			fs.Int64Var(&cfg.SnapshotDiskBytes, "snapshot-disk-bytes", 8<<30, "disk space for copies of snapshots")
			fs.DurationVar(&cfg.SnapshotMaxAge, "snapshot-max-age", time.Minute, "age at which a copy that is behind is not handed out any more")
			fs.Int64Var(&cfg.SketchBytes, "sketch-bytes", 64<<20, "memory for sketches of snapshots")
			fs.IntVar(&cfg.MaxConnections, "max-connections", 20000, "connections at once")
			fs.DurationVar(&cfg.DrainTimeout, "drain-timeout", 10*time.Second, "how long consumers may take to leave at a stop")
		},
		Open: func(env *process.Env) (process.Service, error) {
			if certificate != "" || key != "" {
				pair, err := tls.LoadX509KeyPair(certificate, key)
				if err != nil {
					return nil, fault.New(fault.InvalidArgument, "--tls-certificate and --tls-key: %w", err)
				}
				cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
			}
			storage, err := env.Dial(settings.Sequencer, sequencer)
			if err != nil {
				return nil, err
			}
			state, err := env.Dial(settings.ConsumerState, consumers)
			if err != nil {
				return nil, err
			}
			bus, err := env.Bus(nats)
			if err != nil {
				return nil, err
			}
			return New(cfg, Deps{Log: env.Log, Metrics: env.Metrics, Storage: storage, Consumers: state, Bus: bus})
		},
	}
}
