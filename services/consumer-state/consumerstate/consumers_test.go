package consumerstate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestCursorsNeverGoBack(t *testing.T) {
	r := newRig(t, nil)
	inc := r.attach(t, "c").GetIncarnation()
	for _, step := range []struct {
		name      string
		say, kept *consumerv1.Cursor
	}{
		{"first", cursor(0, 1, 10), cursor(0, 1, 10)},
		{"higher", cursor(0, 1, 12), cursor(0, 1, 12)},
		{"lower is answered with what is kept", cursor(0, 1, 3), cursor(0, 1, 12)},
		{"zero is lower", cursor(0, 0, 0), cursor(0, 1, 12)},
		{"a higher epoch replaces", cursor(0, 2, 5), cursor(0, 2, 5)},
		{"an older epoch is lower", cursor(0, 1, 99), cursor(0, 2, 5)},
		{"other partitions have cursors of their own", cursor(3, 1, 4), cursor(3, 1, 4)},
		{"sequences use all their bits", cursor(0, 2, 1<<64-1), cursor(0, 2, 1<<64-1)},
		{"and compare so", cursor(0, 2, 1<<63-1), cursor(0, 2, 1<<64-1)},
	} {
		kept, err := r.checkpoint("c", inc, step.say)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		same(t, step.name, kept, []*consumerv1.Cursor{step.kept})
	}
	want := []*consumerv1.Cursor{cursor(0, 2, 1<<64-1), cursor(3, 1, 4)}
	same(t, "attached again", r.attach(t, "c").GetCursors(), want)
	r.restart(t)
	same(t, "attached after a restart", r.attach(t, "c").GetCursors(), want)
}

func TestOlderIncarnationIsFenced(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	old := r.attach(t, "c").GetIncarnation()
	if _, err := r.checkpoint("c", old, cursor(0, 1, 5)); err != nil {
		t.Fatal(err)
	}
	now := r.attach(t, "c").GetIncarnation()
	if now <= old {
		t.Fatalf("incarnation %d after %d", now, old)
	}
	before := r.consumer(t, "c")
	r.clock.advance(time.Second)
	for _, stale := range []uint64{0, old, now + 1} {
		_, checkpoint := r.checkpoint("c", stale, cursor(0, 1, 50))
		_, report := r.Report(ctx, &consumerv1.ReportRequest{StreamId: streamID, ConsumerId: "c", Incarnation: stale, Health: &consumerv1.Health{Problem: "x"}})
		_, detach := r.Detach(ctx, &consumerv1.DetachRequest{StreamId: streamID, ConsumerId: "c", Incarnation: stale})
		for call, err := range map[string]error{"Checkpoint": checkpoint, "Report": report, "Detach": detach} {
			if !errors.Is(err, fault.ConsumerFenced) || fault.Of(err).Detail("incarnation") != fmt.Sprint(now) {
				t.Errorf("%s of incarnation %d: %v", call, stale, err)
			}
		}
	}
	same(t, "the fenced left no trace", r.consumer(t, "c"), before)
	if _, err := r.checkpoint("c", now, cursor(0, 1, 6)); err != nil {
		t.Errorf("the newest: %v", err)
	}
}

