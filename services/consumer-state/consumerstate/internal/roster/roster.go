package roster

import (
	"cmp"
	"slices"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Kept is what survives a restart.
type Kept struct {
	Consumers []*Consumer
	// Highest has the highest cursor ever stored of each lane (I5).
	Highest map[lane.ID]lane.Position
	// Floor is at or above every incarnation of deleted consumers (I2).
	Floor lane.Incarnation
}

// Roster is what is committed. Safe for concurrent use.
type Roster struct {
	mu       sync.RWMutex // protects everything below
	streams  map[lane.StreamID]map[lane.ConsumerID]*Consumer
	highest  map[lane.ID]lane.Position
	floor    lane.Incarnation
	count    int
	maxCount int
}

// New makes a Roster of what was kept, which it owns from then on; maxCount bounds the consumers (I6).
func New(kept Kept, maxCount int) *Roster {
	r := &Roster{
		streams:  make(map[lane.StreamID]map[lane.ConsumerID]*Consumer),
		highest:  kept.Highest,
		floor:    kept.Floor,
		maxCount: maxCount,
	}
	if r.highest == nil {
		r.highest = make(map[lane.ID]lane.Position)
	}
	for _, c := range kept.Consumers {
		r.put(c)
	}
	return r
}

// Len gives the number of consumers.
func (r *Roster) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// List gives the consumers of the named stream ("" for all) with the given id ("" for all), ordered by stream name, id, stream id.
func (r *Roster) List(name lane.StreamName, id lane.ConsumerID) []*Consumer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list(name, id)
}

func (r *Roster) list(name lane.StreamName, id lane.ConsumerID) []*Consumer {
	var found []*Consumer
	for _, consumers := range r.streams {
		for _, c := range consumers {
			if (name == "" || c.Name == name) && (id == "" || c.ID == id) {
				found = append(found, c)
			}
		}
	}
	slices.SortFunc(found, func(a, b *Consumer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Stream, b.Stream))
	})
	return found
}

// Passed is what the consumers of a lane have passed in one epoch.
type Passed struct {
	Epoch     lane.Epoch
	Consumers int
	// Lowest is 0 as soon as one registered consumer has no cursor in Epoch: nothing may be let go on its account.
	Lowest lane.Sequence
	// Highest was stored once, by a consumer that may be gone (I5).
	Highest lane.Sequence
}

// Passed answers for the epoch asked, or for a higher one in which a cursor was stored: then the asker's history is older than what
// consumers have already passed.
func (r *Roster) Passed(id lane.ID, epoch lane.Epoch) Passed {
	r.mu.RLock()
	defer r.mu.RUnlock()
	highest := r.highest[id]
	p := Passed{Epoch: max(epoch, highest.Epoch), Consumers: len(r.streams[id.Stream])}
	if highest.Epoch == p.Epoch {
		p.Highest = highest.Sequence
	}
	first := true
	for _, c := range r.streams[id.Stream] {
		var sequence lane.Sequence
		if position := c.Cursors[id.Partition].Position; position.Epoch == p.Epoch {
			sequence = position.Sequence
		}
		if first || sequence < p.Lowest {
			p.Lowest = sequence
		}
		first = false
	}
	return p
}

// Publish makes a draft's outcome visible, once it is on disk.
func (r *Roster) Publish(changes Changes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, change := range changes.Consumers {
		if change.Consumer == nil {
			if consumers := r.streams[key.Stream]; consumers[key.ID] != nil {
				delete(consumers, key.ID)
				r.count--
				if len(consumers) == 0 {
					delete(r.streams, key.Stream)
				}
			}
			continue
		}
		r.put(change.Consumer)
	}
	for id, position := range changes.Highest {
		r.highest[id] = position
	}
	r.floor = max(r.floor, changes.Floor)
}

func (r *Roster) put(c *Consumer) {
	consumers := r.streams[c.Stream]
	if consumers == nil {
		consumers = make(map[lane.ConsumerID]*Consumer)
		r.streams[c.Stream] = consumers
	}
	if consumers[c.ID] == nil {
		r.count++
	}
	consumers[c.ID] = c
}
