package notify_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
)

func embedded(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the embedded NATS server did not start")
	}
	return s
}

func connect(t *testing.T, s *server.Server) *notify.Bus {
	t.Helper()
	b, err := notify.Connect(notify.Config{InProcess: s, Name: t.Name()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestFollowersHearTheirLane(t *testing.T) {
	s := embedded(t)
	publisher, follower := connect(t, s), connect(t, s)
	one, all := make(chan *notifyv1.Notification, 16), make(chan *notifyv1.Notification, 16)
	stopOne, err := follower.Follow(7, 1, func(n *notifyv1.Notification) { one <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer stopOne()
	stopAll, err := follower.FollowAll(func(n *notifyv1.Notification) { all <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer stopAll()

	// Subscriptions travel on another connection than publications: publish until the first is heard.
	deadline := time.After(10 * time.Second)
	for heard := false; !heard; {
		if err := publisher.Publish(&notifyv1.Notification{StreamId: 9, Partition: 0, Tail: 1}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-all:
			heard = true
		case <-deadline:
			t.Fatal("nothing was heard")
		case <-time.After(10 * time.Millisecond):
		}
	}
	for tail := uint64(1); tail <= 3; tail++ {
		if err := publisher.Publish(&notifyv1.Notification{StreamId: 7, Partition: 1, Tail: tail}); err != nil {
			t.Fatal(err)
		}
	}
	for tail := uint64(1); tail <= 3; tail++ {
		select {
		case n := <-one:
			if n.GetStreamId() != 7 || n.GetTail() != tail {
				t.Fatalf("got %v, want tail %d of lane 7/1", n, tail)
			}
		case <-deadline:
			t.Fatalf("tail %d was not heard", tail)
		}
	}
}

// While NATS is away Publish answers at once and counts what it lost.
func TestPublishNeverBlocks(t *testing.T) {
	defer goleak.VerifyNone(t)
	b, err := notify.Connect(notify.Config{URL: "nats://127.0.0.1:1", Name: t.Name()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Connected() {
		t.Fatal("connected to nothing")
	}
	for range 100 {
		if err := b.Publish(&notifyv1.Notification{StreamId: 1}); err == nil {
			t.Fatal("a notification without a server was not reported as dropped")
		}
	}
	if b.Dropped() != 100 {
		t.Fatalf("dropped %d, want 100", b.Dropped())
	}
}
