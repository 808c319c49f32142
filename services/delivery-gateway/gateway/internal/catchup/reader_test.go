package catchup_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/cache"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/catchup"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/lanetest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// get reads one sequence to the end of its waiting.
func get(r *catchup.Reader, l *lanetest.Lane, seq lane.Sequence) (*parcel.Parcel, error) {
	woken := make(chan struct{}, 1)
	w := &catchup.Waiter{Wake: func() { woken <- struct{}{} }}
	for {
		p, err := r.At(l.Standing(), seq, w)
		if p != nil || err != nil {
			return p, err
		}
		<-woken
	}
}

// shelf is a shared cache between gateways.
type shelf struct {
	kept map[cache.Key][][]byte
	lie  bool
}

func (s *shelf) Get(_ context.Context, k cache.Key) [][]byte {
	batches := s.kept[k]
	if s.lie && len(batches) > 0 {
		damaged := append([]byte{}, batches[0]...)
		damaged[len(damaged)-1] ^= 1
		return append([][]byte{damaged}, batches[1:]...)
	}
	return batches
}

func (s *shelf) Put(_ context.Context, k cache.Key, batches [][]byte) { s.kept[k] = batches }

func TestSecondGatewayReadsTheSharedCache(t *testing.T) {
	l := lanetest.New(lane.ID{Stream: 7}, "orders")
	for range 10 {
		l.Append(3, 100)
	}
	shared := &shelf{kept: make(map[cache.Key][][]byte)}
	for i, want := range []catchup.Counts{{Hits: 1, Loads: 1}, {Hits: 1, SharedHits: 1}, {Hits: 1, Loads: 1}} {
		shared.lie = i == 2 // and a cache that lies is read past
		r := catchup.New(catchup.Config{}, l, shared, quiet)
		p, err := get(r, l, 5)
		if err != nil || p.First != 4 || p.Last != 6 {
			t.Fatalf("gateway %d: %v, %v", i, p, err)
		}
		if got := r.Counts(); got != want {
			t.Errorf("gateway %d counts %+v, want %+v", i, got, want)
		}
		r.Close()
	}
}

func TestBlocksKeepToTheirBytes(t *testing.T) {
	l := lanetest.New(lane.ID{Stream: 7}, "orders")
	for range 200 {
		l.Append(1, 1000)
	}
	r := catchup.New(catchup.Config{MaxBytes: 20_000, BlockBytes: 5000, BlockRecords: 1000}, l, nil, quiet)
	defer r.Close()
	for seq := lane.Sequence(1); seq <= 200; seq++ {
		p, err := get(r, l, seq)
		if err != nil || p.First != seq {
			t.Fatalf("%d: %v, %v", seq, p, err)
		}
		if used := r.UsedBytes(); used > 20_000 {
			t.Fatalf("blocks hold %d bytes of 20,000", used)
		}
	}
	if got := r.Counts().Loads; got < 30 || got > 60 {
		t.Fatalf("%d loads for 200 records in blocks of about 5", got)
	}
}

func TestTemporaryFailureIsWaitedOutAndOthersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lanetest.New(lane.ID{Stream: 7}, "orders")
		l.Append(3, 100)
		l.Append(3, 100)
		l.Retain(4)
		r := catchup.New(catchup.Config{}, l, nil, quiet)
		defer r.Close()
		if _, err := get(r, l, 2); !errors.Is(err, fault.Expired) || fault.Of(err).Detail("head") != "4" {
			t.Fatalf("got %v", err)
		}
		l.SetDown(true)
		time.AfterFunc(time.Minute, func() { l.SetDown(false) })
		start := time.Now()
		if p, err := get(r, l, 5); err != nil || p.First != 4 {
			t.Fatalf("got %v, %v", p, err)
		}
		if took := time.Since(start); took < time.Minute || took > time.Minute+3*time.Second {
			t.Fatalf("storage was back after 1 min, and the reader after %v", took)
		}
		if reads := l.Reads(); reads > 80 {
			t.Fatalf("%d reads in a minute without storage", reads)
		}
		// Nobody waits: nothing is tried.
		l.SetDown(true)
		w := &catchup.Waiter{Wake: func() {}}
		if _, err := r.At(l.Standing(), 100_000, w); err != nil {
			t.Fatal(err)
		}
		r.Leave(w)
		time.Sleep(10 * time.Second)
		before := l.Reads()
		time.Sleep(time.Minute)
		if after := l.Reads(); after != before {
			t.Fatalf("%d reads for nobody", after-before)
		}
	})
}
