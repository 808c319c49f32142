package roster

import (
	"maps"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Key identifies a consumer. It has the stream's id, not its name: a stream made again under one name has consumers of its own.
type Key struct {
	Stream lane.StreamID
	ID     lane.ConsumerID
}

// Kind is the number of consumer/v1.ConsumerKind; 0 is unknown.
type Kind int32

// Log is the kind that has a place in the log and no state.
const Log Kind = 1

// Cursor is how far a consumer has applied one lane.
type Cursor struct {
	Position lane.Position
	// TimeMs is the time of the record at Position; 0 when unknown.
	TimeMs int64
}

// Consumer is all that is kept of one consumer. Those a Roster gives are shared: read only (I4).
type Consumer struct {
	Key
	Name        lane.StreamName
	Kind        Kind
	Incarnation lane.Incarnation
	// Left says the newest incarnation has detached.
	Left        bool
	Client      string
	Gateway     string
	FirstSeenMs int64
	LastSeenMs  int64
	// Health is an encoded consumer/v1.Health, nil before the first report of this incarnation.
	Health  []byte
	Cursors map[lane.Partition]Cursor
	// Rewound says a command moved the cursors back in this incarnation: acknowledgements it had under way must not undo that (I1).
	Rewound bool
	// Resets are the commands to it, oldest first.
	Resets []*Reset
}

// Attached reports whether the newest incarnation has not detached and was heard of less than silentAfterMs ago.
func (c *Consumer) Attached(nowMs, silentAfterMs int64) bool {
	return !c.Left && nowMs-c.LastSeenMs < silentAfterMs
}

func (c *Consumer) clone() *Consumer {
	copied := *c
	copied.Cursors = maps.Clone(c.Cursors)
	if copied.Cursors == nil {
		copied.Cursors = make(map[lane.Partition]Cursor)
	}
	return &copied
}
