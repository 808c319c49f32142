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

// Limits are the bounds of I6.
type Limits struct {
	// Consumers registered, of all streams.
	Consumers int
	// Commands kept of each consumer, open and ended.
	Commands int
	// StreamCommands kept of the consumers of one stream together. At least Consumers, so that open ones always have room.
	StreamCommands int
}

// Roster is what is committed. Safe for concurrent use.
type Roster struct {
	limits Limits

	mu      sync.RWMutex // protects everything below
	streams map[lane.StreamID]map[lane.ConsumerID]*Consumer
	highest map[lane.ID]lane.Position
	floor   lane.Incarnation
	count   int
}

// New makes a Roster of what was kept, which it owns from then on.
func New(kept Kept, limits Limits) *Roster {
	r := &Roster{
		limits:  limits,
		streams: make(map[lane.StreamID]map[lane.ConsumerID]*Consumer),
		highest: kept.Highest,
		floor:   kept.Floor,
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

// Find gives one consumer, nil when it is not registered.
func (r *Roster) Find(key Key) *Consumer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.streams[key.Stream][key.ID]
}

// Cursors gives the cursors in a lane, of the consumers that have one.
func (r *Roster) Cursors(id lane.ID) map[lane.ConsumerID]lane.Position {
	r.mu.RLock()
	defer r.mu.RUnlock()
	cursors := make(map[lane.ConsumerID]lane.Position, len(r.streams[id.Stream]))
	for _, c := range r.streams[id.Stream] {
		if cursor, ok := c.Cursors[id.Partition]; ok {
			cursors[c.ID] = cursor.Position
		}
	}
	return cursors
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
