package gateway_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
)

func attach(t testing.TB, c *rsocket.Conn, id string) uint64 {
	t.Helper()
	out := new(deliveryv1.AttachResponse)
	if err := ask(t, c, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: "orders", ConsumerId: id, Kind: consumerv1.ConsumerKind_CONSUMER_KIND_REPLICA}, out); err != nil {
		t.Fatal(err)
	}
	return out.GetIncarnation()
}

func follow(t testing.TB, c *rsocket.Conn, id string, incarnation uint64) *reading {
	t.Helper()
	return open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: id, Incarnation: incarnation, FromTail: true}, 64)
}

// reset receives until a command comes.
func (r *reading) reset() *deliveryv1.Reset {
	r.t.Helper()
	for {
		d, data, err := r.next()
		if err != nil {
			r.t.Fatal(err)
		}
		if d.GetKind() == deliveryv1.Delivery_KIND_RESET {
			if d.GetReset_().GetCommandId() == "" || len(data) != 0 {
				r.t.Fatalf("a command: %v", d)
			}
			return d.GetReset_()
		}
	}
}

func order(consumer string, incarnation uint64, c *consumerv1.Command) *consumerv1.WatchResetsResponse {
	c.Stream, c.StreamId = "orders", streamID
	return &consumerv1.WatchResetsResponse{ConsumerId: consumer, Incarnation: incarnation, Command: c}
}

func TestCommandsComeInBand(t *testing.T) {
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.Name = "g1" })
	h.store.lane.Append(10, 10)
	c := h.dial()
	incarnation := attach(t, c, "a")
	r := follow(t, c, "a", incarnation)
	h.keeper.watched(t)
	h.keeper.locked(func() {
		for _, gateway := range h.keeper.watches {
			if gateway != "g1" {
				t.Errorf("the watch is of gateway %q", gateway)
			}
		}
	})
	h.keeper.issue(order("b", 1, &consumerv1.Command{CommandId: "not yours", Action: consumerv1.Action_ACTION_FULL}))
	h.keeper.issue(order("a", incarnation, &consumerv1.Command{CommandId: "v", Action: consumerv1.Action_ACTION_VERIFY, DryRun: true, MaxBytesPerSecond: 5, Why: "to see"}))
	want := &deliveryv1.Reset{CommandId: "v", Action: consumerv1.Action_ACTION_VERIFY, DryRun: true, MaxBytesPerSecond: 5, Why: "to see"}
	if got := r.reset(); !proto.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	// Records go on; the command moved no cursor.
	h.store.lane.Append(10, 10)
	r.cursor = 10
	r.until(20)

	// b attaches later and is told; so is every further subscription of it, until it says that it is done.
	other := h.dial()
	life := attach(t, other, "b")
	for range 2 {
		if got := follow(t, other, "b", life).reset(); got.GetCommandId() != "not yours" || got.GetAction() != consumerv1.Action_ACTION_FULL {
			t.Fatalf("got %v", got)
		}
	}
	// Every watch tells all again.
	h.keeper.issue(nil)
	if got := r.reset(); got.GetCommandId() != "v" {
		t.Fatalf("got %v", got)
	}
	done := &consumerv1.Health{Phase: consumerv1.Phase_PHASE_LIVE, Rung: consumerv1.Rung_RUNG_REPAIR, DoneBytes: 7, ExpectedBytes: 9, Resets: []*consumerv1.ResetProgress{
		{CommandId: "v", State: consumerv1.ResetState_RESET_STATE_DONE, Differing: 3, Missing: 2, Extra: 1, MovedBytes: 1 << 40, TookMs: 5, Digests: []*streamv1.DigestMark{{Sequence: 20, Sum: make([]byte, 16)}}},
		{CommandId: "w", State: consumerv1.ResetState_RESET_STATE_RUNNING},
	}}
	report := func(health *consumerv1.Health) {
		if err := c.FireAndForget(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteStatus),
			Data: message(t, &deliveryv1.StatusRequest{Stream: "orders", ConsumerId: "a", Incarnation: incarnation, Health: health})}); err != nil {
			t.Fatal(err)
		}
	}
	report(done)
	eventually(t, "what it said of its commands is kept unharmed", func() (ok bool) {
		h.keeper.locked(func() { ok = proto.Equal(h.keeper.health, done) })
		return ok
	})
	h.keeper.locked(func() { h.keeper.commands = nil })
	again := follow(t, c, "a", incarnation)
	h.keeper.issue(order("a", incarnation, &consumerv1.Command{CommandId: "next", Action: consumerv1.Action_ACTION_REPAIR}))
	if got := again.reset(); got.GetCommandId() != "next" {
		t.Fatalf("a command that had ended came again: %v", got)
	}
	// Too much is refused, and does not replace what is kept.
	tooMany := &consumerv1.Health{Resets: slices.Repeat([]*consumerv1.ResetProgress{{CommandId: "x"}}, gateway.MaxHealthResets+1)}
	report(tooMany)
	report(&consumerv1.Health{Problem: strings.Repeat("x", gateway.MaxHealthBytes)})
	last := &consumerv1.Health{Problem: "last"}
	report(last)
	eventually(t, "the last report is kept", func() (ok bool) {
		h.keeper.locked(func() { ok = proto.Equal(h.keeper.health, last) })
		return ok
	})
}

