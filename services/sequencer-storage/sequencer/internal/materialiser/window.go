package materialiser

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// Bounds of a window. The last batch may exceed them.
const (
	WindowKeys  = 32 << 10
	WindowBytes = 8 << 20
	WindowAge   = 250 * time.Millisecond
)

// rowKeyBytes is what stands before the record key in the key of a row.
var rowKeyBytes = len(staterow.RowKey(nil, 0, nil))

// window gathers the rows that changed since the last one, each key once. Not safe for concurrent use.
type window struct {
	changes []change
	places  []uint32 // open addressing by key: 1 + index in changes, 0 when empty; a power of two
	bytes   []byte   // keys and values of changes, and what was overwritten by longer values
	oldest  time.Time
	write   engine.Batch
	order   []sortItem
	done    chan error // gets the outcome of its write
}

// change is a key's new row or tombstone.
type change struct {
	id   keyID
	lane segment.LaneNumber
	now  known
	// replaced is the sequence of the stored tombstone that gives way; 0 when there is none.
	replaced lane.Sequence
	timeMS   int64 // of a tombstone
	key      span
	value    span
	room     uint32 // from value.at on
}

// span is a part of window.bytes.
type span struct{ at, length uint32 }

func (w *window) of(s span) []byte { return w.bytes[s.at : s.at+s.length] }

func newWindow() *window {
	return &window{places: make([]uint32, 1<<10), done: make(chan error, 1)}
}

func (w *window) full() bool { return len(w.changes) >= WindowKeys || len(w.bytes) >= WindowBytes }

// find gives the pending change of a key, nil when there is none. It is valid until the next call of add.
func (w *window) find(l segment.LaneNumber, k keyID) *change {
	if at := w.places[w.place(l, k)]; at != 0 {
		return &w.changes[at-1]
	}
	return nil
}

func (w *window) place(l segment.LaneNumber, k keyID) uint64 {
	mask := uint64(len(w.places) - 1)
	for i := k.home(l) & mask; ; i = (i + 1) & mask {
		at := w.places[i]
		if at == 0 {
			return i
		}
		if c := &w.changes[at-1]; c.id == k && c.lane == l {
			return i
		}
	}
}

// add begins a change of a key that has none.
func (w *window) add(l segment.LaneNumber, k keyID, key []byte) *change {
	if 2*len(w.changes) >= len(w.places) {
		w.places = make([]uint32, 2*len(w.places))
		for i := range w.changes {
			w.places[w.place(w.changes[i].lane, w.changes[i].id)] = uint32(i + 1)
		}
	}
	at := len(w.bytes)
	w.bytes = staterow.RowKey(w.bytes, l, key)
	w.changes = append(w.changes, change{id: k, lane: l, key: span{uint32(at), uint32(len(w.bytes) - at)}})
	w.places[w.place(l, k)] = uint32(len(w.changes))
	return &w.changes[len(w.changes)-1]
}

// set gives c what r leaves behind, in the place of its last value when that is long enough.
func (w *window) set(c *change, now known, r *record.Record, nowMS int64) {
	at := len(w.bytes)
	if now.kind == dead {
		w.bytes = staterow.AppendTombstone(w.bytes, r.Sequence, nowMS)
	} else {
		w.bytes = staterow.AppendRow(w.bytes, now.element, r)
	}
	length := uint32(len(w.bytes) - at)
	c.now, c.timeMS = now, nowMS
	if length <= c.room {
		copy(w.bytes[c.value.at:], w.bytes[at:])
		w.bytes = w.bytes[:at]
		c.value.length = length
		return
	}
	c.value, c.room = span{uint32(at), length}, length
}

// forget takes a lane out.
func (w *window) forget(l segment.LaneNumber) {
	kept := w.changes
	w.changes = w.changes[:0]
	clear(w.places)
	for _, c := range kept {
		if c.lane != l {
			w.changes = append(w.changes, c)
			w.places[w.place(c.lane, c.id)] = uint32(len(w.changes))
		}
	}
}

// reset empties w and keeps its memory.
func (w *window) reset() {
	w.changes, w.bytes, w.oldest = w.changes[:0], w.bytes[:0], time.Time{}
	clear(w.places)
	w.write.Reset()
}

// sortItem orders a change by its lane, then by the eight bytes behind what all keys of the lane have in common.
type sortItem struct {
	prefix uint64
	lane   segment.LaneNumber
	change uint32
}

// encode adds the changes to w.write, rising by key: a memtable takes neighbours in a third of the time.
func (w *window) encode() {
	type common struct{ key []byte }
	shared := map[segment.LaneNumber]*common{}
	w.order = w.order[:0]
	for i := range w.changes {
		c := &w.changes[i]
		key := w.of(c.key)
		if s := shared[c.lane]; s == nil {
			shared[c.lane] = &common{key}
		} else if !bytes.HasPrefix(key, s.key) {
			n := 0
			for n < len(s.key) && n < len(key) && s.key[n] == key[n] {
				n++
			}
			s.key = s.key[:n]
		}
		w.order = append(w.order, sortItem{lane: c.lane, change: uint32(i)})
	}
	for i := range w.order {
		o := &w.order[i]
		var eight [8]byte
		copy(eight[:], w.of(w.changes[o.change].key)[len(shared[o.lane].key):])
		o.prefix = binary.BigEndian.Uint64(eight[:])
	}
	slices.SortFunc(w.order, func(a, b sortItem) int {
		if a.lane != b.lane {
			return cmp.Compare(a.lane, b.lane)
		}
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return bytes.Compare(w.of(w.changes[a.change].key), w.of(w.changes[b.change].key))
	})
	for _, o := range w.order {
		c := &w.changes[o.change]
		w.write.Put(engine.State, w.of(c.key), w.of(c.value))
	}
	var key, value []byte
	for i := range w.changes { // apart from the rows, which are neighbours
		c := &w.changes[i]
		if c.replaced != 0 {
			key = staterow.OrderKey(key[:0], c.lane, c.replaced)
			w.write.Delete(engine.State, key)
		}
		if at := c.now.deleted(); at != 0 {
			key = staterow.OrderKey(key[:0], c.lane, at)
			value = staterow.AppendOrder(value[:0], c.timeMS, w.of(c.key)[rowKeyBytes:])
			w.write.Put(engine.State, key, value)
		}
	}
}
