package producer

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Config of a producer. Ingest and Stream are needed; everything else has a default.
type Config struct {
	// Ingest is the gRPC address, such as 127.0.0.1:7400.
	Ingest string
	Stream string
	// ProducerID is the name under which retries are recognised. The newest producer with an id fences the older ones. Default: the
	// provider makes one up.
	ProducerID string
	// Token is the bearer token that grants the right to publish, where the provider asks for one. Without TLS it can be read on the way.
	Token string
	// TLS is nil for plain text.
	TLS *tls.Config
	// DialContext replaces the network; nil means the real one.
	DialContext func(ctx context.Context, address string) (net.Conn, error)
	// Log receives retries; nil means nothing is logged.
	Log *slog.Logger
	// OnRetry is told why records are sent again and after which pause. It must return soon.
	OnRetry func(err error, after time.Duration)
	// MaxInFlightBytes is how much may be unanswered before Publish waits. Default: 8 MiB.
	MaxInFlightBytes int
	// MaxRequestBytes and MaxRequestRecords bound one request; a larger record travels alone. Default: 512 KiB and 16384.
	MaxRequestBytes   int
	MaxRequestRecords int
	// MaxRequests is how many requests may be on their way. Default: 64. With 1 nothing is ever sent past a record that is tried again,
	// so that none is refused with fault.OutOfOrder.
	MaxRequests int
	// GiveUpAfter is how long a record is tried again, from its first failure; then it is answered with the last error. 0 means until
	// Close.
	GiveUpAfter time.Duration
	// RetryFirst and RetryLongest bound the pauses; 0 means 50 ms and 5 s.
	RetryFirst, RetryLongest time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if err := lane.CheckName("stream", c.Stream); err != nil {
		return c, err
	}
	if c.Ingest == "" {
		return c, fault.New(fault.InvalidArgument, "the producer has no ingest address: give one such as 127.0.0.1:7400")
	}
	if c.ProducerID != "" {
		if err := lane.CheckName("producer", c.ProducerID); err != nil {
			return c, err
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxInFlightBytes <= 0 {
		c.MaxInFlightBytes = 8 << 20
	}
	if c.MaxRequestBytes <= 0 {
		c.MaxRequestBytes = 512 << 10
	}
	if c.MaxRequestRecords <= 0 {
		c.MaxRequestRecords = 16384
	}
	if c.MaxRequests <= 0 {
		c.MaxRequests = 64
	}
	return c, nil
}

func (c Config) retry() pause.Schedule {
	return pause.Schedule{First: c.RetryFirst, Longest: c.RetryLongest}
}

// Record is what a producer hands in.
type Record struct {
	// Key is UTF-8, at most 1024 bytes; empty only in streams without keys.
	Key string
	// Value is at most 1 MiB. It must not be changed before the record is answered.
	Value   []byte
	Headers map[string]string
	// Tombstone deletes the key; Value must be empty.
	Tombstone bool
	// TimeMS is milliseconds since 1970; 0 means the moment of Publish.
	TimeMS int64
	// Tag is yours: it comes back in the Outcome and is sent nowhere.
	Tag any
}

func (r Record) encode() (record.Record, error) {
	headers, err := record.NewHeaders(r.Headers)
	if err != nil {
		return record.Record{}, err
	}
	rec := record.Record{Key: []byte(r.Key), Value: r.Value, Headers: headers, Tombstone: r.Tombstone, TimeMS: r.TimeMS}
	if rec.TimeMS == 0 {
		rec.TimeMS = time.Now().UnixMilli()
	}
	return rec, rec.Check(false)
}

// Ack says where a record is stored.
type Ack struct {
	Partition lane.Partition
	Position  lane.Position
	// Duplicate: an earlier try had stored it already.
	Duplicate bool
}
