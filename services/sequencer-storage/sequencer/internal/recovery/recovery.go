// Package recovery finds out at start what is there.
//
// Sealed segments are believed from the catalogue; everything behind them is read back from the log, batch by batch, and checked.
// Then each lane's tail is held against its witnesses: the tip witness, its producers' chunks and its state's mark.
//
// Invariants:
//
//	I1  a lane is only served when its log from the last sealed segment on is whole, and its tail is at or above every witness.
//	I2  trouble of one lane stops that lane, loudly; the others are served.
package recovery

import (
	"bytes"
	"errors"

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
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/tip"
)

// Found is what recovery found.
type Found struct {
	Ledger *ledger.Ledger
	// Marks are the stored states of keyed lanes.
	Marks map[segment.LaneNumber]staterow.Mark
	// Sealed is the highest sealed segment; those in (Sealed, Open) are full and were not sealed.
	Sealed, Open segment.Number
	// OpenBytes lie in Open.
	OpenBytes uint64
	// Leftovers are extents that were let go and perhaps not deleted: a crash came between.
	Leftovers []Leftover
	// Problems are lanes that were stopped, and why.
	Problems []Problem
}

// Leftover is the extent of a lane in a segment.
type Leftover struct {
	Segment segment.Number
	Lane    segment.LaneNumber
}

// Problem is a lane that is not served.
type Problem struct {
	Lane *ledger.Lane
	Err  error
}

type finder struct {
	engine  *engine.Engine
	tips    map[segment.LaneNumber]tip.Tip
	extents map[segment.LaneNumber][]segment.Extent
	found   *Found
}

// Recover reads everything. The error is for what concerns all lanes.
func Recover(e *engine.Engine, c *catalogue.Catalogue, tips map[segment.LaneNumber]tip.Tip) (*Found, error) {
	extents, sealed, err := c.Extents()
	if err != nil {
		return nil, err
	}
	streams, err := c.Streams()
	if err != nil {
		return nil, err
	}
	newest, err := newestSegment(e, sealed)
	if err != nil {
		return nil, err
	}
	r := finder{engine: e, tips: tips, extents: extents, found: &Found{
		Ledger: ledger.New(), Marks: map[segment.LaneNumber]staterow.Mark{}, Sealed: sealed, Open: max(newest, sealed+1),
	}}
	for i := range streams {
		s := &streams[i]
		stream := &ledger.Stream{ID: s.ID, Spec: s.Spec, CreatedMS: s.CreatedMS, DigestSeed: s.DigestSeed}
		for _, row := range s.Lanes {
			l, err := r.lane(s, row)
			if err != nil {
				return nil, err
			}
			stream.Lanes = append(stream.Lanes, l)
		}
		if s.Deleted {
			r.found.Ledger.AddDeleted(stream)
		} else {
			r.found.Ledger.Add(stream)
		}
	}
	return r.found, nil
}

// newestSegment gives the highest segment with a batch in it, 0 when there is none. Damage on the way does not keep it from finding
// out: a damaged block counts as a segment, and reading it stops the lanes in it (I2).
func newestSegment(e *engine.Engine, sealed segment.Number) (newest segment.Number, err error) {
	for n := sealed + 1; ; n = max(n, newest) + 1 {
		it := e.Scan(engine.Log)
		found := it.Seek(segment.Key(nil, n, 0, 0))
		var key []byte
		if found {
			key = bytes.Clone(it.Key())
		}
		err := it.Err()
		it.Close()
		switch {
		case errors.Is(err, fault.Corrupt):
			newest = n
		case err != nil:
			return 0, err
		case !found:
			return newest, nil
		default:
			at, _, _, ok := segment.ParseKey(key)
			if !ok {
				return 0, fault.New(fault.Corrupt, "the log holds a key of %d bytes, and keys have %d", len(key), segment.KeyBytes)
			}
			newest = at
		}
	}
}

