package acks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/acks"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper stores cursors by consumer and partition, slowly, and notices two calls of one consumer at once.
type keeper struct {
	mu      sync.Mutex
	kept    map[string]uint64
	busy    map[string]bool
	calls   int
	overlap bool
	fail    error
	reports int
}

func (k *keeper) Checkpoint(_ context.Context, in *consumerv1.CheckpointRequest, _ ...grpc.CallOption) (*consumerv1.CheckpointResponse, error) {
	k.mu.Lock()
	k.calls++
	k.overlap = k.overlap || k.busy[in.GetConsumerId()]
	k.busy[in.GetConsumerId()] = true
	k.mu.Unlock()
	time.Sleep(5 * time.Millisecond) // an fsync, on the test's own clock
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy[in.GetConsumerId()] = false
	if k.fail != nil {
		return nil, k.fail
	}
	out := &consumerv1.CheckpointResponse{}
	for _, c := range in.GetCursors() {
		key := fmt.Sprint(in.GetConsumerId(), "/", c.GetPartition())
		k.kept[key] = max(k.kept[key], c.GetPosition().GetSequence())
		out.Cursors = append(out.Cursors, cursor(c.GetPartition(), k.kept[key]))
	}
	return out, nil
}

func (k *keeper) Report(context.Context, *consumerv1.ReportRequest, ...grpc.CallOption) (*consumerv1.ReportResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reports++
	return &consumerv1.ReportResponse{}, k.fail
}

func (k *keeper) setFail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

func cursor(partition uint32, sequence uint64) *consumerv1.Cursor {
	return &consumerv1.Cursor{Partition: partition, Position: &streamv1.Position{Epoch: 1, Sequence: sequence}}
}

func live(id string, incarnation lane.Incarnation) *session.Session {
	return &session.Session{Key: session.Key{Stream: 7, Consumer: lane.ConsumerID(id)}, Name: "orders", Incarnation: incarnation}
}

func play(t *testing.T, cfg acks.Config, fn func(*acks.Forwarder, *keeper)) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{kept: make(map[string]uint64), busy: make(map[string]bool)}
		f := acks.New(cfg, k, slog.New(slog.DiscardHandler))
		defer f.Close(t.Context())
		fn(f, k)
	})
}

func TestAcksOfOneConsumerAreFewCalls(t *testing.T) {
	play(t, acks.Config{}, func(f *acks.Forwarder, k *keeper) {
		for i := range uint64(1000) {
			for _, id := range []string{"a", "b"} {
				if err := f.Send(acks.Ack{Session: live(id, 1), Cursors: []*consumerv1.Cursor{cursor(uint32(i%2), i+1)}}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.kept["a/1"] != 1000 || k.kept["b/0"] != 999 || k.overlap {
			t.Fatalf("kept %v, overlapping calls: %v", k.kept, k.overlap)
		}
		if k.calls > 120 {
			t.Fatalf("2,000 acks in a second made %d calls", k.calls)
		}
		if f.Pending() != 0 {
			t.Fatalf("%d wait after all was stored", f.Pending())
		}
	})
}

func TestAwayIsWaitedOut(t *testing.T) {
	play(t, acks.Config{}, func(f *acks.Forwarder, k *keeper) {
		k.setFail(fault.New(fault.Unavailable, "away"))
		_ = f.Send(acks.Ack{Session: live("a", 1), Cursors: []*consumerv1.Cursor{cursor(0, 5)}, Health: &consumerv1.Health{}})
		time.Sleep(3 * time.Second)
		_ = f.Send(acks.Ack{Session: live("a", 1), Cursors: []*consumerv1.Cursor{cursor(0, 4), cursor(1, 9)}})
		start := time.Now()
		_, err := f.Confirm(context.Background(), acks.Ack{Session: live("a", 1), Cursors: []*consumerv1.Cursor{cursor(0, 6)}})
		if took := time.Since(start); !errors.Is(err, fault.Unavailable) || took < 9*time.Second || took > 11*time.Second {
			t.Fatalf("a confirmed ack got %v after %v", err, took)
		}
		k.setFail(nil)
		time.Sleep(5 * time.Second)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.kept["a/0"] != 6 || k.kept["a/1"] != 9 || k.reports != 1 || f.Pending() != 0 {
			t.Fatalf("kept %v, %d reports, %d wait", k.kept, k.reports, f.Pending())
		}
	})
}

func TestTooManyAreRefused(t *testing.T) {
	play(t, acks.Config{MaxConsumers: 10}, func(f *acks.Forwarder, k *keeper) {
		k.setFail(fault.New(fault.Unavailable, "away"))
		refused := 0
		for i := range 15 {
			if err := f.Send(acks.Ack{Session: live(fmt.Sprint("c", i), 1)}); errors.Is(err, fault.Overloaded) {
				refused++
			}
		}
		if refused != 5 || f.Pending() != 10 {
			t.Fatalf("%d refused, %d wait", refused, f.Pending())
		}
		k.setFail(nil)
	})
}

func TestFencedIsTold(t *testing.T) {
	fenced := make(chan session.Key, 1)
	cfg := acks.Config{Fenced: func(k session.Key, _ lane.Incarnation) { fenced <- k }}
	play(t, cfg, func(f *acks.Forwarder, k *keeper) {
		k.setFail(fault.New(fault.ConsumerFenced, "2 is live"))
		if _, err := f.Confirm(context.Background(), acks.Ack{Session: live("a", 1), Cursors: []*consumerv1.Cursor{cursor(0, 6)}}); !errors.Is(err, fault.ConsumerFenced) {
			t.Fatalf("got %v", err)
		}
		if k := <-fenced; k.Consumer != "a" {
			t.Fatalf("%v was told fenced", k)
		}
		if f.Pending() != 0 {
			t.Fatal("a fenced ack is tried again")
		}
		k.setFail(fault.New(fault.Unavailable, "away"))
		_ = f.Send(acks.Ack{Session: live("b", 2), Cursors: []*consumerv1.Cursor{cursor(0, 1)}})
		if err := f.Send(acks.Ack{Session: live("b", 1), Cursors: []*consumerv1.Cursor{cursor(0, 9)}}); !errors.Is(err, fault.ConsumerFenced) {
			t.Fatalf("an older incarnation: %v", err)
		}
		k.setFail(nil)
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{kept: make(map[string]uint64), busy: make(map[string]bool)}
		f := acks.New(acks.Config{}, k, slog.New(slog.DiscardHandler))
		for i := range 50 {
			_ = f.Send(acks.Ack{Session: live(fmt.Sprint("c", i), 1), Cursors: []*consumerv1.Cursor{cursor(0, 7)}})
		}
		f.Close(t.Context())
		if len(k.kept) != 50 {
			t.Fatalf("%d of 50 were stored", len(k.kept))
		}
	})
}
