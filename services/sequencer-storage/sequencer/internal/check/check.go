// Package check verifies a stopped data directory by reading all of it.
//
// Invariants:
//
//	I1  nothing is written but the engine's own text log.
//	I2  damage of one lane does not keep the others from being checked, and every problem names its lane and sequence.
package check

import (
	"context"
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/reader"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/recovery"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/tip"
)

// Report is what was looked at and what is wrong.
type Report struct {
	Streams, Lanes          int
	Batches, Records, Bytes uint64
	Rows                    uint64
	Replayed                int // lanes whose state was compared with a replay of their whole log
	Problems                []string
}

// Lines gives the report for people.
func (r *Report) Lines() []string {
	lines := []string{fmt.Sprintf("%d streams, %d lanes: %d batches, %d records, %d bytes; %d state rows, %d states replayed from the log", r.Streams, r.Lanes, r.Batches, r.Records, r.Bytes, r.Rows, r.Replayed)}
	for _, p := range r.Problems {
		lines = append(lines, "problem: "+p)
	}
	if len(r.Problems) == 0 {
		lines = append(lines, "clean")
	}
	return lines
}

func (r *Report) problem(l *ledger.Lane, err error) {
	r.Problems = append(r.Problems, fmt.Sprintf("stream %q partition %d: %v", l.Stream, l.ID.Partition, err))
}

// Directory checks what the three files hold.
func Directory(ctx context.Context, e *engine.Engine, c *catalogue.Catalogue, tips map[segment.LaneNumber]tip.Tip) (*Report, error) {
	found, err := recovery.Recover(e, c, tips)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	for _, p := range found.Problems {
		r.problem(p.Lane, p.Err)
	}
	for _, s := range found.Ledger.Streams() {
		r.Streams++
		for _, l := range s.Lanes {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r.Lanes++
			if err := r.lane(ctx, e, l, found.Marks[l.Number]); err != nil {
				r.problem(l, err)
			}
		}
	}
	return r, nil
}

// lane reads the log of l from the head on, and its state.
func (r *Report) lane(ctx context.Context, e *engine.Engine, l *ledger.Lane, mark staterow.Mark) error {
	at := l.Standing()
	replay := newReplay(l)
	first := true
	err := reader.Batches(e, l, at.Head, 0, func(h *batch.Header, b []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if first && h.Base != 1 {
			replay.whole = false
		}
		first = false
		r.Batches++
		r.Bytes += uint64(len(b))
		return batch.Walk(b, nil, func(rec *record.Record) error {
			r.Records++
			replay.apply(rec, mark.Sequence)
			return nil
		})
	})
	if err != nil {
		return err
	}
	if at.Head != 1 {
		replay.whole = false
	}
	if !l.Keyed {
		return nil
	}
	stored, rows, err := sum(e, l)
	r.Rows += rows
	switch {
	case err != nil:
		return err
	case stored != mark.Set:
		return fmt.Errorf("the state at sequence %d has digest %v by its mark and %v by its rows", mark.Sequence, mark.Set, stored)
	case replay.whole && replay.set != stored:
		return fmt.Errorf("the state at sequence %d has digest %v, and a replay of the log gives %v", mark.Sequence, stored, replay.set)
	}
	if replay.whole {
		r.Replayed++
	}
	return nil
}

// sum hashes every stored row of l anew.
func sum(e *engine.Engine, l *ledger.Lane) (set digest.Set, rows uint64, err error) {
	it := e.Scan(engine.State)
	defer it.Close()
	h := digest.NewHasher(l.Seed)
	for ok := it.Seek(staterow.RowKey(nil, l.Number, nil)); ok && staterow.IsRow(it.Key(), l.Number); ok = it.Next() {
		element, err := staterow.CheckRow(it.Key(), it.Value(), h)
		if err != nil {
			return set, rows, err
		}
		rows++
		set.Add(element)
	}
	return set, rows, it.Err()
}

// replay makes the state anew from the log, keeping one element per key.
type replay struct {
	whole  bool
	keyed  bool
	hasher *digest.Hasher
	by     map[string]digest.Element
	set    digest.Set
}

func newReplay(l *ledger.Lane) *replay {
	return &replay{whole: true, keyed: l.Keyed, hasher: digest.NewHasher(l.Seed), by: map[string]digest.Element{}}
}

func (p *replay) apply(r *record.Record, until lane.Sequence) {
	if !p.keyed || !p.whole || r.Sequence > until {
		return
	}
	if old, ok := p.by[string(r.Key)]; ok {
		p.set.Remove(old)
		delete(p.by, string(r.Key))
	}
	if r.Tombstone {
		return
	}
	e := p.hasher.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
	p.set.Add(e)
	p.by[string(r.Key)] = e
}
