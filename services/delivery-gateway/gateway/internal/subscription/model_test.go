package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/catchup"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/feed"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/lanetest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/subscription"
)

var quiet = slog.New(slog.DiscardHandler)

// writer plays the engine for one subscription: it asks Next while there is credit and stops at Wait until woken.
type writer struct {
	sub  *subscription.Subscription
	wake chan struct{}

	mu       sync.Mutex
	credit   uint32
	failed   error
	over     bool
	cursor   lane.Sequence
	started  bool
	statuses int
	wrong    error
	idle     bool
	done     chan struct{}
}

func newWriter(after lane.Sequence, window int64) *writer {
	w := &writer{wake: make(chan struct{}, 1), cursor: after, done: make(chan struct{})}
	w.sub = subscription.New(w, window, nil)
	go w.run()
	return w
}

func (w *writer) Wake() {
	w.mu.Lock()
	w.idle = false
	w.mu.Unlock()
	w.kick()
}

func (w *writer) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) Fail(err error) {
	w.mu.Lock()
	if w.failed == nil {
		w.failed = err
	}
	w.mu.Unlock()
	w.kick()
}

func (w *writer) request(n uint32) {
	w.sub.Requested(n)
	w.mu.Lock()
	w.credit += n
	w.mu.Unlock()
	w.kick()
}

func (w *writer) close() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.kick()
	<-w.done
}

func (w *writer) run() {
	defer close(w.done)
	defer w.sub.Closed()
	for {
		w.mu.Lock()
		for !w.over && w.failed == nil && w.credit > 0 && !w.idle {
			w.idle = true // a Wake during Next undoes it
			w.mu.Unlock()
			p, signal := w.sub.Next()
			w.mu.Lock()
			if signal == rsocket.Wait {
				continue
			}
			w.idle = false
			if signal == rsocket.Complete {
				w.over = true
				break
			}
			if signal == rsocket.Fail {
				break
			}
			w.credit--
			w.check(p)
			if signal == rsocket.EmitAndComplete {
				w.over = true
			}
		}
		over := w.over || w.failed != nil
		w.mu.Unlock()
		if over {
			return
		}
		<-w.wake
	}
}

// check is the consumer: exactly previous + 1 (S5).
func (w *writer) check(p rsocket.Payload) {
	if p.Data == nil {
		w.statuses++
		return
	}
	h, err := batch.ParseHeader(p.Data)
	switch {
	case err != nil:
		w.wrong = err
	case !w.started && (h.Base > w.cursor+1 || h.Last() < w.cursor+1), w.started && h.Base != w.cursor+1:
		w.wrong = errors.Join(w.wrong, fmt.Errorf("batch [%d, %d] after %d", h.Base, h.Last(), w.cursor))
	}
	w.cursor, w.started = h.Last(), true
}

// hints hands notifications to whoever follows, as NATS would.
type hints struct {
	mu sync.Mutex
	fn func(*notifyv1.Notification)
}

func (h *hints) Follow(_ lane.StreamID, _ lane.Partition, fn func(*notifyv1.Notification)) (func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fn = fn
	return func() {}, nil
}

func (h *hints) send(n *notifyv1.Notification) {
	h.mu.Lock()
	fn := h.fn
	h.mu.Unlock()
	if fn != nil {
		fn(n)
	}
}

type house struct {
	lane   *lanetest.Lane
	hints  *hints
	set    *feed.Set
	older  *catchup.Reader
	budget *feed.Budget
	stop   func()
}

func newHouse(ringBytes, blockBytes int64) *house {
	h := &house{lane: lanetest.New(lane.ID{Stream: 7, Partition: 1}, "orders"), hints: &hints{}, budget: feed.NewBudget(ringBytes)}
	h.set = feed.NewSet(feed.Config{}, h.lane, h.hints, h.budget, quiet)
	h.older = catchup.New(catchup.Config{MaxBytes: 2 * blockBytes, BlockBytes: uint64(blockBytes), BlockRecords: 16, Workers: 2}, h.lane, nil, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.set.Run(ctx) }()
	h.stop = func() { cancel(); <-done; h.older.Close() }
	return h
}

func (h *house) subscribe(after, until lane.Sequence, window int64) (*writer, error) {
	f, release, err := h.set.Open(context.Background(), h.lane.ID)
	if err != nil {
		return nil, err
	}
	w := newWriter(after, window)
	w.sub.Begin(subscription.Reading{Feed: f, Release: release, Older: h.older, After: lane.Position{Epoch: h.lane.Standing().Epoch, Sequence: after}, Until: until})
	return w, nil
}