// lane recovers one lane; what is wrong with it stops it (I2).
func (r *finder) lane(s *catalogue.Stream, row catalogue.Lane) (*ledger.Lane, error) {
	l := &ledger.Lane{
		ID: lane.ID{Stream: s.ID, Partition: row.Partition}, Number: row.Number, Stream: lane.StreamName(s.Spec.GetName()),
		Keyed: s.Spec.GetKeyed(), Seed: s.DigestSeed, Epoch: row.Epoch, Producers: producers.NewIndex(row.Number),
	}
	tail, chain := row.Floor, row.FloorChain
	var extents []segment.Extent
	for _, x := range r.extents[row.Number] {
		if x.Last <= row.Floor {
			r.found.Leftovers = append(r.found.Leftovers, Leftover{x.Segment, row.Number})
			continue
		}
		extents = append(extents, x)
		tail, chain = x.Last, x.Chain
	}
	var trouble error
	for n := r.found.Sealed + 1; n <= r.found.Open && trouble == nil; n++ {
		x := segment.Extent{Segment: n}
		tail, chain, trouble = r.scan(l, &x, tail, chain)
		if x.First != 0 {
			extents = append(extents, x)
		}
		if n == r.found.Open {
			r.found.OpenBytes += x.Bytes
		}
	}
	l.Restore(max(row.Head, row.Floor+1), tail, chain, extents)
	if s.Deleted {
		return l, nil
	}
	if trouble == nil {
		trouble = r.producers(l)
	}
	if trouble == nil {
		trouble = r.witness(l, tail, chain)
	}
	if trouble == nil && l.Keyed {
		trouble = r.mark(l, row.Floor, tail)
	}
	if trouble != nil {
		l.Stop(trouble)
		r.found.Problems = append(r.found.Problems, Problem{l, trouble})
	}
	return l, nil
}

// scan reads a lane's batches in segment x back, which are to follow tail and chain.
func (r *finder) scan(l *ledger.Lane, x *segment.Extent, tail lane.Sequence, chain batch.Chain) (lane.Sequence, batch.Chain, error) {
	it := r.engine.Scan(engine.Log)
	defer it.Close()
	for ok := it.Seek(segment.Key(nil, x.Segment, l.Number, 0)); ok; ok = it.Next() {
		n, number, base, known := segment.ParseKey(it.Key())
		if !known || n != x.Segment || number != l.Number {
			break
		}
		b := it.Value()
		h, err := reader.Check(b, l.ID)
		switch {
		case err != nil:
			return tail, chain, err
		case h.Base != base || base != tail+1:
			return tail, chain, fault.New(fault.Corrupt, "after sequence %d comes a batch at %d that says it begins at %d", tail, base, h.Base)
		case h.Previous != chain || h.Epoch != l.Epoch:
			return tail, chain, fault.New(fault.Corrupt, "the batch at sequence %d does not follow the one before it: the chain is broken", base)
		}
		chain = batch.ChainOf(b)
		x.Grow(&h, len(b), chain)
		tail = h.Last()
	}
	return tail, chain, it.Err()
}

// producers loads what the lane knows of its producers.
func (r *finder) producers(l *ledger.Lane) error {
	it := r.engine.Scan(engine.Producers)
	defer it.Close()
	prefix := producers.Prefix(l.Number)
	for ok := it.Seek(prefix); ok && len(it.Key()) > 4 && string(it.Key()[:4]) == string(prefix); ok = it.Next() {
		if err := l.Producers.Load(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// witness keeps I1.
func (r *finder) witness(l *ledger.Lane, tail lane.Sequence, chain batch.Chain) error {
	t, ok := r.tips[l.Number]
	switch {
	case ok && t.Epoch == l.Epoch && t.Tail > tail:
		return lost("the tip witness", t.Tail, tail)
	case ok && t.Epoch == l.Epoch && t.Tail == tail && t.Chain != chain:
		return fault.New(fault.Corrupt, "the tip witness saw another batch at sequence %d than the log has", tail)
	case l.Producers.Highest() > tail:
		return lost("a producer's last append", l.Producers.Highest(), tail)
	}
	return nil
}

func (r *finder) mark(l *ledger.Lane, floor, tail lane.Sequence) error {
	stored, found, err := r.engine.Get(engine.State, staterow.MarkKey(l.Number), nil)
	if err != nil {
		return err
	}
	m := staterow.Mark{Epoch: l.Epoch}
	if found {
		if m, err = staterow.ParseMark(stored); err != nil {
			return err
		}
	}
	switch {
	case m.Sequence > tail:
		return lost("the state", m.Sequence, tail)
	case m.Sequence < floor:
		return fault.New(fault.Corrupt, "the state is at sequence %d, and the log begins behind %d: it cannot be brought up", m.Sequence, floor)
	}
	r.found.Marks[l.Number] = m
	return nil
}

func lost(witness string, claimed, tail lane.Sequence) error {
	return fault.New(fault.LaneStopped, "%s says sequence %d was acknowledged, and the log ends at %d: acknowledged records are missing", witness, claimed, tail)
}
