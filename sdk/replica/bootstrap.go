package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// progressEvery spaces the reports of a bootstrap out.
const progressEvery = 100 * time.Millisecond

// bootstrap builds a new generation from the provider's state, every partition at a sequence of its own, and swaps it in (I4). The
// generation before is read and kept until then, and after a failure.
func (r *Replica) bootstrap(ctx context.Context, k *link) error {
	began := time.Now()
	r.progress(Progress{Phase: Receiving})
	k.report(ctx)
	build, err := r.place.NewBuild(ctx, r.meta)
	if err != nil {
		return err
	}
	defer build.Abandon() // after Publish it does nothing
	progress := bootstrapProgress{r: r}
	lanes := make([]store.Lane, r.meta.Partitions)
	for p := range lanes {
		d, err := k.Bootstrap(ctx, &deliveryv1.BootstrapRequest{Stream: r.cfg.Stream, Partition: uint32(p)})
		if err != nil {
			return err
		}
		lanes[p], err = readState(ctx, d, r.meta, lane.Partition(p), func(rows *state.Reader, count uint32) error {
			err := build.Insert(func(rec *record.Record) bool { return rows.Next(rec) })
			progress.add(uint64(count))
			return err
		}, progress.expect)
		d.Close()
		if err != nil {
			return err
		}
	}
	r.progress(Progress{Phase: Building, Done: progress.done, Expected: progress.expected})
	lost, err := build.Publish(ctx, store.Finish{Lanes: lanes, Previous: r.previous, Rebuild: r.cfg.Rebuild})
	if errors.Is(err, store.ErrUnproven) {
		return fault.New(fault.Corrupt, "the new generation was not put in place; the replica is as it was, and the state is read again: %w", err)
	}
	if err != nil {
		return err
	}
	r.enter(Swapping)
	if err := r.swap(ctx, lost); err != nil {
		return err
	}
	took := time.Since(began)
	r.tell(Event{Kind: Bootstrapped, Why: fmt.Sprintf("%d rows in %v, verified", progress.done, took.Round(time.Millisecond))})
	k.ackDue = true
	return nil
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
	r.why = ""
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
	if held, err := r.place.Clean(); err != nil {
		r.cfg.Log.Warn("replica: an old generation is still there", "error", err)
	} else if held > 0 {
		r.cfg.Log.Debug("replica: old generations are still being read", "held", held)
	}
	return nil
}

// bootstrapProgress adds up the rows of all partitions.
type bootstrapProgress struct {
	r              *Replica
	done, expected uint64
	told           time.Time
}

func (b *bootstrapProgress) expect(rows uint64) {
	b.expected += rows
	b.add(0)
}

func (b *bootstrapProgress) add(rows uint64) {
	b.done += rows
	if time.Since(b.told) >= progressEvery {
		b.told = time.Now()
		b.r.progress(Progress{Phase: Receiving, Done: b.done, Expected: b.expected})
	}
}

// readState reads a bootstrap of one partition: opening, chunks, ending. It hands every chunk to take, checks what it can without
// the rows on disk, and answers what they must prove to be.
func readState(ctx context.Context, d *session.Deliveries, m store.Meta, p lane.Partition, take func(rows *state.Reader, count uint32) error, expect func(uint64)) (store.Lane, error) {
	opening, _, err := nextStep(ctx, d, deliveryv1.Delivery_BOOTSTRAP_STEP_OPENING)
	if err != nil {
		return store.Lane{}, err
	}
	at, ok := markOf(opening.GetDigest())
	if !ok {
		return store.Lane{}, fault.New(fault.Malformed, "the bootstrap of partition %d opens without a digest", p)
	}
	expect(at.set.Count)
	h := digest.NewHasher(m.DigestSeed)
	var got digest.Set
	for {
		step, data, err := nextStep(ctx, d, deliveryv1.Delivery_BOOTSTRAP_STEP_CHUNK)
		if err != nil {
			return store.Lane{}, err
		}
		if step.GetStep() == deliveryv1.Delivery_BOOTSTRAP_STEP_ENDING {
			ending, ok := markOf(step.GetDigest())
			if ok && ending != at {
				return store.Lane{}, fault.New(fault.Malformed, "the bootstrap of partition %d begins at %v with digest %v and ends at %v with %v", p, at.at, at.set, ending.at, ending.set)
			}
			break
		}
		if batch.CRC(data) != step.GetCrc() {
			return store.Lane{}, fault.New(fault.Corrupt, "a chunk of the bootstrap of partition %d fails its checksum", p)
		}
		rows := state.NewReader(data)
		var rec record.Record
		var count uint32
		for rows.Next(&rec) {
			got.Add(h.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value))
			count++
		}
		if rows.Err() != nil || count != step.GetRows() {
			return store.Lane{}, fault.New(fault.Malformed, "a chunk of the bootstrap of partition %d declares %d rows and holds %d: %w", p, step.GetRows(), count, rows.Err())
		}
		rows = state.NewReader(data)
		if err := take(&rows, count); err != nil {
			return store.Lane{}, err
		}
	}
	if got != at.set {
		return store.Lane{}, fault.New(fault.Corrupt, "the rows of the bootstrap of partition %d at %v have digest %v, and the provider's is %v", p, at.at, got, at.set)
	}
	return store.Lane{Partition: p, Cursor: at.at, Set: at.set}, nil
}

// nextStep gives the next bootstrap delivery, which must be of the wanted step, or the ending where a chunk is wanted.
func nextStep(ctx context.Context, d *session.Deliveries, want deliveryv1.Delivery_BootstrapStep) (*deliveryv1.Delivery, []byte, error) {
	for {
		step, data, err := d.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil, nil, fault.New(fault.Unavailable, "the bootstrap ended before its end")
		}
		if err != nil {
			return nil, nil, err
		}
		if step.GetKind() == deliveryv1.Delivery_KIND_STATUS {
			continue
		}
		if step.GetKind() != deliveryv1.Delivery_KIND_BOOTSTRAP || step.GetStep() != want && step.GetStep() != deliveryv1.Delivery_BOOTSTRAP_STEP_ENDING {
			return nil, nil, fault.New(fault.Malformed, "the bootstrap sent %v %v where %v belongs", step.GetKind(), step.GetStep(), want)
		}
		return step, data, nil
	}
}
