// Package snapshot reads the state of a lane at exactly one sequence.
//
// Invariants:
//
//	I1  the rows are those of the mark, because both are read in one RocksDB snapshot and were written as one write.
//	I2  rows whose digest elements do not add up to the mark are said to be corrupt before the reader is told it has all.
//	I3  the tombstones are those of the same moment, and all above the mark's floor.
package snapshot

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// Snapshot is a pinned state. Close it.
type Snapshot struct {
	lane *ledger.Lane
	snap *engine.Snapshot
	mark staterow.Mark
}

// Take pins the stored state of l.
func Take(e *engine.Engine, l *ledger.Lane) (*Snapshot, error) {
	s := &Snapshot{lane: l, snap: e.Snapshot(engine.State), mark: staterow.Mark{Epoch: l.Epoch}}
	stored, found, err := s.snap.Get(staterow.MarkKey(l.Number), nil)
	if err == nil && found {
		s.mark, err = staterow.ParseMark(stored)
	}
	if err != nil {
		s.snap.Close()
		return nil, err
	}
	return s, nil
}

// Mark says what the state is and will prove to be.
func (s *Snapshot) Mark() staterow.Mark { return s.mark }

// Close unpins.
func (s *Snapshot) Close() { s.snap.Close() }

// Chunks gives all rows, rising by key, in chunks of about state.TargetChunkBytes. A chunk is the callee's to keep.
func (s *Snapshot) Chunks(send func(rows []byte, count uint32) error) error {
	it := s.snap.Scan()
	defer it.Close()
	var chunk []byte
	var count uint32
	var set digest.Set
	for ok := it.Seek(staterow.RowKey(nil, s.lane.Number, nil)); ok && staterow.IsRow(it.Key(), s.lane.Number); ok = it.Next() {
		if _, _, dead := staterow.SplitTombstone(it.Value()); dead {
			continue
		}
		e, row, err := staterow.SplitRow(it.Value())
		if err != nil {
			return err
		}
		set.Add(e)
		if chunk == nil {
			chunk = make([]byte, 0, state.TargetChunkBytes+len(row))
		}
		chunk = append(chunk, row...)
		if count++; len(chunk) >= state.TargetChunkBytes {
			if err := send(chunk, count); err != nil {
				return err
			}
			chunk, count = nil, 0
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if set != s.mark.Set { // I2
		return fault.New(fault.Corrupt, "the stored state at sequence %d has digest %v, and its rows have %v", s.mark.Sequence, s.mark.Set, set)
	}
	if count > 0 {
		return send(chunk, count)
	}
	return nil
}

// Tombstones visits all above sequence after, rising by sequence. Their keys are valid during the call. Faults: Expired when some of
// those asked for were let go, Corrupt when there are not as many as the mark says.
func (s *Snapshot) Tombstones(after lane.Sequence, visit func(*staterow.Tombstone) error) error {
	if after < s.mark.Floor {
		return fault.New(fault.Expired, "what was deleted behind sequence %d is only known behind %d; bootstrap", after, s.mark.Floor)
	}
	it := s.snap.Scan()
	defer it.Close()
	n := uint64(0)
	for ok := it.Seek(staterow.OrderKey(nil, s.lane.Number, after+1)); ok && staterow.IsOrder(it.Key(), s.lane.Number); ok = it.Next() {
		t, err := staterow.ParseOrder(it.Key(), it.Value())
		if err != nil {
			return err
		}
		n++
		if err := visit(&t); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if n > s.mark.Tombstones || after == s.mark.Floor && n != s.mark.Tombstones { // I3
		return fault.New(fault.Corrupt, "the stored state at sequence %d has %d tombstones behind sequence %d, and %d by its mark", s.mark.Sequence, n, after, s.mark.Tombstones)
	}
	return nil
}
