package command

import (
	"context"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/sdk/producer"
)

// longestPause bounds the wait between two tries: somebody watches.
const longestPause = 2 * time.Second

// producer opens a producer that keeps the order of each key whatever fails, and tries for retryFor. onRetry hears why; nil for nobody.
func (c *console) producer(ctx context.Context, stream string, retryFor time.Duration, onRetry func(error)) (*producer.Producer, error) {
	opening, cancel := context.WithTimeout(ctx, max(retryFor, time.Second))
	defer cancel()
	p, err := producer.Open(opening, producer.Config{
		Token: c.token, Ingest: c.ingest, Stream: stream, Log: c.log(), RetryLongest: longestPause, GiveUpAfter: max(retryFor, 1),
		MaxRequests: 1, MaxRequestBytes: 1 << 20,
		OnRetry: func(err error, _ time.Duration) {
			if onRetry != nil {
				onRetry(err)
			}
		},
	})
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return p, reach(err, "ingest", c.ingest, "ingest")
}

// leave closes a producer without waiting for what is unanswered.
func leave(p *producer.Producer) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Close(ctx) // says what is known: that ctx has ended
}

// patiently calls until the answer is final, at most for limit. onRetry hears why it is called again.
func patiently(ctx context.Context, limit time.Duration, onRetry func(error), call func(context.Context) error) error {
	between := pause.New(pause.Schedule{Longest: longestPause})
	for began := time.Now(); ; {
		err := call(ctx)
		if err == nil || ctx.Err() != nil || !fault.ReasonOf(err).Temporary() || time.Since(began) > limit {
			return err
		}
		onRetry(err)
		if err := pause.Wait(ctx, between.Next()); err != nil {
			return err
		}
	}
}

// ofRecord tells a fault of one record from one of everything that is sent.
func ofRecord(err error) bool {
	switch fault.ReasonOf(err) {
	case fault.InvalidArgument, fault.KeyMissing, fault.RecordTooLarge, fault.SchemaMismatch, fault.Malformed:
		return true
	}
	return false
}