func notification(at *lanetest.Lane, tail lane.Sequence, inline []byte) *notifyv1.Notification {
	s := at.Standing()
	return &notifyv1.Notification{Stream: string(s.Stream), StreamId: uint64(s.Lane.Stream), Partition: uint32(s.Lane.Partition), Epoch: uint64(s.Epoch), Head: uint64(s.Head), Tail: uint64(tail), Batch: inline}
}

type step struct {
	kind, a, b int
}

// Whatever is hinted, lost, repeated, late, broken off or slow: everybody gets exactly previous+1, and in the end everything.
func TestEveryoneGetsExactlyTheNext(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, 9).Draw(rt, "kind"), rapid.IntRange(0, 99).Draw(rt, "a"), rapid.IntRange(0, 99).Draw(rt, "b")}
		}), 1, 80).Draw(rt, "steps")
		ring := rapid.SampledFrom([]int64{1, 1000, 1 << 20}).Draw(rt, "ring bytes")
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = play(steps, ring) })
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

func play(steps []step, ringBytes int64) error {
	h := newHouse(ringBytes, 600)
	defer h.stop()
	var all []lanetest.Batch
	var writers []*writer
	defer func() {
		for _, w := range writers {
			w.close()
		}
	}()
	h.lane.Append(3, 20)
	if w, err := h.subscribe(0, 0, 500); err == nil {
		writers = append(writers, w)
	}
	for _, s := range steps {
		switch s.kind {
		case 0, 1, 2: // a batch, and its hint: with it, without it, or lost
			b := h.lane.Append(1+s.a%5, 10+s.b)
			all = append(all, b)
			switch s.kind {
			case 0:
				h.hints.send(notification(h.lane, b.Last, b.Data))
			case 1:
				h.hints.send(notification(h.lane, b.Last, nil))
			}
		case 3: // an old or repeated hint
			if len(all) > 0 {
				b := all[s.a%len(all)]
				h.hints.send(notification(h.lane, b.Last, b.Data))
			}
		case 4: // a hint that lies: ahead of storage, or with broken bytes
			n := notification(h.lane, h.lane.Standing().Tail+lane.Sequence(s.a), nil)
			if len(all) > 0 && s.b%2 == 0 {
				n.Batch = append([]byte{}, all[len(all)-1].Data...)
				n.Batch[s.a%len(n.Batch)] ^= 1
			}
			if s.b%2 == 0 {
				n.Tail = uint64(h.lane.Standing().Tail)
			}
			h.hints.send(n)
		case 5:
			h.lane.SetDown(s.a%2 == 0)
		case 6:
			h.lane.BreakReads(s.a % 3)
		case 7: // somebody new, anywhere
			if w, err := h.subscribe(lane.Sequence(uint64(s.a)%uint64(h.lane.Standing().Tail+1)), 0, int64(1+s.b*20)); err == nil {
				writers = append(writers, w)
			}
		case 8: // somebody asks for a little more
			if len(writers) > 0 {
				writers[s.a%len(writers)].request(uint32(1 + s.b%4))
			}
		case 9:
			time.Sleep(time.Duration(s.a*30) * time.Millisecond)
		}
		if s.b%3 == 0 {
			synctest.Wait()
		}
	}
	// The faults end: everyone must come to the tail.
	h.lane.SetDown(false)
	h.lane.BreakReads(0)
	for range 40 {
		time.Sleep(time.Second)
		for _, w := range writers {
			w.request(50)
		}
		synctest.Wait()
	}
	tail := h.lane.Standing().Tail
	for i, w := range writers {
		w.mu.Lock()
		wrong, failed, cursor, statuses := w.wrong, w.failed, w.cursor, w.statuses
		w.mu.Unlock()
		switch {
		case wrong != nil:
			return fmt.Errorf("consumer %d: %w", i, wrong)
		case failed != nil:
			return fmt.Errorf("consumer %d failed at %d: %w", i, cursor, failed)
		case cursor != tail:
			return fmt.Errorf("consumer %d stands at %d and the tail is %d", i, cursor, tail)
		case statuses == 0:
			return fmt.Errorf("consumer %d never got a status", i)
		}
	}
	if used := h.budget.UsedBytes(); used > ringBytes {
		return fmt.Errorf("rings hold %d bytes of %d", used, ringBytes)
	}
	return nil
}

func TestWindowStopsAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(1<<20, 1<<16)
		defer h.stop()
		for range 20 {
			h.lane.Append(1, 1000)
		}
		w, err := h.subscribe(0, 0, 2500)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.request(1000)
		time.Sleep(100 * time.Millisecond)
		// Sent while less than 2,500 bytes were under way: the third of some 1,150 bytes goes, the fourth does not.
		if got := w.sub.Cursor(); got != 3 {
			t.Fatalf("with a window of 2,500 bytes %d batches were sent, want 3", got)
		}
		w.request(1)
		time.Sleep(100 * time.Millisecond)
		if got := w.sub.Cursor(); got != 4 {
			t.Fatalf("after one came back %d are sent, want 4", got)
		}
	})
}

func TestUnboundedCreditHasNoWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(1<<20, 1<<16)
		defer h.stop()
		for range 20 {
			h.lane.Append(1, 1000)
		}
		w, err := h.subscribe(0, 0, 2500)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.request(1<<31 - 1)
		time.Sleep(100 * time.Millisecond)
		if got := w.sub.Cursor(); got != 20 {
			t.Fatalf("%d of 20 were sent", got)
		}
	})
}

func TestRangeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(1<<20, 1<<16)
		defer h.stop()
		for range 10 {
			h.lane.Append(3, 10)
		}
		w, err := h.subscribe(4, 11, 1<<20) // [5, 11): batches [4, 6] and [7, 9] and [10, 12]
		if err != nil {
			t.Fatal(err)
		}
		w.request(100)
		<-w.done
		if w.cursor != 12 || w.failed != nil || w.wrong != nil || w.statuses != 0 {
			t.Fatalf("ended at %d (%v, %v, %d statuses), want 12", w.cursor, w.failed, w.wrong, w.statuses)
		}
	})
}

func TestCutHistoryIsTold(t *testing.T) {
	for name, behind := range map[string]bool{"live": false, "behind": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(1<<20, 1<<16)
				defer h.stop()
				for range 10 {
					h.lane.Append(3, 10)
				}
				w, err := h.subscribe(0, 0, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				if behind {
					w.request(1)
				} else {
					w.request(100)
				}
				time.Sleep(100 * time.Millisecond)
				h.lane.Cut(2)
				h.lane.Append(5, 10)
				time.Sleep(3 * time.Second)
				w.request(100)
				<-w.done
				if !errors.Is(w.failed, fault.EpochMismatch) || fault.Of(w.failed).Detail("epoch") != "2" {
					t.Fatalf("got %v", w.failed)
				}
			})
		})
	}
}

func TestExpiryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(1<<20, 1<<16)
		defer h.stop()
		for range 10 {
			h.lane.Append(3, 10)
		}
		h.lane.Retain(16)
		w, err := h.subscribe(3, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		w.request(100)
		<-w.done
		if !errors.Is(w.failed, fault.Expired) || fault.Of(w.failed).Detail("head") != "16" {
			t.Fatalf("got %v", w.failed)
		}
	})
}

// A digest that becomes known after its batch went out follows at once; silence is broken by a heartbeat; a busy lane's statuses are rare.
func TestStatusFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(1<<20, 1<<16)
		defer h.stop()
		h.lane.Append(3, 10)
		w, err := h.subscribe(3, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.request(10000)
		count := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.statuses
		}
		if got := count(); got != 1 {
			t.Fatalf("%d statuses at the start, want 1", got)
		}
		time.Sleep(200 * time.Millisecond)
		n := notification(h.lane, 3, nil)
		n.Digest = h.lane.Mark()
		h.hints.send(n)
		if got := count(); got != 2 {
			t.Fatalf("%d statuses after the digest, want 2", got)
		}
		time.Sleep(5100 * time.Millisecond)
		if got := count(); got != 3 {
			t.Fatalf("%d statuses after 5 s of silence, want 3", got)
		}
		for range 1000 { // 1 s of a digest every ms
			b := h.lane.Append(1, 10)
			h.hints.send(notification(h.lane, b.Last, b.Data))
			n := notification(h.lane, b.Last, nil)
			n.Digest = h.lane.Mark()
			h.hints.send(n)
			time.Sleep(time.Millisecond)
		}
		if got := count() - 3; got < 15 || got > 22 {
			t.Fatalf("%d statuses in a busy second, want about 20", got)
		}
	})
}

// A hundred consumers that begin at the same place cost one reading of the log.
func TestCatchUpIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(1<<20, 1<<20)
		defer h.stop()
		for range 16 {
			h.lane.Append(1, 10)
		}
		var writers []*writer
		for range 100 {
			w, err := h.subscribe(0, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			w.request(100)
			writers = append(writers, w)
		}
		time.Sleep(time.Second)
		for i, w := range writers {
			if got := w.sub.Cursor(); got != 16 {
				t.Fatalf("consumer %d stands at %d", i, got)
			}
		}
		if got := h.lane.Reads(); got != 1 {
			t.Fatalf("%d reads of the log for one block, want 1", got)
		}
	})
}
