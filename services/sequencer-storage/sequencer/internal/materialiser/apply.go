package materialiser

import (
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// step is one record of a batch that is being applied, and what its key had before the batch.
type step struct {
	record record.Record
	id     keyID
	old    known
}

// apply takes one batch into the window and the digest: all of it, or on an error nothing.
func (m *Materialiser) apply(f *follower, h *batch.Header, b []byte) error {
	if err := m.decode(h, b); err != nil {
		return err
	}
	if err := m.lookUp(f); err != nil {
		return err
	}
	if m.window.oldest.IsZero() {
		m.window.oldest = time.Now()
	}
	nowMS := m.env.Now().UnixMilli()
	for i := range m.steps {
		m.take(f, &m.steps[i], nowMS)
	}
	f.moved = true
	f.applied = h.Last()
	f.lane.NoteMark(ledger.Mark{Sequence: f.applied, Set: f.set}) // I2: reader gives published batches only
	if m.window.full() {
		return m.seal()
	}
	return nil
}

// decode makes steps of the records of b.
func (m *Materialiser) decode(h *batch.Header, b []byte) error {
	if cap(m.raw) < int(h.RawBytes) {
		m.raw = make([]byte, h.RawBytes)
	}
	_, r, err := batch.Records(b, m.raw)
	if err != nil {
		return err
	}
	m.steps = m.steps[:0]
	var rec record.Record
	for r.Next(&rec) {
		m.steps = append(m.steps, step{record: rec, id: m.ids.of(rec.Key)})
	}
	if err := r.Err(); err != nil {
		return err
	}
	if len(m.steps) != int(h.Count) {
		return fault.New(fault.Malformed, "the batch at sequence %d declares %d records and holds %d", h.Base, h.Count, len(m.steps))
	}
	return nil
}

// lookUp finds what the keys of all steps had before, from memory as far as possible and the rest in one call. A key in the window is
// left to take, which looks there first.
func (m *Materialiser) lookUp(f *follower) error {
	l := f.lane.Number
	m.missing, m.keys = m.missing[:0], m.keys[:0]
	m.keyBytes = m.keyBytes[:0]
	for i := range m.steps {
		s := &m.steps[i]
		if s.old = m.elements.get(l, s.id); s.old.kind != absent || f.remembered == f.set.Count+f.tombstones || m.window.find(l, s.id) != nil {
			continue // I4: when all of the lane is remembered, what is not is not there
		}
		if m.writing != nil {
			if c := m.writing.find(l, s.id); c != nil {
				s.old = c.now
				continue
			}
		}
		m.missing = append(m.missing, i)
		m.keyBytes = staterow.RowKey(m.keyBytes, l, s.record.Key)
	}
	if len(m.missing) == 0 {
		return nil
	}
	rest := m.keyBytes
	for _, i := range m.missing {
		n := rowKeyBytes + len(m.steps[i].record.Key)
		m.keys = append(m.keys, rest[:n])
		rest = rest[n:]
	}
	return m.env.Engine.GetEach(engine.State, m.keys, func(i int, value []byte) error {
		s := &m.steps[m.missing[i]]
		if at, _, ok := staterow.SplitTombstone(value); ok {
			s.old = deadAt(at)
			return nil
		}
		e, _, err := staterow.SplitRow(value)
		s.old = known{live, e}
		return err
	})
}

// take applies one record.
func (m *Materialiser) take(f *follower, s *step, nowMS int64) {
	l := f.lane.Number
	c := m.window.find(l, s.id)
	if c != nil {
		s.old = c.now
	}
	var now known
	switch {
	case !s.record.Tombstone:
		now = known{live, f.hasher.Row(s.record.Key, uint64(s.record.Sequence), s.record.TimeMS, s.record.Headers, s.record.Value)}
		f.set.Add(now.element)
	case s.old.kind == live:
		now = deadAt(s.record.Sequence)
		f.tombstones++
	default:
		return // nothing is deleted: a tombstone that is there is older and says it to more replicas
	}
	switch s.old.kind {
	case live:
		f.set.Remove(s.old.element)
	case dead:
		f.tombstones--
	}
	if c == nil {
		c = m.window.add(l, s.id, s.record.Key)
		c.replaced = s.old.deleted()
	}
	m.window.set(c, now, &s.record, nowMS)
	added, gone := m.elements.put(l, s.id, now)
	if added {
		f.remembered++
	}
	if other := m.lanes[gone]; other != nil {
		other.remembered--
	}
}
