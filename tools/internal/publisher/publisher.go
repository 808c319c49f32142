// Package publisher sends records to ingest one request at a time, each until its fate is known.
//
//	records ─▶ Publish ─▶ ingest: durable, refused, or "cannot say" ─▶ the same request again, under the same producer sequences
//
// One request on its way at a time keeps the order of a key whatever fails in between; requests are large, so little is lost by it.
//
// Invariants:
//
//	I1  a request that may have been written is repeated under the same producer sequences, so that nothing is written twice (S4).
//	I2  a request is not followed by another before the fate of each of its records is known.
//	I3  retrying is bounded: no progress for GiveUpAfter is an error that says so.
package publisher

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	// MaxRequestBytes and MaxRequestRecords are what callers should gather for one request at most; it fits ingest's limits.
	MaxRequestBytes   = 1 << 20
	MaxRequestRecords = 8192

	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
	callLimit  = 15 * time.Second
)

// Config bounds a Publisher.
type Config struct {
	Stream lane.StreamName
	// GiveUpAfter bounds the time without progress (I3); 0 means 30 s.
	GiveUpAfter time.Duration
	// OnRetry hears why a request is sent again; nil for nobody.
	OnRetry func(error)
}

// Publisher is one producer of one stream. One goroutine.
type Publisher struct {
	cfg    Config
	ingest ingestv1.IngestClient
	id     string
	epoch  uint64
	next   uint64
}

// Fate is what became of one record: a Fault, or its place.
type Fate struct {
	Fault     *fault.Fault
	Partition lane.Partition
	At        lane.Position
}

// Open asks ingest for a producer id.
func Open(ctx context.Context, ingest ingestv1.IngestClient, cfg Config) (*Publisher, error) {
	if cfg.GiveUpAfter == 0 {
		cfg.GiveUpAfter = 30 * time.Second
	}
	p := &Publisher{cfg: cfg, ingest: ingest, next: 1}
	err := p.untilKnown(ctx, func(ctx context.Context) error {
		answer, err := ingest.OpenProducer(ctx, &ingestv1.OpenProducerRequest{})
		p.id, p.epoch = answer.GetProducerId(), answer.GetProducerEpoch()
		return err
	})
	return p, err
}

// Publish returns when each record is durable or refused, as many fates as records. With an error nothing is known of the records
// beyond what ingest may have written.
func (p *Publisher) Publish(ctx context.Context, records []*ingestv1.Record) ([]Fate, error) {
	request := &ingestv1.PublishRequest{
		Stream: string(p.cfg.Stream), ProducerId: p.id, ProducerEpoch: p.epoch, FirstProducerSequence: p.next, Records: records,
	}
	fates := make([]Fate, 0, len(records))
	err := p.untilKnown(ctx, func(ctx context.Context) error { // I1
		answer, err := p.ingest.Publish(ctx, request)
		if err != nil {
			return err
		}
		fates, err = unfold(fates[:0], answer.GetOutcomes(), len(records))
		return err
	})
	if err != nil {
		return nil, err
	}
	p.next += uint64(len(records))
	return fates, nil
}

// unfold writes one fate per record. A record whose fate is open, or may be better next time, is an error.
func unfold(fates []Fate, outcomes []*ingestv1.Outcome, records int) ([]Fate, error) {
	for _, o := range outcomes {
		if f := o.GetFault(); f != nil {
			restored := fault.Restore(fault.Reason(f.GetReason()), f.GetMessage(), f.GetDetails())
			if restored.Reason().Temporary() {
				return nil, restored
			}
			for range o.GetCount() {
				fates = append(fates, Fate{Fault: restored})
			}
			continue
		}
		for i := range uint64(o.GetCount()) {
			fates = append(fates, Fate{
				Partition: lane.Partition(o.GetPartition()),
				At:        lane.Position{Epoch: lane.Epoch(o.GetEpoch()), Sequence: lane.Sequence(o.GetFirstSequence() + i)},
			})
		}
	}
	if len(fates) != records {
		return nil, fault.New(fault.Internal, "ingest answered for %d of %d records", len(fates), records)
	}
	return fates, nil
}

func (p *Publisher) untilKnown(ctx context.Context, call func(context.Context) error) error {
	return Patiently(ctx, p.cfg.GiveUpAfter, p.cfg.OnRetry, call)
}

// Patiently calls until the answer is final, pausing longer and longer, with jitter, at most for limit (I3). onRetry hears why; nil for
// nobody.
func Patiently(ctx context.Context, limit time.Duration, onRetry func(error), call func(context.Context) error) error {
	began := time.Now()
	pause := firstPause
	for {
		callCtx, cancel := context.WithTimeout(ctx, callLimit)
		err := call(callCtx)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !fault.ReasonOf(err).Temporary() && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if waited := time.Since(began); waited > limit {
			return fault.New(fault.ReasonOf(err), "no answer for %v: %w", waited.Round(time.Millisecond), err)
		}
		if onRetry != nil {
			onRetry(err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(pause*2, maxPause)
	}
}
