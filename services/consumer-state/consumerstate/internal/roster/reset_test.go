package roster_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// Whatever is issued, reported, deleted, published and dropped: at most one command of a consumer is open, its newest; ends stay; the
// bounds hold; what a reader has does not change (I4, I6, I7).
func TestCommandsOfAnyHistory(t *testing.T) {
	limits := roster.Limits{Consumers: 3, Commands: 3, StreamCommands: 7}
	rapid.Check(t, func(t *rapid.T) {
		r := roster.New(roster.Kept{}, limits)
		d := r.NewDraft()
		ends := map[string]roster.State{} // by consumer and command
		var before []roster.Consumer
		issued := 0
		consumer := rapid.SampledFrom([]lane.ConsumerID{"a", "b", "c"})
		t.Repeat(map[string]func(*rapid.T){
			"attach": func(t *rapid.T) {
				if err := attach(d, consumer.Draw(t, "consumer")); err != nil {
					t.Fatal(err)
				}
			},
			"issue": func(t *rapid.T) {
				issued++
				i := roster.Issue{Command: roster.Command{ID: fmt.Sprint(issued), Action: roster.Repair}, Name: "orders"}
				if i.All = rapid.Bool().Draw(t, "all"); !i.All {
					i.Consumer = consumer.Draw(t, "consumer")
				}
				if _, err := d.Issue(i, int64(issued)); err != nil && !errors.Is(err, fault.UnknownConsumer) {
					t.Fatal(err)
				}
			},
			"report": func(t *rapid.T) {
				said := roster.Progress{ID: fmt.Sprint(rapid.IntRange(max(1, issued-4), max(1, issued)).Draw(t, "id")), State: roster.State(rapid.IntRange(1, 4).Draw(t, "state"))}
				id := consumer.Draw(t, "consumer")
				err := d.Report(key(id), lane.Incarnation(rapid.IntRange(1, 5).Draw(t, "incarnation")), roster.Account{Commands: []roster.Progress{said}}, 1)
				if err != nil && !errors.Is(err, fault.ConsumerFenced) && !errors.Is(err, fault.UnknownConsumer) {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				_ = d.Delete("orders", consumer.Draw(t, "consumer")) // there may be none
			},
			"publish": func(t *rapid.T) {
				seen := r.List("", "")
				before = before[:0]
				for _, c := range seen {
					before = append(before, *c)
				}
				r.Publish(d.Changes())
				d = r.NewDraft()
				for i, c := range seen {
					if !slices.Equal(c.Resets, before[i].Resets) {
						t.Fatalf("a reader's consumer changed: %v", c)
					}
				}
			},
			"": func(t *rapid.T) {
				count := 0
				for _, c := range r.List("", "") {
					count += len(c.Resets)
					if len(c.Resets) > limits.Commands {
						t.Fatalf("%d commands of %s", len(c.Resets), c.ID)
					}
					for i, reset := range c.Resets {
						if !reset.State.Ended() && i < len(c.Resets)-1 || i > 0 && reset.Number <= c.Resets[i-1].Number {
							t.Fatalf("%s has %v", c.ID, c.Resets)
						}
						if !reset.State.Ended() {
							continue
						}
						name := fmt.Sprint(c.ID, " ", reset.ID)
						if end, ok := ends[name]; ok && end != reset.State {
							t.Fatalf("command %s ended %v, and then %v", name, end, reset.State)
						}
						ends[name] = reset.State
					}
				}
				if count > limits.StreamCommands {
					t.Fatalf("%d commands of the stream", count)
				}
			},
		})
	})
}
