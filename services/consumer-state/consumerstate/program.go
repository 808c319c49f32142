package consumerstate

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/service-kit/process"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Program is consumer-state as a process.
func Program() process.Program {
	var cfg Config
	return process.Program{
		Name: "consumer-state", Short: "Remember who consumes, how far and how healthy", Admin: "127.0.0.1:7493",
		Settings: func(fs *pflag.FlagSet) {
			fs.StringVar(&cfg.Address, settings.Listen, DefaultAddress, "address to serve gRPC on")
			fs.StringVar(&cfg.DataDir, settings.Data, "./data/consumers", "data directory; made when missing")
			fs.DurationVar(&cfg.SilentAfter, "silent-after", time.Minute, "silence after which a consumer shows as not attached")
			fs.DurationVar(&cfg.TailStaleAfter, "tail-stale-after", 30*time.Second, "age of news after which lag is unknown")
			fs.IntVar(&cfg.MaxConsumers, "max-consumers", 10_000, "most consumers registered")
			fs.IntVar(&cfg.MaxLanes, "max-lanes", 16_384, "most lanes whose tails are remembered")
			fs.StringVar(&cfg.TokensFile, settings.TokensFile, "", "bearer tokens and what they grant; empty: open to all")
			fs.DurationVar(&cfg.StopGrace, "stop-grace", 5*time.Second, "how long open calls may take to end at a stop")
		},
		Open: func(env *process.Env) (process.Service, error) {
			return New(cfg, Deps{Log: env.Log, Metrics: env.Metrics})
		},
	}
}
