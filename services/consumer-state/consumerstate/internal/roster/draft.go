package roster

import (
	"fmt"
	"strings"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Change is a consumer as it shall be: nil when it is deleted.
type Change struct {
	Consumer *Consumer
	// Moved has the lanes whose cursors differ from what is on disk.
	Moved map[lane.Partition]struct{}
	// Commands has the ids of those that differ from what is on disk, or are gone.
	Commands map[string]struct{}
	// Renewed says the consumer was deleted and made again within the draft: what is on disk goes first.
	Renewed bool
}

// Changes is what a draft wants on disk.
type Changes struct {
	Consumers map[Key]Change
	Highest   map[lane.ID]lane.Position
	// Floor is 0 when it does not change.
	Floor lane.Incarnation
	// Due are consumers that are to be told of their open command.
	Due []*Consumer
}

// Empty reports whether there is nothing to store.
func (c Changes) Empty() bool { return len(c.Consumers) == 0 }

// Draft is a change of a Roster in the making. One goroutine uses it, and only one draft is open at a time; a command that returns an
// error has changed nothing.
type Draft struct {
	roster  *Roster
	changes Changes
	added   int
}

// NewDraft opens a draft over what is committed.
func (r *Roster) NewDraft() *Draft {
	return &Draft{roster: r, changes: Changes{Consumers: make(map[Key]Change), Highest: make(map[lane.ID]lane.Position)}}
}

// Changes gives what is to be stored and then published; the draft must not be used afterwards.
func (d *Draft) Changes() Changes { return d.changes }

// Attach is a consumer's wish to begin a life.
type Attach struct {
	Key
	Name    lane.StreamName
	Kind    Kind
	Client  string
	Gateway string
}

// Attach begins a new incarnation (I2) and gives the consumer as it then is; the caller must copy what it needs before it returns
// from the command.
func (d *Draft) Attach(a Attach, nowMs int64) (*Consumer, error) {
	if kept := d.find(a.Key); kept == nil {
		if count := d.roster.Len() + d.added; count >= d.roster.limits.Consumers { // I6
			return nil, fault.New(fault.Overloaded, "consumer %q is not registered: there are %d consumers and no more are allowed; delete those that are gone", a.ID, count)
		}
		d.added++
		old, deleted := d.changes.Consumers[a.Key]
		c := &Consumer{Key: a.Key, FirstSeenMs: nowMs, Incarnation: max(d.floor(), d.changes.Floor), Cursors: make(map[lane.Partition]Cursor)}
		d.changes.Consumers[a.Key] = newChange(c)
		if deleted && old.Consumer == nil {
			change := d.changes.Consumers[a.Key]
			change.Renewed = true
			d.changes.Consumers[a.Key] = change
		}
	} else if a.Kind != 0 && kept.Kind != 0 && a.Kind != kept.Kind {
		return nil, fault.New(fault.InvalidArgument, "consumer %q of stream %q is known as another kind of consumer: take another id, or delete it first; its cursors were kept", a.ID, a.Name)
	}
	c := d.open(a.Key)
	c.Incarnation++ // I2
	c.Name, c.Client, c.Gateway = a.Name, a.Client, a.Gateway
	if a.Kind != 0 {
		c.Kind = a.Kind
	}
	c.Left, c.Rewound, c.Health = false, false, nil
	c.LastSeenMs = max(c.LastSeenMs, nowMs)
	if c.Open() != nil {
		d.changes.Due = append(d.changes.Due, c)
	}
	return c, nil
}

// Checkpoint moves cursors forward and leaves those that would go back (I1). The same rule about the answer as for Attach.
func (d *Draft) Checkpoint(key Key, incarnation lane.Incarnation, cursors map[lane.Partition]Cursor, nowMs int64) (*Consumer, error) {
	if err := d.admit(key, incarnation); err != nil {
		return nil, err
	}
	c := d.open(key)
	if c.Rewound { // I1
		cursors = nil
	}
	for partition, cursor := range cursors {
		kept, known := c.Cursors[partition]
		higher := cursor.Position.Compare(kept.Position)
		if higher < 0 || known && higher == 0 && (kept.TimeMs != 0 || cursor.TimeMs == 0) { // I1
			continue
		}
		c.Cursors[partition] = cursor
		d.changes.Consumers[key].Moved[partition] = struct{}{}
		id := lane.ID{Stream: key.Stream, Partition: partition}
		if d.highest(id).Compare(cursor.Position) < 0 { // I5
			d.changes.Highest[id] = cursor.Position
		}
	}
	c.LastSeenMs = max(c.LastSeenMs, nowMs)
	return c, nil
}

// Account is what a consumer says of itself. The draft owns its bytes from then on.
type Account struct {
	Health   []byte
	Commands []Progress
}

// Report stores a consumer's account.
func (d *Draft) Report(key Key, incarnation lane.Incarnation, said Account, nowMs int64) error {
	if err := d.admit(key, incarnation); err != nil {
		return err
	}
	c := d.open(key)
	c.Health = said.Health
	d.progress(c, said.Commands, nowMs)
	c.LastSeenMs = max(c.LastSeenMs, nowMs)
	return nil
}

// Detach says the incarnation has left. What it still sends afterwards is kept, but it stays detached.
func (d *Draft) Detach(key Key, incarnation lane.Incarnation, nowMs int64) error {
	if err := d.admit(key, incarnation); err != nil {
		return err
	}
	c := d.open(key)
	c.Left = true
	c.LastSeenMs = max(c.LastSeenMs, nowMs)
	return nil
}

// Delete forgets the consumer and its cursors, for every stream that has had that name.
func (d *Draft) Delete(name lane.StreamName, id lane.ConsumerID) error {
	keys := make(map[Key]bool)
	for _, c := range d.roster.List(name, id) {
		keys[c.Key] = true
	}
	for key, change := range d.changes.Consumers {
		keys[key] = change.Consumer != nil && change.Consumer.Name == name && key.ID == id
	}
	found := false
	for key, is := range keys {
		if !is {
			continue
		}
		found = true
		d.changes.Floor = max(d.changes.Floor, d.floor(), d.find(key).Incarnation) // I2
		d.changes.Consumers[key] = Change{}
		d.added--
	}
	if !found {
		return d.unknown(name, id)
	}
	return nil
}

// admit keeps I3.
func (d *Draft) admit(key Key, incarnation lane.Incarnation) error {
	c := d.find(key)
	if c == nil {
		return fault.New(fault.UnknownConsumer, "consumer %q of stream id %d is not registered here, or was deleted: attach it again; nothing was stored", key.ID, key.Stream)
	}
	if c.Incarnation != incarnation {
		return fault.New(fault.ConsumerFenced, "consumer %q of stream %q lives on as incarnation %d; incarnation %d must end or attach anew; nothing was stored",
			key.ID, c.Name, c.Incarnation, incarnation).With("incarnation", fmt.Sprint(c.Incarnation))
	}
	return nil
}

func (d *Draft) find(key Key) *Consumer {
	if change, ok := d.changes.Consumers[key]; ok {
		return change.Consumer
	}
	d.roster.mu.RLock()
	defer d.roster.mu.RUnlock()
	return d.roster.streams[key.Stream][key.ID]
}

// open gives a copy that may be changed (I4). The consumer exists.
func (d *Draft) open(key Key) *Consumer {
	if change, ok := d.changes.Consumers[key]; ok {
		return change.Consumer
	}
	c := d.find(key).clone()
	d.changes.Consumers[key] = newChange(c)
	return c
}

func newChange(c *Consumer) Change {
	return Change{Consumer: c, Moved: make(map[lane.Partition]struct{}), Commands: make(map[string]struct{})}
}

func (d *Draft) highest(id lane.ID) lane.Position {
	if position, ok := d.changes.Highest[id]; ok {
		return position
	}
	d.roster.mu.RLock()
	defer d.roster.mu.RUnlock()
	return d.roster.highest[id]
}

func (d *Draft) floor() lane.Incarnation {
	d.roster.mu.RLock()
	defer d.roster.mu.RUnlock()
	return d.roster.floor
}

// maxNamed bounds the names an error lists.
const maxNamed = 5

func (d *Draft) unknown(name lane.StreamName, id lane.ConsumerID) error {
	var names []string
	for _, c := range d.roster.List(name, "") {
		if len(names) == maxNamed {
			names = append(names, "...")
			break
		}
		names = append(names, fmt.Sprintf("%q", c.ID))
	}
	if len(names) == 0 {
		return fault.New(fault.UnknownConsumer, "stream %q has no consumers", name)
	}
	return fault.New(fault.UnknownConsumer, "stream %q has no consumer %q; it has %s", name, id, strings.Join(names, ", "))
}
