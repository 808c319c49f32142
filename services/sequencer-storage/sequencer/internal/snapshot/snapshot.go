// Package snapshot reads the state of a lane at exactly one sequence.
//
// Invariants:
//
//	I1  the rows are those of the mark, because both are read in one RocksDB snapshot and were written as one write.
//	I2  the rows come with the digest elements they were stored with, so that whoever takes them all can tell whether they are the mark's.
//	I3  the tombstones are those of the same moment, and all above the mark's floor.
package snapshot

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
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

// Rows visits all rows, rising by key, with their digest elements as they were stored; whoever adds those up compares them with the
// Mark. The slices are valid during the call. Fault: Corrupt.
func (s *Snapshot) Rows(visit func(e digest.Element, key []byte, sequence lane.Sequence, row []byte) error) error {
	it := s.snap.Scan()
	defer it.Close()
	var rec record.Record
	for ok := it.Seek(staterow.RowKey(nil, s.lane.Number, nil)); ok && staterow.IsRow(it.Key(), s.lane.Number); ok = it.Next() {
		if _, _, dead := staterow.SplitTombstone(it.Value()); dead {
			continue
		}
		e, row, err := staterow.SplitRow(it.Value())
		if err != nil {
			return err
		}
		if r := state.NewReader(row); !r.Next(&rec) {
			return fault.New(fault.Corrupt, "a stored state row does not decode: %w", r.Err())
		}
		if err := visit(e, rec.Key, rec.Sequence, row); err != nil {
			return err
		}
	}
	return it.Err()
}

// Tombstones visits all above sequence after, rising by sequence. Their keys are valid during the call. Faults: Expired when some of
// those asked for were let go, Corrupt when there are not as many as the mark says.
func (s *Snapshot) Tombstones(after lane.Sequence, visit func(*staterow.Tombstone) error) error {
	if after < s.mark.Floor {
		return fault.New(fault.Expired, "what was deleted behind sequence %d is only known behind %d; compare all rows", after, s.mark.Floor)
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
