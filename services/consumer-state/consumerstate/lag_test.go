package consumerstate_test

import (
	"context"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

// shown is a lane's lag; -1 stands for "not set".
type shown struct {
	records, seconds float64
	atLeast          bool
}

var unknown = shown{-1, -1, false}

func (r *rig) lag(t failer, id string) shown {
	t.Helper()
	lanes := r.consumer(t, id).GetLanes()
	if len(lanes) != 1 {
		t.Fatal("want one lane, got", lanes)
	}
	s := shown{-1, -1, lanes[0].GetAtLeast()}
	if lanes[0].Records != nil {
		s.records = float64(lanes[0].GetRecords())
	}
	if lanes[0].Seconds != nil {
		s.seconds = lanes[0].GetSeconds()
	}
	return s
}

func TestLag(t *testing.T) {
	r := newRig(t, nil)
	inc := r.attach(t, "c").GetIncarnation()
	expect := func(what string, want shown) {
		t.Helper()
		if got := r.lag(t, "c"); got != want {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	say := func(epoch, sequence uint64) {
		t.Helper()
		if _, err := r.checkpoint("c", inc, cursor(0, epoch, sequence)); err != nil {
			t.Fatal(err)
		}
	}
	tail := func(epoch, sequence uint64) { t.Helper(); r.tail(t, epoch, sequence, r.clock.ms.Load()) }

	tail(1, 100) // at 0 s
	expect("no cursor yet", unknown)
	say(1, 0)
	expect("behind everything remembered", shown{100, 0, true})
	r.clock.advance(5 * time.Second)
	expect("and it grows", shown{100, 5, true})
	say(1, 100)
	expect("caught up", shown{0, 0, false})
	tail(1, 110) // at 5 s
	r.clock.advance(2 * time.Second)
	tail(1, 130) // at 7 s
	r.clock.advance(3 * time.Second)
	expect("the first record not passed came at 5 s, and it is 10 s", shown{30, 5, false})
	say(1, 109)
	expect("still one of those of 5 s", shown{21, 5, false})
	say(1, 110)
	expect("the next came at 7 s", shown{20, 3, false})
	tail(1, 120)
	expect("a lower tail of the same epoch is old news", shown{20, 3, false})
	say(1, 140)
	expect("ahead of the news of the tail", shown{0, 0, false})
	r.clock.advance(31 * time.Second)
	expect("no news of the tail for long", unknown)
	tail(2, 150)
	expect("the lane's history was cut", unknown)
	say(2, 149)
	expect("a cursor in the new history", shown{1, 0, true})
	r.restart(t)
	if got := r.consumer(t, "c").GetLanes()[0]; got.GetTail() != nil || got.Records != nil || got.GetCursor().GetPosition().GetSequence() != 149 {
		t.Errorf("after a restart, before news: %v", got)
	}
	tail(2, 150)
	expect("after a restart", shown{1, 0, true})
	say(3, 1)
	expect("the consumer is in a newer history than the news", unknown)
}

// A record's own time counts, not the moment of the news; a provider's clock that runs ahead makes no negative age.
func TestLagCountsTheRecordsTime(t *testing.T) {
	r := newRig(t, nil)
	inc := r.attach(t, "c").GetIncarnation()
	if _, err := r.checkpoint("c", inc, cursor(0, 1, 1)); err != nil {
		t.Fatal(err)
	}
	r.tail(t, 1, 1, 900_000)
	r.tail(t, 1, 5, 960_000)
	if got, want := r.lag(t, "c"), (shown{4, 40, false}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := r.checkpoint("c", inc, cursor(0, 1, 5)); err != nil {
		t.Fatal(err)
	}
	r.tail(t, 1, 6, 2_000_000)
	if got, want := r.lag(t, "c"), (shown{1, 0, false}); got != want {
		t.Errorf("a clock ahead: got %+v, want %+v", got, want)
	}
}

func TestTailsOfACheckpointFeedLag(t *testing.T) {
	r := newRig(t, nil)
	inc := r.attach(t, "c").GetIncarnation()
	_, err := r.Checkpoint(context.Background(), &consumerv1.CheckpointRequest{
		StreamId: streamID, ConsumerId: "c", Incarnation: inc, Cursors: []*consumerv1.Cursor{cursor(0, 1, 7)},
		Tails: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: 9}, TimeMs: 998_000}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.lag(t, "c"), (shown{2, 2, true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Lanes that nobody speaks of any more make room for others; their consumers and cursors stay.
func TestVanishedStreamsKeepTheirConsumers(t *testing.T) {
	r := newRig(t, func(c *consumerstate.Config) { c.MaxLanes = 2 })
	inc := r.attach(t, "c").GetIncarnation()
	if _, err := r.checkpoint("c", inc, cursor(0, 1, 7)); err != nil {
		t.Fatal(err)
	}
	r.tail(t, 1, 9, 0)
	for id := range uint64(20) {
		r.clock.advance(24 * time.Hour)
		if _, err := r.ExchangeTails(context.Background(), &consumerv1.ExchangeTailsRequest{Lanes: []*consumerv1.LaneTail{{StreamId: 100 + id, Epoch: 1, Tail: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	got := r.consumer(t, "c").GetLanes()
	if len(got) != 1 || got[0].GetCursor().GetPosition().GetSequence() != 7 || got[0].GetTail() != nil || got[0].Records != nil {
		t.Errorf("after 20 days: %v", got)
	}
	if got := r.tail(t, 1, 9, 0); got.GetLowest() != 7 || got.GetHighest() != 7 {
		t.Errorf("and heard of again: %v", got)
	}
	if got, want := r.lag(t, "c"), (shown{2, 0, true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
