package consumer

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
)

// Consumer follows one stream. Ack and Close may be called from any goroutine; one loop over Records runs at a time.
type Consumer struct {
	cfg   Config
	retry *pause.Pause
	// lanes: where each partition stands; owned by the loop, kept between loops.
	lanes map[lane.Partition]*place
	// commands of the provider that have ended, oldest first; owned by the loop.
	commands []*done

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex // protects what follows
	acks    map[lane.Partition]acked
	turns   map[lane.Partition]uint64 // how often commands have moved a partition back; written by the loop only
	ackDue  bool
	looping bool
	idle    chan struct{} // closed when the loop of the moment has ended
}

// place is where one partition stands.
type place struct {
	partition lane.Partition
	// last delivered to the loop. Epoch 0: as the provider has it.
	last lane.Position
	// given is the highest that was given before a command moved last back.
	given lane.Position
	// until is where StopAtTail ends; stopped says that it was reached.
	until   lane.Sequence
	stopped bool
}

type acked struct {
	position lane.Position
	timeMS   int64
}

// Open checks the configuration; connections are made by Records.
func Open(cfg Config) (*Consumer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Consumer{cfg: cfg, retry: pause.New(cfg.retry()), acks: map[lane.Partition]acked{}, turns: map[lane.Partition]uint64{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the loop, if one runs, and waits for it; do not call it from inside the loop: leave that instead.
func (c *Consumer) Close() error {
	c.cancel()
	c.mu.Lock()
	idle, looping := c.idle, c.looping
	c.mu.Unlock()
	if looping {
		<-idle
	}
	return nil
}

// Ack says that this record and everything before it in its partition are done with. It does not wait (I2). Of a record that was given
// before a command moved its partition back it says nothing: that one is given again.
func (c *Consumer) Ack(r Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.turn == c.turns[r.Partition] && c.acks[r.Partition].position.Compare(r.Position) < 0 {
		c.acks[r.Partition] = acked{r.Position, r.TimeMS}
		c.ackDue = true
	}
}

// sayAgain has what was acknowledged told to the provider once more, on a new connection.
func (c *Consumer) sayAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ackDue = len(c.acks) > 0
}

// Records yields the stream's records, in order within each partition, for ever or as StopAtTail says. Connections that come and go are
// waited out. An error is yielded with a zero Record: after *HistoryCut the loop goes on when it is not left, after any other it is over
// (*Expired when Config.OnLoss chose to stop, a refusal such as an unknown stream, fault.ConsumerFenced, ctx's error). A second loop
// continues where the first was left.
func (c *Consumer) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := c.begin(); err != nil {
			yield(Record{}, err)
			return
		}
		defer c.end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		began := time.Now()
		for n := 0; ; n++ {
			err := c.connected(ctx, n, yield)
			switch {
			case errors.Is(err, errLeft):
				return
			case errors.Is(err, errAnew):
				continue
			case ctx.Err() != nil:
				if c.ctx.Err() != nil {
					err = fault.New(fault.Unavailable, "the consumer was closed")
				} else {
					err = ctx.Err()
				}
				yield(Record{}, err)
				return
			case lost(err), final(fault.ReasonOf(err)), c.lanes == nil && c.cfg.ConnectWithin > 0 && time.Since(began) > c.cfg.ConnectWithin:
				yield(Record{}, err)
				return
			}
			wait := c.retry.Next()
			if c.cfg.OnRetry != nil {
				c.cfg.OnRetry(err, wait)
			}
			c.cfg.Log.Warn("consumer: interrupted", "stream", c.cfg.Stream, "error", err, "again_in", wait)
			if pause.Wait(ctx, wait) != nil {
				continue // the next try finds ctx ended
			}
		}
	}
}

// errLeft: the loop was left, or has nothing more to do.
var errLeft = errors.New("loop left")

func (c *Consumer) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looping {
		return fault.New(fault.InUse, "another loop over this consumer's records is running")
	}
	c.looping, c.idle = true, make(chan struct{})
	return nil
}

func (c *Consumer) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looping = false
	close(c.idle)
}

// lost tells a loss that was not passed over.
func lost(err error) bool {
	var expired *Expired
	return errors.As(err, &expired)
}

// final tells the refusals that end the loop.
func final(reason fault.Reason) bool {
	switch reason {
	case fault.InvalidArgument, fault.InvalidName, fault.UnknownStream, fault.UnsupportedVersion, fault.Unauthenticated, fault.NotPermitted, fault.ConsumerFenced:
		return true
	}
	return false
}