func TestLivenessAndHealth(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	inc := r.attach(t, "c").GetIncarnation()
	health := &consumerv1.Health{
		Phase: consumerv1.Phase_PHASE_BUILDING, Done: 3, Expected: 9, Verified: 2, Mismatched: 1, Problem: "slow disk", RetryAtMs: 5,
		Digests: []*streamv1.DigestMark{{Epoch: 1, Sequence: 4, Sum: make([]byte, 16), Count: 2}}, DoneBytes: 1 << 40, ExpectedBytes: 1 << 41,
		Rung: consumerv1.Rung_RUNG_BOOTSTRAP,
	}
	if _, err := r.Report(ctx, &consumerv1.ReportRequest{StreamId: streamID, ConsumerId: "c", Incarnation: inc, Health: health}); err != nil {
		t.Fatal(err)
	}
	want := &consumerv1.Consumer{
		Stream: streamName, StreamId: streamID, ConsumerId: "c", Kind: consumerv1.ConsumerKind_CONSUMER_KIND_LOG, Incarnation: inc, Attached: true,
		Client: "test 1", Gateway: "gw-1", FirstSeenMs: 1_000_000, LastSeenMs: 1_000_000, Health: health,
	}
	same(t, "reported", r.consumer(t, "c"), want)
	r.clock.advance(59 * time.Second)
	r.restart(t)
	same(t, "59 s later, after a restart", r.consumer(t, "c"), want)
	r.clock.advance(time.Second)
	want.Attached = false
	same(t, "60 s of silence", r.consumer(t, "c"), want)
	if _, err := r.checkpoint("c", inc); err != nil {
		t.Fatal(err)
	}
	want.Attached, want.LastSeenMs = true, 1_060_000
	same(t, "it speaks again", r.consumer(t, "c"), want)
	if _, err := r.Detach(ctx, &consumerv1.DetachRequest{StreamId: streamID, ConsumerId: "c", Incarnation: inc}); err != nil {
		t.Fatal(err)
	}
	want.Attached = false
	same(t, "detached", r.consumer(t, "c"), want)
	r.restart(t)
	same(t, "detached, after a restart", r.consumer(t, "c"), want)
	if _, err := r.checkpoint("c", inc, cursor(0, 1, 8)); err != nil {
		t.Fatalf("a last acknowledgement after Detach: %v", err)
	}
	if got := r.consumer(t, "c"); got.GetAttached() || got.GetLanes()[0].GetCursor().GetPosition().GetSequence() != 8 {
		t.Errorf("after a last acknowledgement: %v", got)
	}
	if again := r.attach(t, "c"); again.GetIncarnation() <= inc || !r.consumer(t, "c").GetAttached() {
		t.Errorf("attached again: %v", again)
	}
}

func TestDeleteForgetsAndNeverReusesIncarnations(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	var old uint64
	for range 3 {
		old = r.attach(t, "c").GetIncarnation()
	}
	r.attach(t, "other")
	if _, err := r.checkpoint("c", old, cursor(0, 1, 40)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DeleteConsumer(ctx, &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: "c"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.checkpoint("c", old, cursor(0, 1, 41)); !errors.Is(err, fault.UnknownConsumer) {
		t.Errorf("checkpoint of a deleted consumer: %v", err)
	}
	_, err := r.DeleteConsumer(ctx, &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: "c"})
	if !errors.Is(err, fault.UnknownConsumer) || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("deleting again: %v", err)
	}
	r.restart(t)
	again := r.attach(t, "c")
	if again.GetIncarnation() <= old || len(again.GetCursors()) != 0 {
		t.Errorf("made again after incarnation %d: %v", old, again)
	}
	if _, err := r.checkpoint("c", old, cursor(0, 1, 41)); !errors.Is(err, fault.ConsumerFenced) {
		t.Errorf("an incarnation from before the deletion: %v", err)
	}
	if got := r.tail(t, 1, 100, 0); got.GetHighest() != 40 || got.GetLowest() != 0 || got.GetConsumers() != 2 {
		t.Errorf("what was passed: %v", got)
	}
}

func TestStreamMadeAgainHasConsumersOfItsOwn(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	inc := r.attach(t, "c").GetIncarnation()
	if _, err := r.checkpoint("c", inc, cursor(0, 1, 5)); err != nil {
		t.Fatal(err)
	}
	anew, err := r.Attach(ctx, &consumerv1.AttachRequest{Stream: streamName, StreamId: 8, ConsumerId: "c"})
	if err != nil || len(anew.GetCursors()) != 0 {
		t.Fatalf("%v %v", anew, err)
	}
	all, err := r.ListConsumers(ctx, &consumerv1.ListConsumersRequest{})
	if err != nil || len(all.GetConsumers()) != 2 {
		t.Fatalf("%v %v", all, err)
	}
	if _, err := r.DeleteConsumer(ctx, &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: "c"}); err != nil {
		t.Fatal(err)
	}
	if all, err := r.ListConsumers(ctx, &consumerv1.ListConsumersRequest{}); err != nil || len(all.GetConsumers()) != 0 {
		t.Errorf("after deleting by name: %v %v", all, err)
	}
}

