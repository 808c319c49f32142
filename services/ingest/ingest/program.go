package ingest

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Program is ingest as a process.
func Program() process.Program {
	var cfg Config
	var sequencer string
	return process.Program{
		Name: "ingest", Short: "Take records in, and hand batches to sequencer-storage", Admin: "127.0.0.1:7490",
		Settings: func(fs *pflag.FlagSet) {
			fs.StringVar(&cfg.GRPCAddress, settings.Listen, "127.0.0.1:7400", "address to serve gRPC on")
			fs.StringVar(&cfg.HTTPAddress, settings.Listen+"-http", "127.0.0.1:7401", "address to serve HTTP on")
			fs.StringVar(&sequencer, settings.Sequencer, "127.0.0.1:7430", "address of sequencer-storage (gRPC)")
			fs.Int64Var(&cfg.LaneBytes, "lane-bytes", 8<<20, "bound of what waits for one lane, in bytes")
			fs.Int64Var(&cfg.TotalBytes, "total-bytes", 64<<20, "bound of what waits for all lanes, in bytes")
			fs.DurationVar(&cfg.OverloadWait, "overload-wait", time.Second, "how long a request waits for room before it is refused")
			fs.StringVar(&cfg.TokensFile, settings.TokensFile, "", "bearer tokens and what they grant; empty: open to all")
			fs.DurationVar(&cfg.Grace, "stop-grace", 5*time.Second, "how long open calls may take to end at a stop")
		},
		Open: func(env *process.Env) (process.Service, error) {
			conn, err := env.Dial(settings.Sequencer, sequencer)
			if err != nil {
				return nil, err
			}
			conn.Connect() // Ready tells whether it stands
			return New(cfg, Deps{Log: env.Log, Metrics: env.Metrics, Sequencer: conn})
		},
	}
}
