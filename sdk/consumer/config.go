package consumer

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// Config of a consumer. Stream and Gateways are needed; everything else has a default.
type Config struct {
	Stream string
	// Gateways are addresses such as tcp://127.0.0.1:7410; tried in turn.
	Gateways []string
	// ConsumerID is the name the provider keeps a cursor under; empty for an anonymous reader.
	ConsumerID string
	// Start says where to begin in partitions for which the provider has no cursor. The zero Start is the first record retained.
	Start Start
	// Partitions to follow; nil means all.
	Partitions []lane.Partition
	// StopAtTail ends the loop without an error when every partition has reached the tail it had when the loop began.
	StopAtTail bool
	// Token is the bearer token that grants the stream, where the provider asks for one. Without TLS it can be read on the way.
	Token string
	// Client names the program in the gateway's logs. Default: lockstep-go-consumer.
	Client string
	// ConnectWithin is how long the loop tries for its first connection before it is over with the last error; 0 means for ever. Later
	// interruptions are waited out.
	ConnectWithin time.Duration
	// OnLoss is told of records that expired before they were read, in its turn among the records, and chooses what follows. nil chooses
	// Stop: nothing is passed over that nobody was told of.
	OnLoss func(*Expired) Choice
	// OnRetry is told what interrupts the loop and after which pause it goes on. It must return soon.
	OnRetry func(err error, after time.Duration)
	// TLS is for tls:// and wss://; nil means the system's roots.
	TLS *tls.Config
	// DialContext replaces the network; nil means the real one.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Log receives interruptions; nil means nothing is logged.
	Log *slog.Logger
	// RetryFirst and RetryLongest bound the pauses between tries; 0 means 50 ms and 5 s.
	RetryFirst, RetryLongest time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if err := lane.CheckName("stream", c.Stream); err != nil {
		return c, err
	}
	if len(c.Gateways) == 0 {
		return c, fault.New(fault.InvalidArgument, "the consumer has no gateway address: give one such as tcp://127.0.0.1:7410")
	}
	if c.ConsumerID != "" {
		if err := lane.CheckName("consumer", c.ConsumerID); err != nil {
			return c, err
		}
	}
	if c.Client == "" {
		c.Client = "lockstep-go-consumer"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (c Config) session() session.Config {
	return session.Config{Gateways: c.Gateways, ConsumerID: c.ConsumerID, Client: c.Client, Token: c.Token, TLS: c.TLS, DialContext: c.DialContext, Log: c.Log}
}

func (c Config) retry() pause.Schedule {
	return pause.Schedule{First: c.RetryFirst, Longest: c.RetryLongest}
}

// Start is where following begins.
type Start struct {
	tail  bool
	from  lane.Sequence
	after map[lane.Partition]lane.Position
}

// Head starts at the first record retained.
func Head() Start { return Start{} }

// Tail starts behind the last record of the moment the loop begins.
func Tail() Start { return Start{tail: true} }

// From starts at a sequence in every partition. When it has expired, that is a loss like any other: see Config.OnLoss.
func From(s lane.Sequence) Start { return Start{from: max(1, s)} }

// After starts behind known positions; partitions that are not named start at their head.
func After(positions map[lane.Partition]lane.Position) Start { return Start{after: positions} }

// Record is one record of the stream. Its slices must not be changed; they stay valid.
type Record struct {
	Partition lane.Partition
	Position  lane.Position
	// TimeMS is milliseconds since 1970.
	TimeMS    int64
	Key       string
	Headers   record.Headers
	Value     []byte
	Tombstone bool
	// Redelivered: this consumer id was given the record before.
	Redelivered bool

	turn uint64 // of its partition when it was given
}

// Choice is what follows a loss.
type Choice int

const (
	// Stop ends the loop with the *Expired. Nothing moves: the next loop is told the same, and chooses again.
	Stop Choice = iota
	// SkipToHead goes on at Expired.Head.
	SkipToHead
)

// Expired says that records [From, Head) of a partition are gone and were never delivered here.
type Expired struct {
	Partition  lane.Partition
	From, Head lane.Sequence
}

// Error names the lost range.
func (e *Expired) Error() string {
	return fmt.Sprintf("records [%d, %d) of partition %d have expired before they were read", e.From, e.Head, e.Partition)
}

// Unwrap lets errors.Is(err, fault.Expired) hold.
func (e *Expired) Unwrap() error { return fault.Expired }

// HistoryCut says that the provider's history of a partition no longer holds what was read here: records behind its tail of that moment
// were lost there. A loop that goes on continues behind Tail.
type HistoryCut struct {
	Partition lane.Partition
	Had       lane.Position
	Epoch     lane.Epoch
	Tail      lane.Sequence
}

// Error tells both positions.
func (e *HistoryCut) Error() string {
	return fmt.Sprintf("partition %d was read up to %v, and the provider's history is now %d:%d", e.Partition, e.Had, e.Epoch, e.Tail)
}

// Unwrap lets errors.Is(err, fault.EpochMismatch) hold.
func (e *HistoryCut) Unwrap() error { return fault.EpochMismatch }
