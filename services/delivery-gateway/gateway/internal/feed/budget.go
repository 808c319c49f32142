package feed

import (
	"container/list"
	"sync"
)

// Budget bounds the bytes of all rings together (I6). Safe for concurrent use.
type Budget struct {
	maxBytes int64

	mu        sync.Mutex // protects what follows
	usedBytes int64
	order     list.List // of *slot, oldest first
}

// NewBudget allows maxBytes.
func NewBudget(maxBytes int64) *Budget { return &Budget{maxBytes: maxBytes} }

// UsedBytes is what the rings hold now.
func (b *Budget) UsedBytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usedBytes
}

// add charges s and returns the slots that must leave their rings for it, oldest first; it may be s itself.
func (b *Budget) add(s *slot) (evicted []*slot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.element = b.order.PushBack(s)
	b.usedBytes += int64(s.parcel.Size())
	for b.usedBytes > b.maxBytes {
		evicted = append(evicted, b.order.Front().Value.(*slot))
		b.drop(b.order.Front().Value.(*slot))
	}
	return evicted
}

// remove gives back what slots were charged; those evicted before are left alone.
func (b *Budget) remove(slots []*slot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range slots {
		b.drop(s)
	}
}

func (b *Budget) drop(s *slot) {
	if s.element == nil {
		return
	}
	b.order.Remove(s.element)
	s.element = nil
	b.usedBytes -= int64(s.parcel.Size())
}
