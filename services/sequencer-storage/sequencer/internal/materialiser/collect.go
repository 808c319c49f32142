package materialiser

import (
	"errors"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

const (
	// collectInterval is the time between two looks at the tombstones.
	collectInterval = time.Second
	// collectTurn bounds the tombstones let go in one turn: as many as one can make.
	collectTurn = turnRecords
)

// collect lets tombstones go that nobody needs any more or that are beyond the bounds, oldest first, and raises the floor over them
// (I5). It reports whether more are due now.
func (m *Materialiser) collect() (more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.env.Now()
	if now.Sub(m.collected) < collectInterval {
		return false, nil
	}
	defer m.tally()
	left := collectTurn
	for _, f := range m.lanes {
		if f.tombstones == 0 || f.lane.Usable() != nil {
			continue
		}
		if left == 0 {
			return true, nil
		}
		n, err := m.collectLane(f, now, left)
		if errors.Is(err, fault.Corrupt) { // I3
			f.lane.Stop(err)
			m.forget(f.lane.Number)
			m.env.Log.Error("a lane is stopped: its state is damaged", "stream", f.lane.Stream, "partition", f.lane.ID.Partition, "error", err)
			continue
		}
		if err != nil {
			return false, err
		}
		left -= n
	}
	if left == 0 {
		return true, nil
	}
	m.collected = now
	return false, nil
}

// tally adds up what is kept. Callers hold mu.
func (m *Materialiser) tally() {
	kept, oldest := int64(0), m.env.Now().UnixMilli()
	for _, f := range m.lanes {
		if f.tombstones > 0 {
			kept, oldest = kept+int64(f.tombstones), min(oldest, f.oldestMS)
		}
	}
	m.kept.Store(kept)
	m.oldestMS.Store(oldest)
}

// Tombstones counts those that are kept, and says for how long the oldest one has been, as of the last look through them.
func (m *Materialiser) Tombstones() (n int64, oldest time.Duration) {
	if n = m.kept.Load(); n > 0 {
		oldest = max(0, m.env.Now().Sub(time.UnixMilli(m.oldestMS.Load())))
	}
	return n, oldest
}

// collectLane lets at most limit tombstones of f go and counts them. Callers hold mu.
func (m *Materialiser) collectLane(f *follower, now time.Time, limit int) (n int, err error) {
	passed, known := m.env.Passed(f.lane.ID)
	oldest := now.Add(-m.cfg.TombstoneMaxAge).UnixMilli()
	due := func(t *staterow.Tombstone) bool {
		f.oldestMS = t.TimeMS
		return known && t.Sequence <= passed || t.TimeMS < oldest || f.tombstones > m.cfg.TombstoneMaxCount
	}
	if some, err := m.firstTombstone(f, due); err != nil || !some {
		return 0, err
	}
	if err := m.flush(); err != nil { // what is stored is now what is in memory, and nothing pending can bring a tombstone back
		return 0, err
	}
	var write engine.Batch
	var gone []staterow.Tombstone
	l := f.lane.Number
	err = m.tombstones(f, func(t *staterow.Tombstone) bool {
		if len(gone) == limit || !due(t) {
			return false
		}
		key := append([]byte(nil), t.Key...)
		gone = append(gone, staterow.Tombstone{Key: key, Sequence: t.Sequence})
		write.Delete(engine.State, staterow.OrderKey(nil, l, t.Sequence))
		write.Delete(engine.State, staterow.RowKey(nil, l, key))
		f.tombstones--
		return true
	})
	if err == nil && len(gone) > 0 {
		was := f.floor
		f.floor = gone[len(gone)-1].Sequence
		write.Put(engine.State, staterow.MarkKey(l), f.mark().Encode()) // I1: the same sequence, with the floor it has now
		if err = m.env.Engine.WriteLight(&write); err != nil {
			f.floor = was
		}
	}
	if err != nil {
		f.tombstones += uint64(len(gone))
		return 0, err
	}
	for _, t := range gone {
		if m.elements.remove(l, m.ids.of(t.Key)) {
			f.remembered--
		}
	}
	return len(gone), nil
}

// firstTombstone reports whether the oldest stored tombstone is due.
func (m *Materialiser) firstTombstone(f *follower, due func(*staterow.Tombstone) bool) (yes bool, err error) {
	err = m.tombstones(f, func(t *staterow.Tombstone) bool { yes = due(t); return false })
	return yes, err
}

// tombstones visits those stored above the floor, oldest first, while visit says true. It begins behind what was let go: the engine
// would have to step over all of that.
func (m *Materialiser) tombstones(f *follower, visit func(*staterow.Tombstone) bool) error {
	it := m.env.Engine.Scan(engine.State)
	defer it.Close()
	for ok := it.Seek(staterow.OrderKey(nil, f.lane.Number, f.floor+1)); ok && staterow.IsOrder(it.Key(), f.lane.Number); ok = it.Next() {
		t, err := staterow.ParseOrder(it.Key(), it.Value())
		if err != nil {
			return err
		}
		if !visit(&t) {
			return nil
		}
	}
	return it.Err()
}
