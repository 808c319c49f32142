package resets_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/resets"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// keeper is a consumer-state whose watches send what is scripted and then break, or stay when script is done.
type keeper struct {
	mu      sync.Mutex
	away    bool
	watches []time.Time
	script  [][]*consumerv1.WatchResetsResponse
}

func (k *keeper) WatchResets(ctx context.Context, in *consumerv1.WatchResetsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[consumerv1.WatchResetsResponse], error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watches = append(k.watches, time.Now())
	if k.away {
		return nil, fault.New(fault.Unavailable, "consumer-state is away from %s", in.GetGateway())
	}
	s := &watch{ctx: ctx, stays: len(k.script) == 0}
	if len(k.script) > 0 {
		s.left, k.script = k.script[0], k.script[1:]
	}
	return s, nil
}

type watch struct {
	grpc.ClientStream
	ctx   context.Context
	left  []*consumerv1.WatchResetsResponse
	stays bool
}

func (w *watch) Recv() (*consumerv1.WatchResetsResponse, error) {
	if len(w.left) == 0 {
		if w.stays {
			<-w.ctx.Done()
			return nil, w.ctx.Err()
		}
		return nil, fault.New(fault.Unavailable, "broken off")
	}
	one := w.left[0]
	w.left = w.left[1:]
	return one, nil
}

func command(consumer, id string) *consumerv1.WatchResetsResponse {
	return &consumerv1.WatchResetsResponse{ConsumerId: consumer, Incarnation: 1, Command: &consumerv1.Command{CommandId: id, StreamId: 7}}
}

func run(t *testing.T, k *keeper, deliver func(resets.Order)) *resets.Watcher {
	w := resets.New("g", k, deliver, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func TestAwayIsWaitedOutEverLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{away: true}
		run(t, k, func(resets.Order) {})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		n := len(k.watches)
		if n < 55 || n > 140 { // about every 7.5 s in the end
			t.Fatalf("%d tries in ten minutes", n)
		}
		if first, last := k.watches[1].Sub(k.watches[0]), k.watches[n-1].Sub(k.watches[n-2]); first > 100*time.Millisecond || last < 5*time.Second || last > 10*time.Second {
			t.Fatalf("the first pause was %v, the last %v", first, last)
		}
	})
}

func TestWhatIsOpenIsKeptWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first []*consumerv1.WatchResetsResponse
		for i := range resets.MaxOpen + 4 {
			first = append(first, command("a", fmt.Sprint("a", i)))
		}
		first = append(first, command("a", "a19"), command("b", "b0"))
		k := &keeper{script: [][]*consumerv1.WatchResetsResponse{first, {command("a", "new"), command("c", "c0")}}}
		var mu sync.Mutex
		var delivered int
		seen := make(chan struct{})
		w := run(t, k, func(o resets.Order) {
			mu.Lock()
			defer mu.Unlock()
			if delivered++; delivered == len(first) {
				close(seen)
			}
		})
		key := func(c string) session.Key { return session.Key{Stream: 7, Consumer: lane.ConsumerID(c)} }
		<-seen
		open := w.Open(key("a"))
		if len(open) != resets.MaxOpen || open[0].Command.GetCommandId() != "a4" || open[len(open)-1].Command.GetCommandId() != "a19" || len(w.Open(key("b"))) != 1 {
			t.Fatalf("%d are open: %v", len(open), open)
		}
		w.Ended(key("a"), []string{"a4", "a5"})
		if open := w.Open(key("a")); len(open) != resets.MaxOpen-2 || w.IsOpen(resets.Order{Key: key("a"), Command: &consumerv1.Command{CommandId: "a4"}}) {
			t.Fatalf("%d are open", len(open))
		}
		time.Sleep(time.Second) // the second watch tells all anew: what it does not tell is not open
		synctest.Wait()
		if open := w.Open(key("a")); len(open) != 1 || open[0].Command.GetCommandId() != "new" || len(w.Open(key("b"))) != 0 || len(w.Open(key("c"))) != 1 {
			t.Fatalf("%v", open)
		}
		w.Forget(key("c"))
		if len(w.Open(key("c"))) != 0 {
			t.Fatal("a consumer that left is remembered")
		}
	})
}
