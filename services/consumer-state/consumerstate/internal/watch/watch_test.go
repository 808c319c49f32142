package watch_test

import (
	"errors"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/watch"
)

func key(id lane.ConsumerID) roster.Key { return roster.Key{Stream: 1, ID: id} }

func join(t *testing.T, b *watch.Board, gateway string) *watch.Watch {
	t.Helper()
	w, err := b.Join(gateway)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// waits reports whether a watcher would be woken.
func waits(w *watch.Watch) bool {
	select {
	case <-w.More:
		return true
	default:
		return false
	}
}

func TestToldOncePerConsumerAndGateway(t *testing.T) {
	b := watch.NewBoard(watch.Limits{Watches: 2, Entries: 2})
	here, there := join(t, b, "here"), join(t, b, "there")
	for range 3 {
		b.Tell("here", key("a"))
		here.Tell(key("b"))
	}
	if waits(there) {
		t.Error("another gateway was woken")
	}
	if !waits(here) {
		t.Error("the gateway was not woken")
	}
	if got, err := here.Take(); err != nil || len(got) != 2 {
		t.Errorf("took %v %v", got, err)
	}
	if got, err := here.Take(); err != nil || len(got) != 0 || waits(here) {
		t.Errorf("took again %v %v", got, err)
	}
}

func TestBoundsAndEnds(t *testing.T) {
	b := watch.NewBoard(watch.Limits{Watches: 2, Entries: 2})
	slow, other := join(t, b, "g"), join(t, b, "g")
	if _, err := b.Join("g"); !errors.Is(err, fault.Overloaded) {
		t.Errorf("a third: %v", err)
	}
	b.Tell("g", key("a"))
	if _, err := other.Take(); err != nil {
		t.Error(err)
	}
	b.Tell("g", key("b"))
	b.Tell("g", key("c"))
	b.Tell("g", key("d"))
	if _, err := slow.Take(); !errors.Is(err, fault.Overloaded) {
		t.Errorf("a slow one: %v", err)
	}
	slow.Leave()
	slow = join(t, b, "g")
	b.Close()
	if !waits(slow) {
		t.Error("not woken at the end")
	}
	if _, err := slow.Take(); !errors.Is(err, fault.Unavailable) {
		t.Errorf("at the end: %v", err)
	}
	b.Tell("g", key("a"))
	slow.Leave()
	if _, err := b.Join("g"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
	other.Leave()
	if b.Len() != 0 {
		t.Errorf("%d watches left", b.Len())
	}
}
