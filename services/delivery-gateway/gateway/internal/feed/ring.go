package feed

import (
	"container/list"
	"sort"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
)

// slot is one parcel in a ring.
type slot struct {
	feed    *Feed
	parcel  *parcel.Parcel
	element *list.Element // in Budget.order; nil once it left; protected by Budget.mu
}

// ring is the recent end of a lane: contiguous parcels, oldest first (I1). Its owner locks.
type ring struct {
	slots []*slot
	first int // index of the oldest
}

func (r *ring) push(s *slot) { r.slots = append(r.slots, s) }

func (r *ring) live() []*slot { return r.slots[r.first:] }

// find gives the parcel that holds seq, nil when the ring does not have it.
func (r *ring) find(seq lane.Sequence) *parcel.Parcel {
	live := r.live()
	i := sort.Search(len(live), func(i int) bool { return live[i].parcel.Last >= seq })
	if i == len(live) || live[i].parcel.First > seq {
		return nil
	}
	return live[i].parcel
}

// dropThrough lets go of every slot up to and including the one that ends at last.
func (r *ring) dropThrough(last lane.Sequence) {
	for r.first < len(r.slots) && r.slots[r.first].parcel.Last <= last {
		r.slots[r.first] = nil
		r.first++
	}
	if r.first > 64 && r.first > len(r.slots)/2 {
		n := copy(r.slots, r.slots[r.first:])
		clear(r.slots[n:])
		r.slots, r.first = r.slots[:n], 0
	}
}

// clear empties the ring and returns what it held.
func (r *ring) clear() []*slot {
	live := r.live()
	*r = ring{}
	return live
}
