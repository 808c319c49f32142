package feed

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/lanetest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parcelOf(t *testing.T, l *lanetest.Lane, b lanetest.Batch) *parcel.Parcel {
	t.Helper()
	p, err := parcel.Make(b.Data, parcel.Place{Lane: l.ID, Epoch: l.Standing().Epoch})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// I1, I2, I3: only the next parcel is taken, and hints alone move nothing a listener sees.
func TestOnlyTheNextIsTaken(t *testing.T) {
	l := lanetest.New(lane.ID{Stream: 7}, "orders")
	l.Append(5, 10)
	f := newFeed(l.Standing(), NewBudget(1<<20), time.Now())
	second, third := l.Append(5, 10), l.Append(5, 10)
	if f.Append(1, parcelOf(t, l, third), time.Now()) {
		t.Fatal("a parcel beyond a gap was taken")
	}
	hint := &notifyv1.Notification{StreamId: 7, Epoch: 1, Tail: 15, Batch: third.Data}
	f.Hear(hint, time.Now())
	woken := 0
	listener := &Listener{Wake: func() { woken++ }}
	if v, err := f.At(1, 6, listener); err != nil || !v.Tail {
		t.Fatalf("a hint moved the tail: %+v, %v", v, err)
	}
	if !f.Append(1, parcelOf(t, l, second), time.Now()) || woken != 1 {
		t.Fatalf("the next was refused, or woke %d", woken)
	}
	if f.Append(1, parcelOf(t, l, second), time.Now()) {
		t.Fatal("a repetition was taken")
	}
	f.Hear(hint, time.Now())
	f.Hear(&notifyv1.Notification{StreamId: 7, Epoch: 1, Tail: 7}, time.Now())
	if at := f.Standing(); at.Tail != 15 {
		t.Fatalf("the tail went to %d", at.Tail)
	}
	for seq, first := range map[lane.Sequence]lane.Sequence{6: 6, 10: 6, 11: 11, 15: 11} {
		if v, err := f.At(1, seq, listener); err != nil || v.Parcel == nil || v.Parcel.First != first {
			t.Fatalf("%d: %+v, %v", seq, v, err)
		}
	}
	if v, err := f.At(1, 3, listener); err != nil || !v.Behind {
		t.Fatalf("below the ring: %+v, %v", v, err)
	}
}

// I6: the oldest parcel of any lane goes first, and a lane that ends gives its bytes back.
func TestBudgetIsSharedByLanes(t *testing.T) {
	var feeds [2]*Feed
	var lanes [2]*lanetest.Lane
	one := lanetest.New(lane.ID{Stream: 9}, "x")
	size := int64(parcelOf(t, one, one.Append(1, 1000)).Size())
	budget := NewBudget(4*size + size/2)
	for i := range feeds {
		lanes[i] = lanetest.New(lane.ID{Stream: 7, Partition: lane.Partition(i)}, "orders")
		feeds[i] = newFeed(lanes[i].Standing(), budget, time.Now())
	}
	for range 2 { // 0 gets its parcels first
		feeds[0].Append(1, parcelOf(t, lanes[0], lanes[0].Append(1, 1000)), time.Now())
	}
	for range 4 {
		feeds[1].Append(1, parcelOf(t, lanes[1], lanes[1].Append(1, 1000)), time.Now())
	}
	has := func(i int) (n int) {
		for seq := range lane.Sequence(10) {
			if v, err := feeds[i].At(1, seq+1, &Listener{Wake: func() {}}); err == nil && v.Parcel != nil {
				n++
			}
		}
		return n
	}
	if has(0) != 0 || has(1) != 4 {
		t.Fatalf("the rings hold %d and %d parcels, want 0 and 4", has(0), has(1))
	}
	if used := budget.UsedBytes(); used > 4*size+size/2 || used < 3*size {
		t.Fatalf("%d bytes used", used)
	}
	feeds[1].end(errors.New("over"))
	if used := budget.UsedBytes(); used != 0 || budget.order.Len() != 0 {
		t.Fatalf("%d bytes in %d parcels after the lanes ended", used, budget.order.Len())
	}
}

func TestLaneIsLetGoAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lanetest.New(lane.ID{Stream: 7}, "orders")
		s := NewSet(Config{MaxLanes: 1}, l, nil, NewBudget(1<<20), slog.New(slog.DiscardHandler))
		done := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() { defer close(done); _ = s.Run(ctx) }()
		_, release, err := s.Open(ctx, l.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Open(ctx, lane.ID{Stream: 8}); !errors.Is(err, fault.Overloaded) {
			t.Fatalf("a lane too many: %v", err)
		}
		time.Sleep(time.Minute)
		if s.Lanes() != 1 {
			t.Fatal("a lane with a listener was let go")
		}
		release()
		time.Sleep(20 * time.Second)
		if s.Lanes() != 1 {
			t.Fatal("a lane was let go at once")
		}
		time.Sleep(20 * time.Second)
		if s.Lanes() != 0 {
			t.Fatal("a lane without listeners is followed for ever")
		}
		if _, _, err := s.Open(ctx, lane.ID{Stream: 8}); !errors.Is(err, fault.UnknownStream) {
			t.Fatalf("a lane that is not: %v", err)
		}
		stop()
		<-done
		if _, _, err := s.Open(t.Context(), l.ID); !errors.Is(err, fault.Unavailable) {
			t.Fatalf("after the end: %v", err)
		}
	})
}