func TestWhatConsumersHavePassed(t *testing.T) {
	r := newRig(t, nil)
	if got := r.tail(t, 1, 10, 0); got.GetConsumers() != 0 || got.GetLowest() != 0 || got.GetHighest() != 0 || got.GetEpoch() != 1 {
		t.Errorf("nobody: %v", got)
	}
	a, b := r.attach(t, "a").GetIncarnation(), r.attach(t, "b").GetIncarnation()
	say := func(id string, inc, epoch, sequence uint64) {
		t.Helper()
		if _, err := r.checkpoint(id, inc, cursor(0, epoch, sequence)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, asked, epoch, lowest, highest uint64) {
		t.Helper()
		same(t, what, r.tail(t, asked, 10, 0), &consumerv1.LaneCursors{StreamId: streamID, Epoch: epoch, Consumers: 2, Lowest: lowest, Highest: highest})
	}
	say("a", a, 1, 9)
	check("b has no cursor", 1, 1, 0, 9)
	say("b", b, 1, 4)
	check("both", 1, 1, 4, 9)
	r.restart(t)
	check("after a restart", 1, 1, 4, 9)
	say("a", a, 2, 6)
	check("a is in a newer history than the asker", 1, 2, 0, 6)
	say("b", b, 2, 7)
	check("both in it", 2, 2, 6, 7)
	check("the asker's history is new to all", 3, 3, 0, 0)
}

// What retention and tombstones wait for is every registered consumer: replicas too, and those that are away.
func TestReplicasHoldRetentionBack(t *testing.T) {
	r := newRig(t, nil)
	log, copied := r.attach(t, "log").GetIncarnation(), r.replica(t, "copy")
	expect := func(what string, consumers uint32, lowest uint64) {
		t.Helper()
		if got := r.tail(t, 1, 100, 0); got.GetConsumers() != consumers || got.GetLowest() != lowest {
			t.Errorf("%s: %v, want %d consumers and lowest %d", what, got, consumers, lowest)
		}
	}
	if _, err := r.checkpoint("log", log, cursor(0, 1, 90)); err != nil {
		t.Fatal(err)
	}
	expect("a replica that has not said where it is", 2, 0)
	if _, err := r.checkpoint("copy", copied, cursor(0, 1, 40)); err != nil {
		t.Fatal(err)
	}
	expect("the replica is behind", 2, 40)
	r.clock.advance(30 * 24 * time.Hour)
	r.restart(t)
	expect("away for a month", 2, 40)
	if _, err := r.DeleteConsumer(context.Background(), &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: "copy"}); err != nil {
		t.Fatal(err)
	}
	expect("deleted", 1, 90)
}

