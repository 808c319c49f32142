package consumerstate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// watcher is a gateway that watches.
type watcher struct {
	heard  chan string // "consumer/incarnation command"
	end    chan error  // why it ended
	cancel context.CancelFunc
}

func (r *rig) watch(t *testing.T, gateway string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{heard: make(chan string, 100), end: make(chan error, 1), cancel: cancel}
	stream, err := r.WatchResets(ctx, &consumerv1.WatchResetsRequest{Gateway: gateway})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Header() // it is heard by now; a refusal comes from Recv
	go func() {            // ends when the watch does
		for {
			m, err := stream.Recv()
			if err != nil {
				w.end <- err
				return
			}
			w.heard <- fmt.Sprintf("%s/%d %s", m.GetConsumerId(), m.GetIncarnation(), m.GetCommand().GetCommandId())
		}
	}()
	t.Cleanup(cancel)
	return w
}

// hears waits for exactly these, in any order.
func (w *watcher) hears(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case m := <-w.heard:
			got = append(got, m)
		case <-time.After(10 * time.Second):
			t.Fatalf("heard %v, want %v", got, want)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("heard %v, want %v", got, want)
	}
}

// ends waits for the end and gives why; nothing else was heard.
func (w *watcher) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.end:
		if len(w.heard) > 0 {
			t.Errorf("also heard %s", <-w.heard)
		}
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the watch did not end")
		return nil
	}
}

func TestGatewaysHearOfCommands(t *testing.T) {
	const replica = consumerv1.ConsumerKind_CONSUMER_KIND_REPLICA
	r := newRig(t, nil)
	a := r.attachAt(t, "gw-1", "a", replica)
	b := r.attachAt(t, "gw-2", "b", replica)
	r.issue(t, repair("old", "a"))
	r.issue(t, repair("one", "a"))
	one, two := r.watch(t, "gw-1"), r.watch(t, "gw-2")
	one.hears(t, fmt.Sprintf("a/%d one", a)) // not the superseded one
	r.issue(t, repair("for-b", "b"))
	two.hears(t, fmt.Sprintf("b/%d for-b", b))
	r.issue(t, repair("for-b", "b")) // said again: nobody is told again

	// A command waits for whoever is away, and goes where it comes to.
	if _, err := r.Detach(t.Context(), &consumerv1.DetachRequest{StreamId: streamID, ConsumerId: "b", Incarnation: b}); err != nil {
		t.Fatal(err)
	}
	r.issue(t, repair("later", "b"))
	b = r.attachAt(t, "gw-1", "b", replica)
	one.hears(t, fmt.Sprintf("b/%d later", b))
	r.says(t, "b", b, is("later", running))
	b = r.attachAt(t, "gw-1", "b", replica)
	one.hears(t, fmt.Sprintf("b/%d later", b)) // until an end is reported
	r.says(t, "b", b, is("later", done))
	r.attachAt(t, "gw-1", "b", replica)

	again := r.watch(t, "gw-1")
	again.hears(t, fmt.Sprintf("a/%d one", a))
	again.cancel()
	_ = again.ends(t)
	r.cancel() // the service stops
	for _, w := range []*watcher{one, two} {
		if err := w.ends(t); !errors.Is(err, fault.Unavailable) {
			t.Errorf("at the end of the service: %v", err)
		}
	}
	r.restart(t)
	r.watch(t, "gw-1").hears(t, fmt.Sprintf("a/%d one", a))
	if err := r.watch(t, "").ends(t); !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("a watch without a name: %v", err)
	}
}

// A command to a thousand consumers of one gateway reaches each of them, also while they come and the watch begins anew.
func TestWatchOfManyConsumers(t *testing.T) {
	const consumers = 1000
	r := newRig(t, nil)
	for i := range consumers {
		r.attachAt(t, "gw-1", fmt.Sprint("c-", i), consumerv1.ConsumerKind_CONSUMER_KIND_REPLICA)
	}
	first := r.watch(t, "gw-1")
	all := repair("one", "")
	all.All = true
	r.issue(t, all)
	for _, w := range []*watcher{first, r.watch(t, "gw-1")} {
		seen := map[string]bool{}
		for len(seen) < consumers {
			select {
			case m := <-w.heard:
				seen[m] = true
			case <-time.After(10 * time.Second):
				t.Fatalf("heard of %d", len(seen))
			}
		}
	}
}
