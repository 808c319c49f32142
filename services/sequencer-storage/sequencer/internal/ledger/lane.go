// Package ledger is what the process knows of its lanes while it runs: where they begin and end, where their batches lie, what their
// state was proven to be, and whether they may be used.
//
// Invariants:
//
//	I1  Head and Tail only rise, and Tail only by what was fsynced: readers see nothing else of a lane.
//	I2  a stopped lane stays stopped until the process is started anew, and says why.
package ledger

import (
	"slices"
	"sort"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// keepMarks is how many digests of the past are kept per lane, to travel beside the batches of readers that are not far behind.
const keepMarks = 1024

// Mark states the digest of the state at a sequence.
type Mark struct {
	Sequence lane.Sequence
	Set      digest.Set
}

// Lane is one lane. The fields above mu never change, or belong to the goroutine named; the methods are safe for concurrent use.
type Lane struct {
	ID     lane.ID
	Number segment.LaneNumber
	Stream lane.StreamName
	Keyed  bool
	Seed   uint64
	Epoch  lane.Epoch

	// Next, Chain and Producers belong to the assigning goroutine; they run ahead of what is published.
	Next      lane.Sequence
	Chain     batch.Chain
	Producers *producers.Index

	mu         sync.RWMutex // protects the fields below
	head, tail lane.Sequence
	tailMS     int64
	bytes      uint64
	extents    []segment.Extent // rising; the last one may be growing
	marks      []Mark           // rising, at most 2 keepMarks
	stopped    *fault.Fault
	deleted    bool
}

// Standing is a lane at one moment.
type Standing struct {
	Head, Tail lane.Sequence
	TailMS     int64
	Bytes      uint64
	// Mark is the newest digest; nil before the first record's.
	Mark    *Mark
	Stopped *fault.Fault
	Deleted bool
}

// Restore sets what recovery found, before the lane is used.
func (l *Lane) Restore(head, tail lane.Sequence, chain batch.Chain, extents []segment.Extent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head, l.tail, l.extents = head, tail, extents
	l.Next, l.Chain = tail+1, chain
	for i := range extents {
		x := &extents[i]
		l.tailMS = x.LastMS
		if records := uint64(x.Last - x.First + 1); x.First >= head {
			l.bytes += x.Bytes
		} else if x.Last >= head { // the head lies inside: an even share
			l.bytes += x.Bytes * uint64(x.Last-head+1) / records
		}
	}
}

// Publish moves the tail over a batch that was fsynced.
func (l *Lane) Publish(n segment.Number, h *batch.Header, size int, chain batch.Chain) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := len(l.extents); k == 0 || l.extents[k-1].Segment != n {
		l.extents = append(l.extents, segment.Extent{Segment: n})
	}
	l.extents[len(l.extents)-1].Grow(h, size, chain)
	l.tail, l.tailMS = h.Last(), h.LastMS
	l.bytes += uint64(size)
}

// Standing gives where the lane is now.
func (l *Lane) Standing() Standing {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := Standing{Head: l.head, Tail: l.tail, TailMS: l.tailMS, Bytes: l.bytes, Stopped: l.stopped, Deleted: l.deleted}
	if k := len(l.marks); k > 0 && l.marks[k-1].Sequence > 0 {
		m := l.marks[k-1]
		s.Mark = &m
	}
	return s
}

// Usable returns a fault when the lane is stopped or deleted.
func (l *Lane) Usable() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.deleted {
		return fault.New(fault.UnknownStream, "stream %q was deleted", l.Stream)
	}
	if l.stopped != nil {
		return l.stopped
	}
	return nil
}

// Stop stops the lane (I2) and reports whether it ran before. The reason is kept when it is Corrupt, else LaneStopped.
func (l *Lane) Stop(cause error) bool {
	reason := fault.LaneStopped
	if fault.ReasonOf(cause) == fault.Corrupt {
		reason = fault.Corrupt
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped != nil {
		return false
	}
	l.stopped = fault.New(reason, "lane %d of stream %q is stopped to protect what was acknowledged: %w; run `sequencer-storage check` on the stopped directory, and restore it or the lane from a replica", l.ID.Partition, l.Stream, cause)
	return true
}

// Delete marks the lane as deleted.
func (l *Lane) Delete() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleted = true
}

// ExtentOf gives the extent that holds s; false when none does.
func (l *Lane) ExtentOf(s lane.Sequence) (segment.Extent, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := sort.Search(len(l.extents), func(i int) bool { return l.extents[i].Last >= s })
	if i == len(l.extents) || l.extents[i].First > s {
		return segment.Extent{}, false
	}
	return l.extents[i], true
}

// Extents gives a copy of all extents.
func (l *Lane) Extents() []segment.Extent {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.extents)
}

// AdvanceHead moves the head forward; freed is how many bytes lie between the old one and the new.
func (l *Lane) AdvanceHead(head lane.Sequence, freed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head > l.head {
		l.head = head
		l.bytes -= min(l.bytes, freed)
	}
}

// DropExtent forgets the extent in segment n.
func (l *Lane) DropExtent(n segment.Number) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extents = slices.DeleteFunc(l.extents, func(x segment.Extent) bool { return x.Segment == n })
}

// NoteMark keeps a digest; marks come rising.
func (l *Lane) NoteMark(m Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := len(l.marks); k > 0 && l.marks[k-1].Sequence == m.Sequence {
		return
	}
	l.marks = append(l.marks, m)
	if len(l.marks) >= 2*keepMarks {
		l.marks = slices.Delete(l.marks, 0, len(l.marks)-keepMarks)
	}
}

// MarkIn gives the newest digest at a sequence of [from, to].
func (l *Lane) MarkIn(from, to lane.Sequence) (Mark, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := sort.Search(len(l.marks), func(i int) bool { return l.marks[i].Sequence > to })
	if i == 0 || l.marks[i-1].Sequence < from {
		return Mark{}, false
	}
	return l.marks[i-1], true
}
