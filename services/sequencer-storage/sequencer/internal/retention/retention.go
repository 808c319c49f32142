// Package retention lets go of what the streams' bounds no longer ask for, and frees what nobody can read any more.
//
//	1  walk from the head over whole batches that are past a bound ──▶ catalogue: head ──▶ ledger: head (readers get "expired")
//	2  sealed extents wholly below the head: state durable past them ──▶ catalogue: floor ──▶ log: delete ──▶ catalogue: drop row
//	3  lanes of deleted streams: state, producers, extents, then the catalogue's rows
//
// Every step may be repeated after a crash between any two.
//
// Invariants:
//
//	I1  nothing above the durable state's mark is freed.
//	I2  the head is durable before anything below it is freed.
//	I3  the tail and the chain behind what was freed stay known (floor), so sequences are never reused.
package retention

import (
	"context"
	"errors"
	"log/slog"
	"time"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/reader"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// turnBatches bounds how many batches of a lane one round looks at.
const turnBatches = 20_000

// Env is what a Sweeper works on.
type Env struct {
	Engine    *engine.Engine
	Catalogue *catalogue.Catalogue
	Ledger    *ledger.Ledger
	// Stored makes the state durable and says how far it is; ok is false for a lane without one.
	Stored func(*ledger.Lane) (at lane.Sequence, ok bool, err error)
	// DropState ends the writing of a lane's state, before it returns.
	DropState func(segment.LaneNumber) error
	// Sealed is the highest segment whose extents are in the catalogue.
	Sealed func() segment.Number
	// Passed is the lowest cursor of all registered consumers of a lane; ok is false when that is not known.
	Passed func(lane.ID) (at lane.Sequence, ok bool)
	Log    *slog.Logger
}

// Sweeper sweeps. One goroutine at a time.
type Sweeper struct{ env Env }

// New makes a Sweeper.
func New(env Env) *Sweeper { return &Sweeper{env: env} }

// Run sweeps every interval until ctx ends. Trouble of one round is logged, and the next round tries again.
func (s *Sweeper) Run(ctx context.Context, interval time.Duration) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := s.Sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
				s.env.Log.Warn("retention could not finish a round; it will try again", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Sweep does one round as of now.
func (s *Sweeper) Sweep(ctx context.Context, now time.Time) error {
	var failed error
	touched := map[segment.Number]bool{}
	for _, stream := range s.env.Ledger.Streams() {
		for _, l := range stream.Lanes {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if l.Usable() != nil {
				continue // nothing of a stopped lane is touched
			}
			if err := s.advance(l, stream.Spec.GetRetention(), now); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			failed = errors.Join(failed, s.free(l, l.Standing().Head, touched))
		}
	}
	for _, stream := range s.env.Ledger.Deleted() {
		failed = errors.Join(failed, s.bury(stream, touched))
	}
	for n := range touched {
		s.env.Engine.Compact(engine.Log, segment.Key(nil, n, 0, 0), segment.Key(nil, n+1, 0, 0))
	}
	if len(touched) > 0 {
		failed = errors.Join(failed, s.env.Catalogue.DropEmptySegments())
	}
	return failed
}

// enough ends a walk.
var errEnough = errors.New("enough")

// advance is step 1.
func (s *Sweeper) advance(l *ledger.Lane, r *streamv1.Retention, now time.Time) error {
	if r.GetMaxAgeMs() == 0 && r.GetMaxBytes() == 0 && r.GetMaxRecords() == 0 && !r.GetUntilConsumed() {
		return nil
	}
	at := l.Standing()
	if at.Head > at.Tail {
		return nil
	}
	passed, known := lane.Sequence(0), false
	if r.GetUntilConsumed() {
		passed, known = s.env.Passed(l.ID)
	}
	head, freed, batches := at.Head, uint64(0), 0
	err := reader.Batches(s.env.Engine, l, at.Head, 0, func(h *batch.Header, b []byte) error {
		old := r.GetMaxAgeMs() > 0 && h.LastMS < now.UnixMilli()-int64(r.GetMaxAgeMs())
		over := r.GetMaxBytes() > 0 && at.Bytes-min(at.Bytes, freed) > r.GetMaxBytes()
		many := r.GetMaxRecords() > 0 && uint64(at.Tail-h.Last()) >= r.GetMaxRecords()
		if batches++; !old && !over && !many && !(known && h.Last() <= passed) || batches > turnBatches {
			return errEnough
		}
		head, freed = h.Next(), freed+uint64(len(b))
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if head == at.Head {
		return nil
	}
	if err := s.env.Catalogue.AdvanceHead(l.Number, head); err != nil { // I2
		return err
	}
	l.AdvanceHead(head, freed)
	return nil
}

// free is step 2 for the extents of l wholly below head.
func (s *Sweeper) free(l *ledger.Lane, head lane.Sequence, touched map[segment.Number]bool) error {
	sealed := s.env.Sealed()
	for _, x := range l.Extents() {
		if x.Last >= head || x.Segment > sealed {
			break
		}
		if l.Keyed && !l.Standing().Deleted {
			at, ok, err := s.env.Stored(l)
			if err != nil {
				return err
			}
			if !ok || at < x.Last { // I1
				return nil
			}
		}
		if err := s.env.Catalogue.RaiseFloor(l.Number, x.Last, x.Chain); err != nil { // I3
			return err
		}
		if err := Delete(s.env.Engine, s.env.Catalogue, x.Segment, l.Number); err != nil {
			return err
		}
		l.DropExtent(x.Segment)
		touched[x.Segment] = true
	}
	return nil
}

// Delete deletes a lane's batches in a segment, then the catalogue's row of them. The floor must have been raised past them.
func Delete(e *engine.Engine, c *catalogue.Catalogue, n segment.Number, l segment.LaneNumber) error {
	if err := e.DeleteRange(engine.Log, segment.Key(nil, n, l, 0), segment.Key(nil, n, l+1, 0)); err != nil {
		return err
	}
	return c.DropExtent(n, l)
}

// bury is step 3.
func (s *Sweeper) bury(stream *ledger.Stream, touched map[segment.Number]bool) error {
	left := false
	for _, l := range stream.Lanes {
		if err := s.env.DropState(l.Number); err != nil {
			return err
		}
		if err := s.wipe(engine.State, staterow.Prefix(l.Number), staterow.Prefix(l.Number+1)); err != nil {
			return err
		}
		if err := s.wipe(engine.Producers, producers.Prefix(l.Number), producers.Prefix(l.Number+1)); err != nil {
			return err
		}
		if err := s.free(l, ^lane.Sequence(0), touched); err != nil {
			return err
		}
		left = left || len(l.Extents()) > 0
	}
	if left {
		return nil // an extent in the open segment waits for its sealing
	}
	if err := s.env.Catalogue.ForgetStream(stream.ID); err != nil {
		return err
	}
	s.env.Ledger.Forget(stream.ID)
	return nil
}

// wipe deletes a range unless it is empty already.
func (s *Sweeper) wipe(f engine.Family, from, to []byte) error {
	it := s.env.Engine.Scan(f)
	some := it.Seek(from) && string(it.Key()) < string(to)
	err := it.Err()
	it.Close()
	if err != nil || !some {
		return err
	}
	return s.env.Engine.DeleteRange(f, from, to)
}

// AskedOf says in words whether a stream's bounds can be kept; for creating streams.
func AskedOf(r *streamv1.Retention) error {
	const longest = uint64(1) << 53
	if r.GetMaxAgeMs() > longest || r.GetMaxBytes() > longest || r.GetMaxRecords() > longest {
		return fault.New(fault.InvalidArgument, "a retention bound is beyond %d; give 0 for no bound", longest)
	}
	return nil
}
