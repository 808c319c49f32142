package snapshot

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

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
