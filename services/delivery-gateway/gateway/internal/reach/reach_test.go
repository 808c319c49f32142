package reach

import (
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

func TestMarks(t *testing.T) {
	var m Marks
	at := func(epoch, sequence uint64) lane.Position {
		return lane.Position{Epoch: lane.Epoch(epoch), Sequence: lane.Sequence(sequence)}
	}
	one, other := lane.ID{Stream: 1}, lane.ID{Stream: 1, Partition: 1}
	if m.Covers(one, at(1, 1)) {
		t.Error("the zero Marks covers something")
	}
	m.Raise(one, at(1, 5))
	m.Raise(one, at(1, 3))
	m.Raise(one, at(0, 9))
	for _, c := range []struct {
		id   lane.ID
		at   lane.Position
		want bool
	}{{one, at(1, 5), true}, {one, at(1, 1), true}, {one, at(1, 6), false}, {one, at(2, 1), false}, {other, at(1, 1), false}} {
		if got := m.Covers(c.id, c.at); got != c.want {
			t.Errorf("%v at %v: %v", c.id, c.at, got)
		}
	}
	m.Raise(one, at(2, 2)) // history was cut: what was sent of the old one counts no more
	if m.Covers(one, at(2, 3)) || !m.Covers(one, at(2, 2)) || m.Covers(one, at(1, 5)) {
		t.Error("a mark of an older epoch counts in a newer one")
	}
	for i := range 2 * maxLanes {
		m.Raise(lane.ID{Stream: lane.StreamID(i + 10)}, at(1, 1))
	}
	m.Raise(lane.ID{Stream: 2, Partition: lane.MaxPartitions}, at(1, 1))
	if len(m.by) > maxLanes || m.Covers(lane.ID{Stream: 2, Partition: lane.MaxPartitions}, at(1, 1)) {
		t.Errorf("%d marks are kept", len(m.by))
	}
}
