package roster

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Action is the number of consumer/v1.Action.
type Action int32

const (
	Verify Action = 1 + iota
	Repair
	Full
	FromSequence
	FromTime
)

// State is the number of consumer/v1.ResetState.
type State int32

const (
	Waiting State = 1 + iota
	Running
	Done
	Failed
	Superseded
)

// Known reports whether it is one of them.
func (a Action) Known() bool { return a >= Verify && a <= FromTime }

// Known reports whether it is one of them.
func (s State) Known() bool { return s >= Waiting && s <= Superseded }

// Ended reports whether nothing changes it any more (I7).
func (s State) Ended() bool { return s >= Done }

// Command is a reset as it was issued. The consumers it is for share it: read only.
type Command struct {
	ID     string
	Action Action
	// FromSequence is the first sequence to take again, in every partition; 0 unless Action is FromSequence.
	FromSequence lane.Sequence
	// FromTimeMs is 0 unless Action is FromTime.
	FromTimeMs        int64
	DryRun            bool
	MaxBytesPerSecond uint64
	Why               string
	IssuedMs          int64
	// All says it was issued to every consumer of the stream that was registered then.
	All bool
}

// Reset is one command to one consumer. A draft replaces it and never changes it (I4).
type Reset struct {
	*Command
	// Number rises with every command to the consumer.
	Number uint64
	State  State
	// Progress is an encoded consumer/v1.ResetProgress, nil before the first.
	Progress  []byte
	UpdatedMs int64
}

// Open gives the command the consumer has not ended, nil when there is none. There is never a second (I7).
func (c *Consumer) Open() *Reset {
	if n := len(c.Resets); n > 0 && !c.Resets[n-1].State.Ended() {
		return c.Resets[n-1]
	}
	return nil
}

// Issue is a wish to tell consumers something.
type Issue struct {
	Command
	Name lane.StreamName
	// Stream is 0 for the newest stream of that name that has consumers.
	Stream lane.StreamID
	// Consumer is empty when All is set.
	Consumer lane.ConsumerID
}

// Issued is what came of it.
type Issued struct {
	*Command
	Name      lane.StreamName
	Stream    lane.StreamID
	Consumers []lane.ConsumerID
	// Repeated says it had been issued before; nothing was changed.
	Repeated bool
}

// Issue gives a command to consumers, once for its id in the stream.
func (d *Draft) Issue(i Issue, nowMs int64) (Issued, error) {
	if before, found := d.issued(i.Name, i.ID); found {
		if differs := i.differs(before); len(differs) > 0 {
			return Issued{}, fault.New(fault.InvalidArgument, "command %q was issued before with %s: take another id for another command; the first one stands", i.ID, strings.Join(differs, ", "))
		}
		return before, nil
	}
	targets, err := d.targets(i)
	if err != nil {
		return Issued{}, err
	}
	command := i.Command
	command.IssuedMs = nowMs
	issued := Issued{Command: &command, Name: i.Name, Stream: targets[0].Stream}
	for _, target := range targets {
		c := d.open(target.Key)
		number := uint64(1)
		if n := len(c.Resets); n > 0 {
			number = c.Resets[n-1].Number + 1
		}
		if r := c.Open(); r != nil { // I7
			d.put(c, Reset{Command: r.Command, Number: r.Number, State: Superseded, Progress: r.Progress, UpdatedMs: nowMs})
		}
		d.put(c, Reset{Command: &command, Number: number, State: Waiting, UpdatedMs: nowMs})
		if n := len(c.Resets) - d.roster.limits.Commands; n > 0 { // I6
			d.forget(c, c.Resets[:n])
		}
		d.changes.Due = append(d.changes.Due, c)
		issued.Consumers = append(issued.Consumers, c.ID)
	}
	d.makeRoom(issued.Stream)
	return issued, nil
}

// issued finds a command of a stream by its id.
func (d *Draft) issued(name lane.StreamName, id string) (found Issued, is bool) {
	d.each(func(c *Consumer) {
		for _, r := range c.Resets {
			if c.Name == name && r.ID == id {
				found.Command, found.Name, found.Stream, is = r.Command, c.Name, c.Stream, true
				found.Consumers = append(found.Consumers, c.ID)
			}
		}
	})
	found.Repeated = is
	slices.Sort(found.Consumers)
	return found, is
}

// differs names what makes i another command than before.
func (i Issue) differs(before Issued) (what []string) {
	note := func(name string, was, is any) {
		if was != is {
			what = append(what, fmt.Sprintf("%s %v instead of %v", name, was, is))
		}
	}
	if i.Stream != 0 {
		note("stream id", before.Stream, i.Stream)
	}
	to := func(all bool, id lane.ConsumerID) string {
		if all {
			return "all"
		}
		return fmt.Sprintf("%q", id)
	}
	note("consumer", to(before.All, before.Consumers[0]), to(i.All, i.Consumer))
	note("action", before.Action, i.Action)
	note("from_sequence", before.FromSequence, i.FromSequence)
	note("from_time_ms", before.FromTimeMs, i.FromTimeMs)
	note("dry_run", before.DryRun, i.DryRun)
	note("max_bytes_per_second", before.MaxBytesPerSecond, i.MaxBytesPerSecond)
	note("why", before.Why, i.Why)
	return what
}

