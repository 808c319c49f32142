// Package reach knows how far a consumer was taken, lane by lane: what it was sent, and what it said it has when it came.
//
//	attach: cursors kept ──┐
//	subscribe: after ──────┼──▶ Marks ◀── Covers(position) ── ack
//	batch, state sent ─────┘
//
// Invariants:
//
//	I1  within an epoch a mark never goes back; one of a newer epoch replaces it, one of an older epoch does nothing.
//	I2  at most maxLanes marks are kept; beyond that one is forgotten, and acks of its lane are refused until the lane is read again.
package reach

import (
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const maxLanes = 4096

// Marks is safe for concurrent use. The zero Marks covers nothing.
type Marks struct {
	mu sync.Mutex // protects by
	by map[lane.ID]lane.Position
}

// Raise notes that everything up to at is with the consumer. Epoch 0 and partitions that cannot be are passed over.
func (m *Marks) Raise(id lane.ID, at lane.Position) {
	if at.Epoch == 0 || id.Partition >= lane.MaxPartitions {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kept, known := m.by[id]
	if kept.Compare(at) >= 0 { // I1
		return
	}
	if m.by == nil {
		m.by = make(map[lane.ID]lane.Position)
	}
	if !known && len(m.by) >= maxLanes { // I2
		for some := range m.by {
			delete(m.by, some)
			break
		}
	}
	m.by[id] = at
}

// Covers reports whether at is no further than the mark, in the mark's epoch.
func (m *Marks) Covers(id lane.ID, at lane.Position) bool {
	mark := m.At(id)
	return at.Epoch == mark.Epoch && at.Sequence <= mark.Sequence
}

// At gives the mark of a lane, zero when there is none.
func (m *Marks) At(id lane.ID) lane.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.by[id]
}
