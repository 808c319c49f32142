package replica

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// Config of a replica. Stream, Path and Gateways are needed; everything else has a default.
type Config struct {
	// Stream is the name of a keyed stream.
	Stream string
	// Path is where the replica is found, such as ./orders.db: a symbolic link to the current generation in <Path>.lockstep/.
	Path string
	// Gateways are addresses such as tcp://127.0.0.1:7410, tls://host:port, ws://host:port/rsocket; tried in turn.
	Gateways []string
	// ConsumerID is the name under which the provider keeps this replica's cursor; two live replicas need two. Default: made of the
	// host name and Path, so that it stays the same.
	ConsumerID string
	// Token is the bearer token that grants the stream, where the provider asks for one. Without TLS it can be read on the way.
	Token string
	// TLS is for tls:// and wss://; nil means the system's roots.
	TLS *tls.Config
	// DialContext replaces the network; nil means the real one.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Log receives what happens; nil means nothing is logged.
	Log *slog.Logger
	// TrustFile skips reading all rows again when the file is opened. A row changed behind the replica's back is then found only
	// when it is written again, or by Verify.
	TrustFile bool
	// Reads is what queries get while a bootstrap replaces the rows; the default is the old ones.
	Reads Reads
	// OnProgress is told of every change of phase and, during a bootstrap and while catching up, about ten times a second; one call at a time.
	// The replica waits for it: it must return soon and not call Close.
	OnProgress func(Progress)
	// OnEvent is told of what an operator may want to know: see Event. Same rules as OnProgress.
	OnEvent func(Event)
	// Apply, if not nil, is called inside the transaction that applies records, after their rows were written: what it writes through
	// tx becomes durable together with the cursor, exactly once. It must not touch the stream's own table, commit or roll back. An
	// error undoes the transaction; it is tried again after a pause. The slices of the batch are valid during the call.
	Apply func(ctx context.Context, tx *sql.Tx, batch Batch) error
	// Rebuild, if not nil, is called while a bootstrap builds a new generation, after the rows are in and your tables were copied. An
	// error gives the build up; it is tried again after a pause.
	Rebuild func(ctx context.Context, tx *sql.Tx) error
	// MaxPatchBytes is the most that changes or a repair put into one transaction, in bytes of rows; beyond it a bootstrap is made.
	// 0 means 256 MiB.
	MaxPatchBytes int64
	// MaxRepairRows is the most rows of a partition that a repair compares: it needs some 16 bytes of memory for each. Beyond it a bootstrap
	// is made. 0 means 20 million.
	MaxRepairRows uint64
	// ScrubRowsPerSecond is how fast all rows are read again in the background while the replica is live, to find what rots or is
	// changed by others. 0 means 2,000; a negative number, never.
	ScrubRowsPerSecond int
	// RetryFirst and RetryLongest bound the pauses between tries; 0 means 50 ms and 5 s.
	RetryFirst, RetryLongest time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if err := lane.CheckName("stream", c.Stream); err != nil {
		return c, err
	}
	if c.Path == "" {
		return c, fault.New(fault.InvalidArgument, "the replica has no path: give one such as ./%s.db", c.Stream)
	}
	if len(c.Gateways) == 0 {
		return c, fault.New(fault.InvalidArgument, "the replica has no gateway address: give one such as tcp://127.0.0.1:7410")
	}
	if c.ConsumerID == "" {
		id, err := defaultConsumerID(c.Path)
		if err != nil {
			return c, err
		}
		c.ConsumerID = id
	}
	if err := lane.CheckName("consumer", c.ConsumerID); err != nil {
		return c, err
	}
	if c.MaxPatchBytes == 0 {
		c.MaxPatchBytes = 256 << 20
	}
	if c.MaxRepairRows == 0 {
		c.MaxRepairRows = 20_000_000
	}
	if c.ScrubRowsPerSecond == 0 {
		c.ScrubRowsPerSecond = 2000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// defaultConsumerID is stable for one path on one host.
func defaultConsumerID(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.New(fault.InvalidArgument, "the path %q cannot be made absolute: %w", path, err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	host = strings.Map(func(r rune) rune {
		if r < 128 && lane.CheckName("host", "x"+string(r)) == nil {
			return r
		}
		return '-'
	}, host)
	return fmt.Sprintf("replica-%.64s-%016x", host, xxh3.HashString(abs)), nil
}

func (c Config) session() session.Config {
	return session.Config{Gateways: c.Gateways, ConsumerID: c.ConsumerID, Client: "lockstep-go-replica", Token: c.Token, TLS: c.TLS, DialContext: c.DialContext, Log: c.Log}
}

func (c Config) retry() pause.Schedule {
	return pause.Schedule{First: c.RetryFirst, Longest: c.RetryLongest}
}
