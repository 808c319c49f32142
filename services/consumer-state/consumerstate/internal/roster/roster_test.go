package roster_test

import (
	"errors"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

func key(id lane.ConsumerID) roster.Key { return roster.Key{Stream: 1, ID: id} }

func attach(d *roster.Draft, id lane.ConsumerID) error {
	_, err := d.Attach(roster.Attach{Key: key(id), Name: "orders"}, 1)
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// I6 holds for what a draft adds and takes away, too.
func TestBoundCountsTheDraft(t *testing.T) {
	r := roster.New(roster.Kept{}, roster.Limits{Consumers: 2})
	d := r.NewDraft()
	must(t, attach(d, "a"))
	must(t, attach(d, "b"))
	if err := attach(d, "c"); !errors.Is(err, fault.Overloaded) {
		t.Errorf("a third: %v", err)
	}
	must(t, attach(d, "b"))
	must(t, d.Delete("orders", "b"))
	must(t, attach(d, "c"))
	r.Publish(d.Changes())
	d = r.NewDraft()
	must(t, d.Delete("orders", "a"))
	must(t, attach(d, "d"))
	if err := attach(d, "a"); !errors.Is(err, fault.Overloaded) {
		t.Errorf("a third, later: %v", err)
	}
	r.Publish(d.Changes())
	if got := r.List("", ""); len(got) != 2 || got[0].ID != "c" || got[1].ID != "d" || r.Len() != 2 {
		t.Errorf("got %v", got)
	}
}

// I4: a reader's consumer stays as it was, whether the draft is published or dropped.
func TestPublishedConsumersDoNotChange(t *testing.T) {
	r := roster.New(roster.Kept{}, roster.Limits{Consumers: 2})
	d := r.NewDraft()
	must(t, attach(d, "a"))
	checkpoint := func(d *roster.Draft, c roster.Cursor) {
		t.Helper()
		_, err := d.Checkpoint(key("a"), 1, map[lane.Partition]roster.Cursor{0: c}, 2)
		must(t, err)
	}
	checkpoint(d, roster.Cursor{Position: lane.Position{Epoch: 1, Sequence: 3}})
	r.Publish(d.Changes())
	before := r.List("", "")[0]
	d = r.NewDraft()
	checkpoint(d, roster.Cursor{Position: lane.Position{Epoch: 1, Sequence: 9}})
	if got := before.Cursors[0].Position.Sequence; got != 3 {
		t.Errorf("before Publish a reader sees %d", got)
	}
	if got := r.Passed(lane.ID{Stream: 1}, 1); got.Lowest != 3 || got.Highest != 3 {
		t.Errorf("before Publish: %+v", got)
	}
	r.Publish(d.Changes())
	if got := before.Cursors[0].Position.Sequence; got != 3 {
		t.Errorf("after Publish an earlier reader sees %d", got)
	}
	if got := r.Passed(lane.ID{Stream: 1}, 1); got.Lowest != 9 || got.Highest != 9 {
		t.Errorf("after Publish: %+v", got)
	}
}

// The time of a record may become known after its cursor; it is not forgotten again.
func TestTimeOfACursor(t *testing.T) {
	r := roster.New(roster.Kept{}, roster.Limits{Consumers: 2})
	d := r.NewDraft()
	must(t, attach(d, "a"))
	at := lane.Position{Epoch: 1, Sequence: 3}
	for _, step := range []struct{ said, want int64 }{{0, 0}, {70, 70}, {0, 70}, {80, 70}} {
		c, err := d.Checkpoint(key("a"), 1, map[lane.Partition]roster.Cursor{0: {Position: at, TimeMs: step.said}}, 2)
		must(t, err)
		if got := c.Cursors[0].TimeMs; got != step.want {
			t.Errorf("said %d: kept %d, want %d", step.said, got, step.want)
		}
	}
}
