package lag

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Book holds the tails of lanes. Safe for concurrent use.
type Book struct {
	maxLanes   int
	staleAfter time.Duration

	mu      sync.Mutex // protects everything below
	streams map[lane.StreamID]map[lane.Partition]*track
	count   int
	paces   int // cursors watched, of all lanes
}

type track struct {
	tail    lane.Position
	heardMs int64
	samples samples

	head     lane.Sequence // 0: unknown
	headPace pace
	// watchedMs is when headPace and cursors were looked at last, 0 is never.
	watchedMs int64
	cursors   map[lane.ConsumerID]*pace
}

// NewBook bounds the lanes; news older than staleAfter is no news.
func NewBook(maxLanes int, staleAfter time.Duration) *Book {
	return &Book{maxLanes: maxLanes, staleAfter: staleAfter, streams: make(map[lane.StreamID]map[lane.Partition]*track)}
}

// Hear takes news of a lane's tail: its position and the time of the record there (0 when unknown). Older news than what is known
// changes nothing (I5).
func (b *Book) Hear(id lane.ID, tail lane.Position, tailTimeMs, nowMs int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.streams[id.Stream][id.Partition]
	if t == nil {
		t = b.room(id)
	}
	if t.tail.Compare(tail) > 0 { // I5
		return
	}
	if tail.Epoch > t.tail.Epoch {
		t.samples = t.samples[:0]
		b.forget(t)
	}
	if len(t.samples) == 0 || tail.Sequence > t.tail.Sequence {
		if tailTimeMs == 0 {
			tailTimeMs = nowMs // no record is younger than the news of it (I3)
		}
		t.samples = t.samples.add(tail.Sequence, tailTimeMs, nowMs)
	}
	t.tail, t.heardMs = tail, nowMs
}

// room makes a track, and room for it (I4).
func (b *Book) room(id lane.ID) *track {
	if b.count >= b.maxLanes {
		var oldest lane.ID
		oldestMs, found := int64(0), false
		for stream, tracks := range b.streams {
			for partition, t := range tracks {
				if !found || t.heardMs < oldestMs {
					oldest, oldestMs, found = lane.ID{Stream: stream, Partition: partition}, t.heardMs, true
				}
			}
		}
		b.forget(b.streams[oldest.Stream][oldest.Partition])
		delete(b.streams[oldest.Stream], oldest.Partition)
		if len(b.streams[oldest.Stream]) == 0 {
			delete(b.streams, oldest.Stream)
		}
		b.count--
	}
	tracks := b.streams[id.Stream]
	if tracks == nil {
		tracks = make(map[lane.Partition]*track)
		b.streams[id.Stream] = tracks
	}
	t := &track{}
	tracks[id.Partition] = t
	b.count++
	return t
}

// Partitions gives the lanes of a stream that were ever heard of, in order.
func (b *Book) Partitions(stream lane.StreamID) []lane.Partition {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.streams[stream]))
}

// Len gives the number of lanes heard of.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Lag is how far a cursor is behind. Records and Seconds mean nothing unless Known.
type Lag struct {
	// Heard says Tail is the newest known; it may be old news.
	Heard   bool
	Tail    lane.Position
	Known   bool
	Records uint64
	Seconds float64
	// AtLeast says Seconds is a lower bound.
	AtLeast bool
}

// Of measures a cursor; nil when there is none.
func (b *Book) Of(id lane.ID, cursor *lane.Position, nowMs int64) Lag {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.streams[id.Stream][id.Partition]
	if t == nil {
		return Lag{}
	}
	l := Lag{Heard: true, Tail: t.tail}
	// The zero position is before the first record of every epoch.
	if cursor == nil || *cursor != (lane.Position{}) && cursor.Epoch != t.tail.Epoch { // I1
		return l
	}
	if nowMs-t.heardMs > b.staleAfter.Milliseconds() { // I1
		return l
	}
	l.Known = true
	if cursor.Sequence >= t.tail.Sequence { // I2
		return l
	}
	l.Records = uint64(t.tail.Sequence - cursor.Sequence)
	timeMs, passed, _ := t.samples.firstAfter(cursor.Sequence) // the tail itself is a sample above the cursor
	l.Seconds = float64(max(nowMs-timeMs, 0)) / 1000
	l.AtLeast = !passed
	return l
}
