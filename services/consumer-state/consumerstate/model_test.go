package consumerstate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

// model is what a careful clerk would have written down.
type model struct {
	consumers map[string]*clerk
	highest   [2]lane.Position
	given     map[string]uint64 // highest incarnation ever of a name
}

type clerk struct {
	incarnation uint64
	cursors     [2]lane.Position
	left        bool
	seenMs      int64
}

// Any order of calls, silences and restarts leaves the service and the clerk of one mind.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &rig{clock: newClock(), cfg: consumerstate.Config{DataDir: tempDir(t)}}
		r.start(t)
		defer func() { r.stop(t) }()
		m := &model{consumers: map[string]*clerk{}, given: map[string]uint64{}}
		ctx := context.Background()
		id := rapid.SampledFrom([]string{"a", "b", "c"})
		partition := rapid.Uint32Range(0, 1)
		// draws an incarnation that is most often the right one, and says what must come of it
		speak := func(t *rapid.T) (string, uint64, fault.Reason) {
			name := id.Draw(t, "id")
			c := m.consumers[name]
			if c == nil {
				return name, rapid.Uint64Range(0, m.given[name]+1).Draw(t, "incarnation"), fault.UnknownConsumer
			}
			incarnation := c.incarnation
			if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
				incarnation = rapid.Uint64Range(0, c.incarnation+1).Draw(t, "incarnation")
			}
			if incarnation != c.incarnation {
				return name, incarnation, fault.ConsumerFenced
			}
			return name, incarnation, ""
		}
		verdict := func(t *rapid.T, err error, want fault.Reason) bool {
			if fault.ReasonOf(err) != want {
				t.Fatalf("got %v, want %q", err, want)
			}
			return err == nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"attach": func(t *rapid.T) {
				name := id.Draw(t, "id")
				answer := r.attach(t, name)
				c := m.consumers[name]
				if c == nil {
					c = &clerk{}
					m.consumers[name] = c
				}
				if answer.GetIncarnation() <= m.given[name] {
					t.Fatalf("incarnation %d of %s was given before", answer.GetIncarnation(), name)
				}
				m.given[name] = answer.GetIncarnation()
				c.incarnation, c.left, c.seenMs = answer.GetIncarnation(), false, r.clock.ms.Load()
				for _, kept := range answer.GetCursors() {
					if place(kept) != c.cursors[kept.GetPartition()] {
						t.Fatalf("%s: kept %v, want %v", name, kept, c.cursors)
					}
				}
			},
			"checkpoint": func(t *rapid.T) {
				name, incarnation, want := speak(t)
				p := partition.Draw(t, "partition")
				said := cursor(p, rapid.Uint64Range(1, 3).Draw(t, "epoch"), rapid.Uint64Range(0, 20).Draw(t, "sequence"))
				kept, err := r.checkpoint(name, incarnation, said)
				if !verdict(t, err, want) {
					return
				}
				c := m.consumers[name]
				c.seenMs = r.clock.ms.Load()
				if c.cursors[p].Compare(place(said)) < 0 {
					c.cursors[p] = place(said)
				}
				if m.highest[p].Compare(c.cursors[p]) < 0 {
					m.highest[p] = c.cursors[p]
				}
				if len(kept) != 1 || place(kept[0]) != c.cursors[p] {
					t.Fatalf("kept %v, want %v", kept, c.cursors[p])
				}
			},
			"report": func(t *rapid.T) {
				name, incarnation, want := speak(t)
				_, err := r.Report(ctx, &consumerv1.ReportRequest{StreamId: streamID, ConsumerId: name, Incarnation: incarnation, Health: &consumerv1.Health{Done: 1}})
				if verdict(t, err, want) {
					m.consumers[name].seenMs = r.clock.ms.Load()
				}
			},
			"detach": func(t *rapid.T) {
				name, incarnation, want := speak(t)
				_, err := r.Detach(ctx, &consumerv1.DetachRequest{StreamId: streamID, ConsumerId: name, Incarnation: incarnation})
				if verdict(t, err, want) {
					m.consumers[name].left, m.consumers[name].seenMs = true, r.clock.ms.Load()
				}
			},
			"delete": func(t *rapid.T) {
				name := id.Draw(t, "id")
				_, err := r.DeleteConsumer(ctx, &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: name})
				if m.consumers[name] == nil != errors.Is(err, fault.UnknownConsumer) {
					t.Fatalf("deleting %s: %v", name, err)
				}
				delete(m.consumers, name)
			},
			"time passes": func(t *rapid.T) {
				r.clock.advance(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
			},
			"restart": func(t *rapid.T) { r.restart(t) },
			"":        func(t *rapid.T) { m.compare(t, r) },
		})
	})
}

func (m *model) compare(t *rapid.T, r *rig) {
	list, err := r.ListConsumers(context.Background(), &consumerv1.ListConsumersRequest{Stream: streamName})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.GetConsumers()) != len(m.consumers) {
		t.Fatalf("got %v, want %v", list, m.consumers)
	}
	for _, got := range list.GetConsumers() {
		c := m.consumers[got.GetConsumerId()]
		attached := c != nil && !c.left && r.clock.ms.Load()-c.seenMs < 60_000
		if c == nil || got.GetIncarnation() != c.incarnation || got.GetLastSeenMs() != c.seenMs || got.GetAttached() != attached {
			t.Fatalf("got %v, want %+v attached %v", got, c, attached)
		}
		var cursors [2]lane.Position
		for _, l := range got.GetLanes() {
			cursors[l.GetCursor().GetPartition()] = place(l.GetCursor())
		}
		if cursors != c.cursors {
			t.Fatalf("%s: got %v, want %v", got.GetConsumerId(), cursors, c.cursors)
		}
	}
	answer, err := r.ExchangeTails(context.Background(), &consumerv1.ExchangeTailsRequest{Lanes: []*consumerv1.LaneTail{
		{StreamId: streamID, Partition: 0, Epoch: 1}, {StreamId: streamID, Partition: 1, Epoch: 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for p, got := range answer.GetLanes() {
		epoch := max(1, m.highest[p].Epoch)
		lowest, first := lane.Sequence(0), true
		for _, c := range m.consumers {
			passed := lane.Sequence(0)
			if c.cursors[p].Epoch == epoch {
				passed = c.cursors[p].Sequence
			}
			if first || passed < lowest {
				lowest, first = passed, false
			}
		}
		want := fmt.Sprint(epoch, len(m.consumers), lowest, m.highest[p].Sequence)
		if got := fmt.Sprint(got.GetEpoch(), got.GetConsumers(), got.GetLowest(), got.GetHighest()); got != want {
			t.Fatalf("partition %d: got %s, want %s", p, got, want)
		}
	}
}

func place(c *consumerv1.Cursor) lane.Position {
	return lane.Position{Epoch: lane.Epoch(c.GetPosition().GetEpoch()), Sequence: lane.Sequence(c.GetPosition().GetSequence())}
}

func tempDir(t *rapid.T) string {
	dir, err := os.MkdirTemp("", "consumer-state")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
