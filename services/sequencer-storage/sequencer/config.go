package sequencer

import (
	"net"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
)

// Config says where and within which bounds the service works. Zero values are the defaults.
type Config struct {
	// Dir is the data directory; it is made when missing. Required.
	Dir string
	// Address to listen on for gRPC; "127.0.0.1:7430" when empty. Not used when Listener is set.
	Address string
	// Listener to serve gRPC on; the service owns it from Run on.
	Listener net.Listener
	// ReserveBytes is the free space below which appends are refused; 0 means 128 MiB.
	ReserveBytes uint64
	// SegmentBytes is the size of a segment, the unit of freeing; 0 means 256 MiB.
	SegmentBytes uint64
	// CacheBytes, LogBufferBytes and StateBufferBytes bound the engine's memory: at most the cache, three log buffers and two
	// state buffers; 0 means 64, 32 and 16 MiB.
	CacheBytes, LogBufferBytes, StateBufferBytes uint64
	// ElementBytes bounds what is remembered of the state's rows so that changing one need not read it, 32 bytes a row at three
	// quarters full; 0 means 64 MiB, which is 1.5 million rows. Windows of changes take up to 48 MiB more.
	ElementBytes int
	// TombstoneMaxCount and TombstoneMaxAge bound what is kept of each lane's deleted keys for replicas that were away; 0 means a
	// million and 30 days. Those that all registered consumers have passed are let go before.
	TombstoneMaxCount uint64
	TombstoneMaxAge   time.Duration
	// SnapshotDiskBytes is what kept snapshots may take on disk together, beyond those in use; 0 means 8 GiB.
	SnapshotDiskBytes int64
	// RetentionInterval is the time between two rounds of retention; 0 means 5 s.
	RetentionInterval time.Duration
	// ExchangeInterval is the time between two exchanges of tails with consumer-state; 0 means 1 s.
	ExchangeInterval time.Duration
	// StopGrace is how long open calls may take to end when the service stops; 0 means 5 s.
	StopGrace time.Duration
}

// DefaultAddress is where the service listens.
const DefaultAddress = "127.0.0.1:7430"

func (c *Config) check() error {
	if c.Dir == "" {
		return fault.New(fault.InvalidArgument, "no data directory was given")
	}
	if c.Address == "" {
		c.Address = DefaultAddress
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 128 << 20
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 256 << 20
	}
	if c.SnapshotDiskBytes == 0 {
		c.SnapshotDiskBytes = 8 << 30
	}
	if c.RetentionInterval == 0 {
		c.RetentionInterval = 5 * time.Second
	}
	if c.ExchangeInterval == 0 {
		c.ExchangeInterval = time.Second
	}
	if c.StopGrace == 0 {
		c.StopGrace = 5 * time.Second
	}
	return nil
}

func (c *Config) engine() engine.Config {
	return engine.Config{CacheBytes: c.CacheBytes, LogBufferBytes: c.LogBufferBytes, StateBufferBytes: c.StateBufferBytes}
}
