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
	Rows, Tombstones        uint64
	Replayed                int // lanes whose state was compared with a replay of their whole log
	Problems                []string
}

// Lines gives the report for people.
func (r *Report) Lines() []string {
	lines := []string{fmt.Sprintf("%d streams, %d lanes: %d batches, %d records, %d bytes; %d state rows, %d tombstones, %d states replayed from the log", r.Streams, r.Lanes, r.Batches, r.Records, r.Bytes, r.Rows, r.Tombstones, r.Replayed)}
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
	stored, dead, err := sum(e, l)
	r.Rows += stored.Count
	r.Tombstones += uint64(len(dead))
	if err == nil {
		err = tombstones(e, l, &mark, dead)
	}
	switch {
	case err != nil:
		return err
	case stored != mark.Set:
		return fmt.Errorf("the state at sequence %d has digest %v by its mark and %v by its rows", mark.Sequence, mark.Set, stored)
	case replay.whole && replay.set != stored:
		return fmt.Errorf("the state at sequence %d has digest %v, and a replay of the log gives %v", mark.Sequence, stored, replay.set)
	}
	if replay.whole {
		for key, at := range replay.dead {
			if at > mark.Floor && dead[key].sequence != at {
				return fmt.Errorf("key %.60q was deleted at sequence %d, and there is no tombstone of it", key, at)
			}
		}
		r.Replayed++
	}
	return nil
}

// tombstone is what stands where a row stood.
type tombstone struct {
	sequence lane.Sequence
	timeMS   int64
}

// tombstones compares those by order with those by key, and both with the mark.
func tombstones(e *engine.Engine, l *ledger.Lane, mark *staterow.Mark, dead map[string]tombstone) error {
	it := e.Scan(engine.State)
	defer it.Close()
	n := uint64(0)
	for ok := it.Seek(staterow.OrderKey(nil, l.Number, 0)); ok && staterow.IsOrder(it.Key(), l.Number); ok = it.Next() {
		t, err := staterow.ParseOrder(it.Key(), it.Value())
		if err != nil {
			return err
		}
		n++
		if t.Sequence <= mark.Floor || t.Sequence > mark.Sequence {
			return fmt.Errorf("a tombstone is of sequence %d, outside (%d, %d]", t.Sequence, mark.Floor, mark.Sequence)
		}
		if d, ok := dead[string(t.Key)]; !ok || d != (tombstone{t.Sequence, t.TimeMS}) {
			return fmt.Errorf("the tombstone of key %.60q at sequence %d does not stand where its row stood", t.Key, t.Sequence)
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if n != uint64(len(dead)) || n != mark.Tombstones {
		return fmt.Errorf("the state at sequence %d has %d tombstones by key, %d by order and %d by its mark", mark.Sequence, len(dead), n, mark.Tombstones)
	}
	return nil
}

// sum hashes every stored row of l anew and gathers the tombstones by key.
func sum(e *engine.Engine, l *ledger.Lane) (set digest.Set, dead map[string]tombstone, err error) {
	dead = map[string]tombstone{}
	it := e.Scan(engine.State)
	defer it.Close()
	h := digest.NewHasher(l.Seed)
	for ok := it.Seek(staterow.RowKey(nil, l.Number, nil)); ok && staterow.IsRow(it.Key(), l.Number); ok = it.Next() {
		if at, timeMS, ok := staterow.SplitTombstone(it.Value()); ok {
			dead[string(it.Key()[len(staterow.RowKey(nil, 0, nil)):])] = tombstone{at, timeMS}
			continue
		}
		element, err := staterow.CheckRow(it.Key(), it.Value(), h)
		if err != nil {
			return set, dead, err
		}
		set.Add(element)
	}
	return set, dead, it.Err()
}

// replay makes the state anew from the log, keeping one element per key.
type replay struct {
	whole  bool
	keyed  bool
	hasher *digest.Hasher
	by     map[string]digest.Element
	dead   map[string]lane.Sequence
	set    digest.Set
}

func newReplay(l *ledger.Lane) *replay {
	return &replay{whole: true, keyed: l.Keyed, hasher: digest.NewHasher(l.Seed), by: map[string]digest.Element{}, dead: map[string]lane.Sequence{}}
}

func (p *replay) apply(r *record.Record, until lane.Sequence) {
	if !p.keyed || !p.whole || r.Sequence > until {
		return
	}
	old, lived := p.by[string(r.Key)]
	if lived {
		p.set.Remove(old)
		delete(p.by, string(r.Key))
	}
	if r.Tombstone {
		if lived {
			p.dead[string(r.Key)] = r.Sequence
		}
		return
	}
	delete(p.dead, string(r.Key))
	e := p.hasher.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
	p.set.Add(e)
	p.by[string(r.Key)] = e
}
