package gateway

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
)

// Config says how a gateway listens and what it may use. The zero value of every field is the default named beside it.
type Config struct {
	// Listener takes RSocket connections over TCP; it overrides Address. The gateway owns it.
	Listener net.Listener
	// Address to listen on for TCP. Default 127.0.0.1:7410.
	Address string
	// WebSocketListener takes RSocket connections over WebSocket at /rsocket; it overrides WebSocketAddress. The gateway owns it.
	WebSocketListener net.Listener
	// WebSocketAddress to listen on. Default 127.0.0.1:7411; "off" for none.
	WebSocketAddress string
	// TLS, when set, is spoken on both listeners.
	TLS *tls.Config
	// OriginPatterns lists the hosts whose pages may connect over WebSocket, besides the gateway's own. Default none.
	OriginPatterns []string

	// Redis is host:port of the cache shared between gateways. Default none.
	Redis string
	// TokensFile lists bearer tokens and what they grant (libs/service-kit/grants). Default none: everybody may read everything.
	TokensFile string
	// Name is how this gateway is called in what consumer-state keeps. Default the TCP listener's address.
	Name string

	// RingBytes is what the recent batches of all lanes may take together. Default 64 MiB.
	RingBytes int64
	// CatchUpBytes is what older batches, read for consumers that are behind, may take together. Default 64 MiB.
	CatchUpBytes int64
	// CatchUpWorkers is how many reads of older batches run at once. Default 4.
	CatchUpWorkers int
	// WindowBytes may be under way to a subscriber that asks for no other window; a larger one than MaxWindowBytes is cut to it.
	// Default 4 MiB; less than 512 KiB is raised to it, since consumers give bytes back in steps of 256 KiB.
	WindowBytes int64
	// MaxWindowBytes is the largest window a subscriber gets. Default 64 MiB.
	MaxWindowBytes int64
	// MaxBootstraps may run at once: consumers that take the chunks of a snapshot, each over a few streams of one connection. Default 8.
	MaxBootstraps int
	// MaxRepairs may run at once: consumers that take changes, symbols or rows of a snapshot. Default 16.
	MaxRepairs int
	// MaxScans of snapshots for repairs run at once; other repairs wait. Default half of the processors, at least 1.
	MaxScans int
	// ResyncBytesPerSecond is what all bootstraps and repairs together may send. Live tails do not count and never wait; while they
	// are sent on busy processors the rate gives way, down to a tenth. Default 200 MB.
	ResyncBytesPerSecond int64
	// SnapshotDir is where copies of snapshots are kept; they survive a restart. No other gateway may use it. Default a temporary
	// directory that goes when the gateway does.
	SnapshotDir string
	// SnapshotDiskBytes is what these copies may take. Default 8 GiB.
	SnapshotDiskBytes int64
	// SnapshotMaxAge is how old a copy may be that is handed out although the stream has moved on by more than a hundredth of its rows.
	// Default 60 s.
	SnapshotMaxAge time.Duration
	// SketchBytes is what the sketches of snapshots may take in memory: 8 bytes a row, and 24 a symbol. Default 64 MiB.
	SketchBytes int64
	// MaxConnections may be open. Default 20,000.
	MaxConnections int
	// MaxSessions may be attached on one connection. Default 256.
	MaxSessions int
	// MaxLanes may be followed at once. Default 16,384.
	MaxLanes int

	// PollInterval is how long a lane may be silent before storage is asked. Default 1 s.
	PollInterval time.Duration
	// HeartbeatInterval is the longest silence on a subscription at the tail. Default 5 s.
	HeartbeatInterval time.Duration
	// TouchInterval is how often the incarnations attached here are proven at consumer-state. Default 10 s.
	TouchInterval time.Duration
	// DrainTimeout is how long a stopping gateway waits for its consumers to leave. Default 10 s.
	DrainTimeout time.Duration
	// DrainSpread is the time over which consumers are told to leave, each at a moment of its own. Default 1 s.
	DrainSpread time.Duration
}

const off = "off"

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = "127.0.0.1:7410"
	}
	if c.WebSocketAddress == "" {
		c.WebSocketAddress = "127.0.0.1:7411"
	}
	orDefault(&c.RingBytes, 64<<20)
	orDefault(&c.CatchUpBytes, 64<<20)
	orDefault(&c.CatchUpWorkers, 4)
	orDefault(&c.WindowBytes, 4<<20)
	c.WindowBytes = max(c.WindowBytes, 512<<10)
	orDefault(&c.MaxWindowBytes, 64<<20)
	orDefault(&c.MaxBootstraps, 8)
	orDefault(&c.MaxRepairs, 16)
	orDefault(&c.ResyncBytesPerSecond, 200_000_000)
	orDefault(&c.MaxConnections, 20000)
	orDefault(&c.MaxSessions, 256)
	orDefault(&c.MaxLanes, 16384)
	orDefault(&c.TouchInterval, 10*time.Second)
	orDefault(&c.DrainTimeout, 10*time.Second)
	orDefault(&c.DrainSpread, time.Second)
	return c
}

func orDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// rsocketConfig: a gateway's peers send small requests and receive large deliveries.
func (c Config) rsocketConfig(log *slog.Logger) rsocket.ServerConfig {
	cfg := rsocket.ServerConfig{MaxConnections: c.MaxConnections, DrainGrace: c.DrainTimeout / 2, OriginPatterns: c.OriginPatterns, Logger: log}
	return cfg
}

// Deps are what a gateway needs of others. Log, Storage and Consumers must be set.
type Deps struct {
	Log *slog.Logger
	// Metrics takes the gateway's collectors; nil for none.
	Metrics prometheus.Registerer
	// Storage is a connection to sequencer-storage, made by rpc.Dial so that faults survive.
	Storage grpc.ClientConnInterface
	// Consumers is a connection to consumer-state, made likewise.
	Consumers grpc.ClientConnInterface
	// Bus brings notifications; nil: lanes are polled. The caller closes it, after Run has returned.
	Bus *notify.Bus
}
