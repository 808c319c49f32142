package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/spool"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// progressEvery spaces the reports of a bootstrap out.
const progressEvery = 100 * time.Millisecond

// bootstrap builds a new generation from snapshots of the provider's state, every partition at a sequence of its own, and swaps it in (I4).
// The generation before is kept until then, and after a failure; so are the chunks that came (I9).
func (r *Replica) bootstrap(ctx context.Context, k *link) error {
	began := time.Now()
	defer r.climbing(RungBootstrap)()
	if err := r.withdraw(); err != nil {
		return err
	}
	r.progress(Progress{Phase: Receiving})
	k.report(ctx)
	spools, err := r.spools(ctx, k)
	defer closeSpools(spools)
	if err != nil {
		return err
	}
	if err := r.place.CheckRoom(needOf(spools)); err != nil {
		return err
	}
	build, err := r.place.NewBuild(r.meta)
	if err != nil {
		return err
	}
	defer build.Abandon() // after Publish it does nothing
	received, err := r.receive(ctx, k, spools, build)
	var lost []string
	if err == nil {
		received.Phase = Building
		r.progress(received)
		lost, err = build.Publish(ctx, store.Finish{Lanes: lanesOf(spools), Previous: r.previous, Rebuild: r.cfg.Rebuild})
	}
	if errors.Is(err, store.ErrUnproven) {
		return r.refuse(err)
	}
	if err != nil {
		return err
	}
	r.enter(Swapping)
	r.update(func(s *Status) {
		s.Rung, s.MovedRows, s.MovedBytes = RungBootstrap, s.MovedRows+received.Done, s.MovedBytes+received.DoneBytes
	})
	if err := r.swap(ctx, lost); err != nil {
		return err
	}
	if err := spool.Clear(r.place.Dir()); err != nil {
		r.cfg.Log.Warn("replica: the chunks of the bootstrap are still there", "error", err)
	}
	took := time.Since(began)
	r.tell(Event{Kind: Bootstrapped, Why: fmt.Sprintf("%d rows, verified; %s", received.Done, movedIn(received.DoneBytes, took))})
	k.ackDue = true
	return nil
}

// withdraw keeps queries from the old generation when that was asked for.
func (r *Replica) withdraw() error {
	if r.gen == nil {
		return nil // there is nothing to read
	}
	switch r.cfg.Reads {
	case ServeStale:
	case BlockReads:
		r.reader.Hold()
	case ClearFirst:
		r.reader.Refuse()
		return r.place.Clear()
	}
	return nil
}

// refuse gives up a build whose rows are not the provider's. The chunks had their hashes, so they are not asked for again as they are.
func (r *Replica) refuse(err error) error {
	r.tell(Event{Kind: BuildRefused, Why: err.Error()})
	if clearErr := spool.Clear(r.place.Dir()); clearErr != nil {
		r.cfg.Log.Warn("replica: the chunks of the build that was refused are still there", "error", clearErr)
	}
	return fault.New(fault.Corrupt, "the new generation was not put in place; the replica is as it was, and the state is read again: %w", err)
}

// lanesOf gives where the new generation will stand, and what its rows must prove to be.
func lanesOf(spools []*spool.Spool) []store.Lane {
	lanes := make([]store.Lane, len(spools))
	for p, s := range spools {
		lanes[p] = store.Lane{Partition: lane.Partition(p), Cursor: s.Manifest.At, TimeMS: s.Manifest.AtTimeMS, Set: s.Manifest.Set}
	}
	return lanes
}

// needOf says how much room the bootstrap takes.
func needOf(spools []*spool.Spool) store.Need {
	var n store.Need
	for _, s := range spools {
		n.Spool += s.Manifest.RowBytes() - s.Bytes()
		n.Rows += s.Manifest.Set.Count
		for i := range s.Manifest.Rows {
			n.RawBytes += uint64(s.Manifest.Rows[i].RawBytes)
		}
	}
	return n
}

// swap opens the generation that was published and lets go of the one before.
func (r *Replica) swap(ctx context.Context, lost []string) error {
	if len(lost) > 0 && r.previous != "" {
		if err := store.Keep(r.previous); err != nil {
			return err
		}
		r.tell(Event{Kind: ObjectsLost, Why: fmt.Sprintf("these could not be carried over from %s, which is kept: %s", r.previous, strings.Join(lost, "; "))})
	}
	file, err := r.place.Current()
	if err != nil {
		return err
	}
	gen, lanes, err := store.Open(ctx, file, lane.StreamName(r.cfg.Stream))
	if err != nil {
		return err
	}
	old := r.gen
	r.take(gen, lanes)
	for _, l := range r.lanes {
		l.verified = l.Cursor // Publish has compared it
		l.tail, l.tailKnown = l.Cursor.Sequence, true
	}
	r.need = need{}
	r.scrub.stop()
	r.watchers.publish([]Change{{Kind: Rebuilt}})
	r.update(func(s *Status) {
		s.Bootstraps++
		s.Verified += uint64(len(r.lanes))
	})
	r.publishLanes()
	if old != nil {
		if err := old.Close(); err != nil {
			r.cfg.Log.Warn("replica: the generation before did not close", "error", err)
		}
	}
	r.tidy()
	return nil
}

// tidy removes the old generations that nobody reads any more, and remembers whether there are others.
func (r *Replica) tidy() {
	held, err := r.place.Clean()
	if err != nil {
		r.cfg.Log.Warn("replica: an old generation is still there", "error", err)
	}
	r.held = held > 0
}
