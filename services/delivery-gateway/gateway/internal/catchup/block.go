package catchup

import (
	"container/list"
	"sort"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
)

// history is a lane within one epoch: what is cached of it never changes.
type history struct {
	lane  lane.ID
	epoch lane.Epoch
}

// block is a contiguous stretch of a lane in memory.
type block struct {
	of      history
	parcels []*parcel.Parcel
	bytes   int64
	element *list.Element
}

func (b *block) first() lane.Sequence { return b.parcels[0].First }

func (b *block) find(seq lane.Sequence) *parcel.Parcel {
	i := sort.Search(len(b.parcels), func(i int) bool { return b.parcels[i].Last >= seq })
	if i == len(b.parcels) || b.parcels[i].First > seq {
		return nil
	}
	return b.parcels[i]
}

// shelf keeps blocks up to a number of bytes and lets go of the least recently used. Its owner locks.
type shelf struct {
	maxBytes, usedBytes int64
	recent              list.List // of *block, most recently used first
	blocks              map[history][]*block
}

func newShelf(maxBytes int64) *shelf {
	return &shelf{maxBytes: maxBytes, blocks: make(map[history][]*block)}
}

func (s *shelf) find(of history, seq lane.Sequence) *parcel.Parcel {
	row := s.blocks[of]
	i := sort.Search(len(row), func(i int) bool { return row[i].first() > seq })
	if i == 0 {
		return nil
	}
	b := row[i-1]
	p := b.find(seq)
	if p != nil {
		s.recent.MoveToFront(b.element)
	}
	return p
}

func (s *shelf) put(b *block) {
	for _, p := range b.parcels {
		b.bytes += int64(p.Size())
	}
	row := s.blocks[b.of]
	i := sort.Search(len(row), func(i int) bool { return row[i].first() >= b.first() })
	if i < len(row) && row[i].first() == b.first() {
		s.drop(row[i])
		row = s.blocks[b.of]
	}
	row = append(row, nil)
	copy(row[i+1:], row[i:])
	row[i] = b
	s.blocks[b.of] = row
	b.element = s.recent.PushFront(b)
	s.usedBytes += b.bytes
	// The newest stays even when it alone is too large: those who wait for it must find it once.
	for s.usedBytes > s.maxBytes && s.recent.Len() > 1 {
		s.drop(s.recent.Back().Value.(*block))
	}
}

func (s *shelf) drop(b *block) {
	s.recent.Remove(b.element)
	s.usedBytes -= b.bytes
	row := s.blocks[b.of]
	for i := range row {
		if row[i] == b {
			row = append(row[:i], row[i+1:]...)
			break
		}
	}
	if len(row) == 0 {
		delete(s.blocks, b.of)
		return
	}
	s.blocks[b.of] = row
}
