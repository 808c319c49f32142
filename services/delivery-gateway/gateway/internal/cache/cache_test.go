package cache_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/cache"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/lanetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestWhatIsPutIsGot(t *testing.T) {
	r := miniredis.RunT(t)
	c := cache.Connect(r.Addr(), quiet)
	defer func() { _ = c.Close() }()
	l := lanetest.New(lane.ID{Stream: 7, Partition: 1}, "orders")
	batches := [][]byte{l.Append(3, 100).Data, l.Append(4, 100).Data}
	k := cache.Key{Lane: l.ID, Epoch: 2, From: 1}
	ctx := context.Background()
	if got := c.Get(ctx, k); got != nil {
		t.Fatalf("an empty cache gave %d batches", len(got))
	}
	c.Put(ctx, k, batches)
	got := c.Get(ctx, k)
	if len(got) != 2 || !bytes.Equal(got[0], batches[0]) || !bytes.Equal(got[1], batches[1]) {
		t.Fatalf("got %d batches back", len(got))
	}

	// Whatever became of the value, in any byte, or under another key, is a miss.
	keys := r.Keys()
	if len(keys) != 1 {
		t.Fatalf("keys %v", keys)
	}
	whole, err := r.Get(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(whole); i += 7 {
		damaged := []byte(whole)
		damaged[i] ^= 0x10
		_ = r.Set(keys[0], string(damaged))
		if c.Get(ctx, k) != nil {
			t.Fatalf("byte %d was changed and nobody noticed", i)
		}
	}
	for _, n := range []int{0, 1, 35, 36, len(whole) - 1} {
		_ = r.Set(keys[0], whole[:n])
		if c.Get(ctx, k) != nil {
			t.Fatalf("cut to %d bytes and nobody noticed", n)
		}
	}
	other := cache.Key{Lane: l.ID, Epoch: 3, From: 1}
	_ = r.Set(other.String(), whole)
	if c.Get(ctx, other) != nil {
		t.Fatal("a value of another epoch was taken")
	}
}

// A Redis that is away costs at most its deadlines, and soon nothing.
func TestAwayCostsLittle(t *testing.T) {
	r := miniredis.RunT(t)
	c := cache.Connect(r.Addr(), quiet)
	defer func() { _ = c.Close() }()
	r.Close()
	k := cache.Key{Lane: lane.ID{Stream: 1}, Epoch: 1, From: 1}
	for range 3 {
		_ = c.Get(context.Background(), k)
	}
	start := time.Now()
	for range 1000 {
		_ = c.Get(context.Background(), k)
		c.Put(context.Background(), k, nil)
	}
	if took := time.Since(start); took > time.Second {
		t.Fatalf("2,000 calls with the breaker open took %v", took)
	}
}
