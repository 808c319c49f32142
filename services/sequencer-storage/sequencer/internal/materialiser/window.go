package materialiser

import (
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// change is a key's new row; row is nil when the key was deleted.
type change struct {
	element digest.Element
	row     []byte
}

// applyBounded is apply, and writes the window when it is full.
func (m *Materialiser) applyBounded(f *follower, h *batch.Header, b []byte) error {
	if err := m.apply(f, h, b); err != nil {
		return err
	}
	if m.keys >= WindowKeys || m.bytes >= WindowBytes {
		return m.flush()
	}
	return nil
}

// apply takes one batch into the window and the digest.
func (m *Materialiser) apply(f *follower, h *batch.Header, b []byte) error {
	if m.oldest.IsZero() {
		m.oldest = time.Now()
	}
	if cap(m.raw) < int(h.RawBytes) {
		m.raw = make([]byte, h.RawBytes)
	}
	f.moved = true
	err := batch.Walk(b, m.raw, func(r *record.Record) error {
		old, found, err := m.element(f, r.Key)
		if err != nil {
			return err
		}
		if found {
			f.set.Remove(old)
		}
		was, pending := f.window[string(r.Key)]
		now := change{}
		if !r.Tombstone {
			now.element = f.hasher.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
			f.set.Add(now.element)
			now.row = staterow.AppendRow(was.row[:0], now.element, r)
		} else if !found && !pending {
			return nil // a key that never was
		}
		if !pending {
			m.keys++
		}
		m.bytes += len(now.row) - len(was.row)
		f.window[string(r.Key)] = now
		return nil
	})
	if err != nil {
		return err
	}
	f.applied = h.Last()
	f.lane.NoteMark(ledger.Mark{Sequence: f.applied, Set: f.set}) // I2: reader gives published batches only
	return nil
}

// element finds the digest element of a key's present row.
func (m *Materialiser) element(f *follower, key []byte) (e digest.Element, found bool, err error) {
	if c, ok := f.window[string(key)]; ok {
		return c.element, c.row != nil, nil
	}
	m.key = staterow.RowKey(m.key[:0], f.lane.Number, key)
	m.stored, found, err = m.engine.Get(engine.State, m.key, m.stored[:0])
	if err != nil || !found {
		return e, false, err
	}
	e, _, err = staterow.SplitRow(m.stored)
	return e, true, err
}

// flush writes all windows with their marks (I1). Callers hold mu.
func (m *Materialiser) flush() error {
	m.write.Reset()
	for n, f := range m.lanes {
		if !f.moved {
			continue
		}
		for key, c := range f.window {
			m.key = staterow.RowKey(m.key[:0], n, []byte(key))
			if c.row == nil {
				m.write.Delete(engine.State, m.key)
			} else {
				m.write.Put(engine.State, m.key, c.row)
			}
		}
		clear(f.window)
		mark := staterow.Mark{Epoch: f.lane.Epoch, Sequence: f.applied, Set: f.set}
		m.write.Put(engine.State, staterow.MarkKey(n), mark.Encode())
		f.moved = false
	}
	m.keys, m.bytes, m.oldest = 0, 0, time.Time{}
	return m.engine.WriteLight(&m.write)
}
