package replica

import (
	"math/bits"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

const (
	// rememberedSets is how many batch ends back a digest of the provider can still be compared (I7).
	rememberedSets = 1024
	// awaitedMarks is how many digests may wait for the cursor to reach their sequence (I7).
	awaitedMarks = 64
)

// mark is a digest the provider has given.
type mark struct {
	at  lane.Position
	set digest.Set
}

// markOf reads the wire form; ok is false when there is none or it is malformed.
func markOf(m *streamv1.DigestMark) (mark, bool) {
	if m == nil {
		return mark{}, false
	}
	sum, ok := digest.ParseSum(m.GetSum())
	return mark{at: lane.Position{Epoch: lane.Epoch(m.GetEpoch()), Sequence: lane.Sequence(m.GetSequence())}, set: digest.Set{Sum: sum, Count: m.GetCount()}}, ok
}

// wire is the form markOf reads.
func (m mark) wire() *streamv1.DigestMark {
	return &streamv1.DigestMark{Epoch: uint64(m.at.Epoch), Sequence: uint64(m.at.Sequence), Sum: m.set.Sum.Append(nil), Count: m.set.Count}
}

// memo is the replica's own digest at the end of a batch.
type memo struct {
	at  lane.Sequence
	set digest.Set
}

// laneState is what the writer knows of one partition.
type laneState struct {
	store.Lane        // as in the file
	memos      []memo // rising, of the cursor's epoch, the last one at the cursor
	// ahead are digests of the provider for sequences not reached yet, rising. The oldest are kept, and the newest: a replica that is
	// always a little behind is verified all the same.
	ahead    []mark
	verified lane.Position
	// doubted: the rows were read again and are not what was written. Nothing counts as verified until they were made equal again (I8).
	doubted   bool
	tail      lane.Sequence
	tailKnown bool
}

func newLaneState(l store.Lane) *laneState {
	return &laneState{Lane: l, memos: []memo{{l.Cursor.Sequence, l.Set}}}
}

// verdict of comparing a digest.
type verdict int

const (
	unknown verdict = iota // not reached yet, or no longer remembered
	equal
	different
)

// compare looks at m beside what the replica held at that sequence.
func (l *laneState) compare(m mark) verdict {
	if m.at.Epoch != l.Cursor.Epoch {
		return unknown
	}
	if m.at.Sequence > l.Cursor.Sequence {
		l.await(m)
		return unknown
	}
	for i := len(l.memos) - 1; i >= 0 && l.memos[i].at >= m.at.Sequence; i-- { // marks speak of the newest ends
		if l.memos[i].at == m.at.Sequence {
			if l.memos[i].set != m.set {
				return different
			}
			if !l.doubted && m.at.Compare(l.verified) > 0 { // I8
				l.verified = m.at
			}
			return equal
		}
	}
	return unknown
}

// advance moves the cursor to the end of a batch, and compares what was waiting for it.
func (l *laneState) advance(to lane.Sequence, timeMS int64, set digest.Set) (mark, verdict) {
	l.Cursor.Sequence, l.TimeMS, l.Set = to, timeMS, set
	if len(l.memos) >= 2*rememberedSets {
		l.memos = append(make([]memo, 0, 2*rememberedSets), l.memos[len(l.memos)-rememberedSets:]...) // the old array may be shared
	}
	l.memos = append(l.memos, memo{to, set})
	reached, best := mark{}, unknown
	for len(l.ahead) > 0 && l.ahead[0].at.Sequence <= to {
		m := l.ahead[0]
		l.ahead = l.ahead[1:]
		if v := l.compare(m); v != unknown {
			reached, best = m, v
		}
		if best == different {
			break
		}
	}
	return reached, best
}

// await keeps m until the cursor is there.
func (l *laneState) await(m mark) {
	n := len(l.ahead)
	if n > 0 && m.at.Sequence <= l.ahead[n-1].at.Sequence {
		return
	}
	if n >= awaitedMarks {
		n--
	}
	l.ahead = append(l.ahead[:n:n], m) // never into an array that may be shared
}

// clone is what a transaction works on until it commits.
func (l *laneState) clone() *laneState {
	c := *l
	// What the clone appends must not be seen by l, which may be gone back to: the capacity ends at the length.
	c.memos = l.memos[:len(l.memos):len(l.memos)]
	return &c
}

// correct replaces a remembered digest that the rows contradict: every memo is off by the same difference.
func (l *laneState) correct(rows digest.Set) {
	l.memos = append([]memo(nil), l.memos...)
	for i := range l.memos {
		l.memos[i].set = shifted(l.memos[i].set, l.Set, rows)
	}
	l.Set = rows
}

// shifted gives set - from + to.
func shifted(set, from, to digest.Set) digest.Set {
	lo, borrow := bits.Sub64(set.Sum.Lo, from.Sum.Lo, 0)
	hi, _ := bits.Sub64(set.Sum.Hi, from.Sum.Hi, borrow)
	s := digest.Set{Sum: digest.Sum{Hi: hi, Lo: lo}, Count: set.Count - from.Count}
	s.Merge(to)
	return s
}

func (l *laneState) status() LaneStatus {
	return LaneStatus{Partition: l.Partition, Cursor: l.Cursor, Digest: l.Set, VerifiedAt: l.verified, Tail: max(l.tail, l.Cursor.Sequence), TailKnown: l.tailKnown}
}
