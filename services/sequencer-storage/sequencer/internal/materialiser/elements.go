package materialiser

import (
	"hash/maphash"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// keyID stands for a record key of a lane in memory: 95 bits of hashes under seeds drawn at start. Two keys are taken for one with a
// probability of 1e-16 among two million, and nobody can look for such keys without the seeds.
type keyID struct {
	high uint64
	low  uint32 // 31 bits
}

// identifier makes keyIDs.
type identifier struct{ high, low maphash.Seed }

func newIdentifier() identifier { return identifier{maphash.MakeSeed(), maphash.MakeSeed()} }

func (i identifier) of(key []byte) keyID {
	return keyID{maphash.Bytes(i.high, key), uint32(maphash.Bytes(i.low, key)) >> 1}
}

// home is where probing for the key begins.
func (k keyID) home(l segment.LaneNumber) uint64 { return k.high ^ uint64(l)*0x9e3779b97f4a7c15 }

// known is what a key has: nothing, a row or a tombstone. Of a row it is the digest element, of a tombstone the sequence in Hi.
type known struct {
	kind    kind
	element digest.Element
}

type kind uint8

const (
	absent kind = iota
	live
	dead
)

func deadAt(s lane.Sequence) known { return known{dead, digest.Element{Hi: uint64(s)}} }

// deleted is the sequence of the tombstone; 0 when there is none.
func (k known) deleted() lane.Sequence {
	if k.kind != dead {
		return 0
	}
	return lane.Sequence(k.element.Hi)
}

// elements remembers what keys have, of all lanes, so that changing a row need not read it. It begins small,
// doubles up to its bound, and then lets go of others, one for each new one. Not safe for concurrent use.
type elements struct {
	slots []slot // a power of two; open addressing, linear probing
	used  int
	bound int // of slots
	hand  int // lets go next
}

// slot is empty when lane is 0: lanes are numbered from 1.
type slot struct {
	high    uint64
	low     uint32 // of the keyID, and the lowest bit says that the key is dead
	lane    segment.LaneNumber
	element digest.Element
}

const (
	slotBytes   = 32
	fewestSlots = 1 << 10
)

// newElements makes a table of at most bytes, rounded down to a power of two of slots.
func newElements(bytes int) *elements {
	n := fewestSlots
	for 2*n*slotBytes <= bytes {
		n *= 2
	}
	return &elements{slots: make([]slot, fewestSlots), bound: n}
}

// find gives the place of the key, or the empty one where it belongs.
func (t *elements) find(l segment.LaneNumber, k keyID) (at int, found bool) {
	mask := uint64(len(t.slots) - 1)
	for i := k.home(l) & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.lane == 0 {
			return int(i), false
		}
		if s.high == k.high && s.low>>1 == k.low && s.lane == l {
			return int(i), true
		}
	}
}

func (t *elements) get(l segment.LaneNumber, k keyID) known {
	at, found := t.find(l, k)
	switch s := &t.slots[at]; {
	case !found:
		return known{}
	case s.low&1 == 1:
		return known{dead, s.element}
	default:
		return known{live, s.element}
	}
}

// put remembers what a key has. added says that the key was not there, gone whose key was let go for it; 0 when none was.
func (t *elements) put(l segment.LaneNumber, k keyID, has known) (added bool, gone segment.LaneNumber) {
	at, found := t.find(l, k)
	if !found && t.used >= len(t.slots)/4*3 {
		if len(t.slots) < t.bound {
			t.double()
		} else {
			gone = t.letGo()
		}
		at, _ = t.find(l, k)
	}
	t.slots[at] = slot{k.high, k.low << 1, l, has.element}
	if has.kind == dead {
		t.slots[at].low |= 1
	}
	if !found {
		t.used++
	}
	return !found, gone
}

// remove forgets a key and reports whether it was there.
func (t *elements) remove(l segment.LaneNumber, k keyID) bool {
	at, found := t.find(l, k)
	if found {
		t.empty(at)
	}
	return found
}

// letGo empties the next used slot.
func (t *elements) letGo() segment.LaneNumber {
	for t.slots[t.hand].lane == 0 {
		t.hand = (t.hand + 1) & (len(t.slots) - 1)
	}
	l := t.slots[t.hand].lane
	t.empty(t.hand)
	t.hand = (t.hand + 1) & (len(t.slots) - 1)
	return l
}

// empty empties a slot and closes the gap, so that probing needs no marks of what was there.
func (t *elements) empty(at int) {
	mask := len(t.slots) - 1
	for i := (at + 1) & mask; t.slots[i].lane != 0; i = (i + 1) & mask {
		home := int(keyID{high: t.slots[i].high}.home(t.slots[i].lane)) & mask
		if (i-home)&mask >= (i-at)&mask { // it may stand at the gap
			t.slots[at] = t.slots[i]
			at = i
		}
	}
	t.slots[at] = slot{}
	t.used--
}

func (t *elements) double() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	for _, s := range old {
		if s.lane != 0 {
			at, _ := t.find(s.lane, keyID{s.high, s.low >> 1})
			t.slots[at] = s
		}
	}
}