// targets gives the consumers a new command is for, by id; at least one, and all of one stream.
func (d *Draft) targets(i Issue) ([]*Consumer, error) {
	var found []*Consumer
	d.each(func(c *Consumer) {
		if c.Name == i.Name && (i.All || c.ID == i.Consumer) && (i.Stream == 0 || c.Stream == i.Stream) {
			found = append(found, c)
		}
	})
	if len(found) == 0 && i.All {
		return nil, fault.New(fault.UnknownConsumer, "stream %q has no consumers; nothing was issued", i.Name)
	}
	if len(found) == 0 {
		return nil, d.unknown(i.Name, i.Consumer)
	}
	newest := slices.MaxFunc(found, func(a, b *Consumer) int { return cmp.Compare(a.Stream, b.Stream) }).Stream
	found = slices.DeleteFunc(found, func(c *Consumer) bool { return c.Stream != newest })
	if i.Action <= Full {
		found = slices.DeleteFunc(found, func(c *Consumer) bool { return c.Kind == Log })
		if len(found) == 0 {
			return nil, fault.New(fault.InvalidArgument, "%v is for replicas, and no replica of stream %q is meant: a log consumer can begin anew from a sequence or a time; nothing was issued", i.Action, i.Name)
		}
	}
	slices.SortFunc(found, func(a, b *Consumer) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}

// makeRoom forgets what ended the longest ago when a stream has too many commands (I6).
func (d *Draft) makeRoom(stream lane.StreamID) {
	type ended struct {
		*Reset
		key Key
	}
	var old []ended
	count := 0
	d.each(func(c *Consumer) {
		if c.Stream != stream {
			return
		}
		count += len(c.Resets)
		for _, r := range c.Resets {
			if r.State.Ended() {
				old = append(old, ended{r, c.Key})
			}
		}
	})
	count -= d.roster.limits.StreamCommands
	if count <= 0 {
		return
	}
	slices.SortFunc(old, func(a, b ended) int {
		return cmp.Or(cmp.Compare(a.IssuedMs, b.IssuedMs), cmp.Compare(a.Number, b.Number), cmp.Compare(a.key.ID, b.key.ID))
	})
	for _, r := range old[:min(count, len(old))] {
		d.forget(d.open(r.key), []*Reset{r.Reset})
	}
}

// Progress is what a consumer says of a command.
type Progress struct {
	ID    string
	State State
	// Encoded is a consumer/v1.ResetProgress.
	Encoded []byte
	// From is what it takes again: the first sequence, with the epoch it belongs to.
	From map[lane.Partition]lane.Position
}

// progress takes what c says of its commands. Commands that are not known, that have ended (I7) and old news change nothing.
func (d *Draft) progress(c *Consumer, said []Progress, nowMs int64) {
	for _, p := range said {
		at := slices.IndexFunc(c.Resets, func(r *Reset) bool { return r.ID == p.ID })
		if at < 0 {
			continue
		}
		r := c.Resets[at]
		if r.State.Ended() || p.State < r.State || p.State == r.State && bytes.Equal(p.Encoded, r.Progress) {
			continue
		}
		d.put(c, Reset{Command: r.Command, Number: r.Number, State: p.State, Progress: p.Encoded, UpdatedMs: nowMs})
		if p.State == Done && !r.DryRun && c.Kind == Log {
			d.rewind(c, r.Command, p.From)
		}
	}
}

// rewind is the one way back for cursors (I1): to before what the consumer says it takes again, and where it says nothing, to before what was
// commanded. Where it had acknowledged nothing yet it gets a cursor, so that its next life begins there too.
func (d *Draft) rewind(c *Consumer, command *Command, again map[lane.Partition]lane.Position) {
	move := func(partition lane.Partition, epoch lane.Epoch, first lane.Sequence) {
		c.Cursors[partition] = Cursor{Position: lane.Position{Epoch: epoch, Sequence: first - 1}}
		d.changes.Consumers[c.Key].Moved[partition] = struct{}{}
		c.Rewound = true
	}
	for partition, cursor := range c.Cursors {
		first := command.FromSequence
		if said, ok := again[partition]; ok {
			first = said.Sequence
		}
		if first > 0 && first <= cursor.Position.Sequence {
			move(partition, cursor.Position.Epoch, first)
		}
	}
	for partition, said := range again {
		if _, known := c.Cursors[partition]; !known && said.Epoch > 0 && said.Sequence > 0 {
			move(partition, said.Epoch, said.Sequence)
		}
	}
}

// put adds or replaces a command of an open consumer.
func (d *Draft) put(c *Consumer, r Reset) {
	d.changes.Consumers[c.Key].Commands[r.ID] = struct{}{}
	resets := slices.Clone(c.Resets)
	if at := slices.IndexFunc(resets, func(old *Reset) bool { return old.ID == r.ID }); at >= 0 {
		resets[at] = &r
	} else {
		resets = append(resets, &r)
	}
	c.Resets = resets
}

// forget takes commands away from an open consumer.
func (d *Draft) forget(c *Consumer, gone []*Reset) {
	for _, r := range gone {
		d.changes.Consumers[c.Key].Commands[r.ID] = struct{}{}
	}
	c.Resets = slices.DeleteFunc(slices.Clone(c.Resets), func(r *Reset) bool { return slices.Contains(gone, r) })
}

// each visits all consumers as the draft has them, in no order.
func (d *Draft) each(visit func(*Consumer)) {
	for _, c := range d.roster.List("", "") {
		if _, changed := d.changes.Consumers[c.Key]; !changed {
			visit(c)
		}
	}
	for _, change := range d.changes.Consumers {
		if change.Consumer != nil {
			visit(change.Consumer)
		}
	}
}

// String is the word people use.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Running:
		return "running"
	case Done:
		return "done"
	case Failed:
		return "failed"
	case Superseded:
		return "superseded"
	}
	return fmt.Sprintf("state %d", int32(s))
}

// String is the word people use.
func (a Action) String() string {
	switch a {
	case Verify:
		return "verify"
	case Repair:
		return "repair"
	case Full:
		return "full"
	case FromSequence:
		return "from sequence"
	case FromTime:
		return "from time"
	}
	return fmt.Sprintf("action %d", int32(a))
}