func TestWhereToBeginAnew(t *testing.T) {
	h := newHouse(t)
	for range 50 {
		h.store.lane.Append(7, 10) // record n is of 1,700,000,000,000 + n ms
	}
	h.store.lane.Retain(15)
	c := h.dial()
	incarnation := attach(t, c, "a")
	r := follow(t, c, "a", incarnation)
	h.keeper.watched(t)
	for what, x := range map[string]struct {
		command *consumerv1.Command
		want    uint64
	}{
		"a sequence":       {&consumerv1.Command{Action: consumerv1.Action_ACTION_FROM_SEQUENCE, FromSequence: 33}, 33},
		"in a batch":       {&consumerv1.Command{Action: consumerv1.Action_ACTION_FROM_TIME, FromTimeMs: 1_700_000_000_000 + 100}, 100},
		"where one begins": {&consumerv1.Command{Action: consumerv1.Action_ACTION_FROM_TIME, FromTimeMs: 1_700_000_000_000 + 99}, 99},
		"before all":       {&consumerv1.Command{Action: consumerv1.Action_ACTION_FROM_TIME, FromTimeMs: 5}, 15},
		"after all":        {&consumerv1.Command{Action: consumerv1.Action_ACTION_FROM_TIME, FromTimeMs: 1_800_000_000_000}, 351},
		"the last":         {&consumerv1.Command{Action: consumerv1.Action_ACTION_FROM_TIME, FromTimeMs: 1_700_000_000_000 + 350}, 350},
	} {
		x.command.CommandId = what
		h.keeper.issue(order("a", incarnation, x.command))
		got := r.reset()
		if got.GetCommandId() != what || len(got.GetFrom()) != 1 || got.GetFrom()[0].GetPosition().GetSequence() != x.want || got.GetFrom()[0].GetPosition().GetEpoch() != 1 {
			t.Fatalf("%s: got %v", what, got)
		}
	}
	// Storage is away for a moment: the command waits for it.
	h.store.lane.SetDown(true)
	before := h.store.lane.Reads()
	h.keeper.issue(order("a", incarnation, &consumerv1.Command{CommandId: "patient", Action: consumerv1.Action_ACTION_FROM_TIME, FromTimeMs: 1_700_000_000_000 + 77}))
	eventually(t, "storage was asked", func() bool { return h.store.lane.Reads() > before })
	h.store.lane.SetDown(false)
	if got := r.reset(); got.GetCommandId() != "patient" || got.GetFrom()[0].GetPosition().GetSequence() != 77 {
		t.Fatalf("got %v", got)
	}
	// A stream made anew under the name is another one.
	stale := order("a", incarnation, &consumerv1.Command{CommandId: "stale", Action: consumerv1.Action_ACTION_FROM_SEQUENCE, FromSequence: 1})
	stale.Command.StreamId = streamID + 1
	h.keeper.issue(stale)
	h.keeper.issue(order("a", incarnation, &consumerv1.Command{CommandId: "after", Action: consumerv1.Action_ACTION_FULL}))
	if got := r.reset(); got.GetCommandId() != "after" {
		t.Fatalf("got %v", got)
	}
}

func TestCommandsToAFencedLifeReachTheNext(t *testing.T) {
	h := newHouse(t)
	c := h.dial()
	first := attach(t, c, "a")
	old := follow(t, c, "a", first)
	h.keeper.watched(t)
	second := attach(t, h.dial(), "a")
	if err := old.ends(); err == nil || !strings.Contains(err.Error(), "incarnation") {
		t.Fatalf("the older life: %v", err)
	}
	h.keeper.issue(order("a", first, &consumerv1.Command{CommandId: "c", Action: consumerv1.Action_ACTION_VERIFY}))
	d := h.dial()
	third := attach(t, d, "a")
	if third != second+1 {
		t.Fatal(errors.New("incarnations"))
	}
	if got := follow(t, d, "a", third).reset(); got.GetCommandId() != "c" {
		t.Fatalf("got %v", got)
	}
}
