package consumerstate

import (
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// DefaultAddress is where the service listens.
const DefaultAddress = "127.0.0.1:7420"

// Config says where and how much. The zero value of a field is its default.
type Config struct {
	// Address is where gRPC is served; default DefaultAddress. Port 0 takes any free one; Service.Address tells which.
	Address string
	// Listener overrides Address. The service owns it.
	Listener net.Listener
	// DataDir holds the database and its lock; made when missing. Required. One process at a time.
	DataDir string
	// TokensFile lists bearer tokens and what they grant (libs/service-kit/grants); it is asked about what people call: ListConsumers,
	// DeleteConsumer, IssueReset and ListResets. Default none: everybody may do everything.
	TokensFile string
	// SilentAfter is how long an incarnation may say nothing and still count as attached; default 60 s.
	SilentAfter time.Duration
	// TailStaleAfter is how old news of a tail may be for lag to be known; default 30 s.
	TailStaleAfter time.Duration
	// MaxConsumers bounds the consumers registered, of all streams; default 10,000.
	MaxConsumers int
	// MaxLanes bounds the lanes whose tails are remembered, about 3 KiB each; default 16,384.
	MaxLanes int
	// StopGrace is how long open calls may take to end when the service stops; default 5 s.
	StopGrace time.Duration
}

// Deps is what the service is given.
type Deps struct {
	// Log is required.
	Log *slog.Logger
	// Metrics may be nil: no metrics.
	Metrics prometheus.Registerer
	// Now may be nil: time.Now.
	Now func() time.Time
}

func (c *Config) complete() error {
	orDefault(&c.Address, DefaultAddress)
	orDefault(&c.SilentAfter, time.Minute)
	orDefault(&c.TailStaleAfter, 30*time.Second)
	orDefault(&c.MaxConsumers, 10_000)
	orDefault(&c.MaxLanes, 16_384)
	orDefault(&c.StopGrace, 5*time.Second)
	if c.DataDir == "" {
		return fault.New(fault.InvalidArgument, "consumer-state has no data directory: set data")
	}
	for name, value := range map[string]int64{
		"silent-after": int64(c.SilentAfter), "tail-stale-after": int64(c.TailStaleAfter), "max-consumers": int64(c.MaxConsumers),
		"max-lanes": int64(c.MaxLanes), "stop-grace": int64(c.StopGrace),
	} {
		if value < 0 {
			return fault.New(fault.InvalidArgument, "%s is negative: set it above 0, or leave it out for the default", name)
		}
	}
	return nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