func TestRefusals(t *testing.T) {
	r := newRig(t, func(c *consumerstate.Config) { c.MaxConsumers, c.MaxLanes = 2, 4 })
	ctx := context.Background()
	inc := r.attach(t, "c").GetIncarnation()
	attach := func(change func(*consumerv1.AttachRequest)) error {
		req := &consumerv1.AttachRequest{Stream: streamName, StreamId: streamID, ConsumerId: "d", Kind: consumerv1.ConsumerKind_CONSUMER_KIND_REPLICA}
		change(req)
		_, err := r.Attach(ctx, req)
		return err
	}
	checkpoint := func(cursors ...*consumerv1.Cursor) error { _, err := r.checkpoint("c", inc, cursors...); return err }
	exchange := func(lanes ...*consumerv1.LaneTail) error {
		_, err := r.ExchangeTails(ctx, &consumerv1.ExchangeTailsRequest{Lanes: lanes})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want fault.Reason
	}{
		"bad stream name":        {attach(func(r *consumerv1.AttachRequest) { r.Stream = "a b" }), fault.InvalidName},
		"no stream id":           {attach(func(r *consumerv1.AttachRequest) { r.StreamId = 0 }), fault.InvalidArgument},
		"bad consumer":           {attach(func(r *consumerv1.AttachRequest) { r.ConsumerId = "" }), fault.InvalidName},
		"other kind":             {attach(func(r *consumerv1.AttachRequest) { r.ConsumerId = "c" }), fault.InvalidArgument},
		"unknown kind":           {attach(func(r *consumerv1.AttachRequest) { r.Kind = 9 }), fault.InvalidArgument},
		"long text":              {attach(func(r *consumerv1.AttachRequest) { r.Client = strings.Repeat("x", 513) }), fault.InvalidArgument},
		"sequence without epoch": {checkpoint(cursor(0, 0, 5)), fault.InvalidArgument},
		"partition":              {checkpoint(cursor(1024, 1, 5)), fault.InvalidArgument},
		"too many cursors":       {checkpoint(slices.Repeat([]*consumerv1.Cursor{cursor(0, 1, 5)}, 1025)...), fault.InvalidArgument},
		"lane without epoch":     {exchange(&consumerv1.LaneTail{StreamId: 1}), fault.InvalidArgument},
		"too many lanes":         {exchange(slices.Repeat([]*consumerv1.LaneTail{{StreamId: 1, Epoch: 1}}, 5)...), fault.InvalidArgument},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %s", name, c.err, c.want)
		}
	}
	_, err := r.Report(ctx, &consumerv1.ReportRequest{StreamId: streamID, ConsumerId: "c", Incarnation: inc, Health: &consumerv1.Health{Problem: strings.Repeat("x", 100<<10)}})
	if !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("large health: %v", err)
	}
	if got := r.consumer(t, "c"); len(got.GetLanes()) != 0 || got.GetHealth() != nil {
		t.Errorf("refusals left %v", got)
	}
	r.attach(t, "d")
	if err := attach(func(r *consumerv1.AttachRequest) { r.ConsumerId = "e" }); !errors.Is(err, fault.Overloaded) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := r.DeleteConsumer(ctx, &consumerv1.DeleteConsumerRequest{Stream: streamName, ConsumerId: "d"}); err != nil {
		t.Fatal(err)
	}
	r.attach(t, "e")
}

// Two hundred consumers at once share commits, and each finds its own answer kept.
func TestConcurrentCheckpoints(t *testing.T) {
	r := newRig(t, nil)
	const consumers, rounds = 200, 5
	var all sync.WaitGroup
	for i := range consumers {
		all.Go(func() {
			id := fmt.Sprintf("c-%d", i)
			answer, err := r.Attach(context.Background(), &consumerv1.AttachRequest{Stream: streamName, StreamId: streamID, ConsumerId: id})
			if err != nil {
				t.Error(err)
				return
			}
			for round := uint64(1); round <= rounds; round++ {
				kept, err := r.checkpoint(id, answer.GetIncarnation(), cursor(0, 1, round*1000+uint64(i)))
				if err != nil || kept[0].GetPosition().GetSequence() != round*1000+uint64(i) {
					t.Error(id, kept, err)
				}
			}
		})
	}
	all.Wait()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	commits := uint64(0)
	for _, f := range families {
		if f.GetName() == "lockstep_consumer_state_commit_seconds" {
			commits = f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	if calls := uint64(consumers * (rounds + 1)); commits == 0 || commits > calls/2 {
		t.Errorf("%d calls took %d commits", calls, commits)
	}
	r.restart(t)
	for i := range consumers {
		kept := r.attach(t, fmt.Sprintf("c-%d", i)).GetCursors()
		if len(kept) != 1 || kept[0].GetPosition().GetSequence() != rounds*1000+uint64(i) {
			t.Errorf("c-%d: %v", i, kept)
		}
	}
}
