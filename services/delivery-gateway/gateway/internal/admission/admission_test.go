package admission_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/admission"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func retryAfter(t *testing.T, err error) time.Duration {
	t.Helper()
	ms, parseErr := strconv.Atoi(fault.Of(err).Detail("retry_after_ms"))
	if !errors.Is(err, fault.Overloaded) || parseErr != nil {
		t.Fatalf("got %v", err)
	}
	return time.Duration(ms) * time.Millisecond
}

func TestAKeyCountsOnce(t *testing.T) {
	p := admission.NewPlaces("things", 2)
	var releases []func()
	for _, key := range []string{"a", "b", "a", "b", "a"} {
		release, err := p.Take(key)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if _, err := p.Take("c"); p.InUse() != 2 || p.Refused() != 1 || retryAfter(t, err) <= 0 {
		t.Fatalf("%d in use, %d refused, %v", p.InUse(), p.Refused(), err)
	}
	fourth, err := p.Take("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Take("a"); !errors.Is(err, fault.Overloaded) {
		t.Fatalf("more than a place is for: %v", err)
	}
	fourth()
	releases[0]()
	releases[0]() // once is enough
	releases[2]()
	if _, err := p.Take("c"); err == nil {
		t.Fatal("a place that is still in use was given away")
	}
	releases[4]()
	if _, err := p.Take("c"); err != nil {
		t.Fatal(err)
	}
}

// A herd that obeys is let in bit by bit, each within a few tries, and the gateway is never idle for long.
func TestAHerdThatObeysIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const herd, limit, work = 200, 8, 500 * time.Millisecond
		p := admission.NewPlaces("bootstraps", limit)
		began := time.Now()
		var mu sync.Mutex
		var tries int
		var longest time.Duration
		var wg sync.WaitGroup
		for i := range herd {
			wg.Go(func() {
				for {
					release, err := p.Take(i)
					mu.Lock()
					tries++
					mu.Unlock()
					if err == nil {
						time.Sleep(work)
						release()
						return
					}
					wait := retryAfter(t, err)
					mu.Lock()
					longest = max(longest, wait)
					mu.Unlock()
					time.Sleep(wait)
				}
			})
		}
		wg.Wait()
		took, best := time.Since(began), work*herd/limit
		t.Logf("%d tries, the longest wait %v, all done after %v of at best %v", tries, longest, took, best)
		if tries > 6*herd || took > 4*best || longest < 5*time.Second || longest > 30*time.Second {
			t.Fatal("the herd was not led well")
		}
	})
}

func TestBucketIsFairAndKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, piece, consumers, seconds = 1 << 20, 64 << 10, 8, 10
		b := admission.NewBucket(rate, nil)
		ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
		defer cancel()
		var got [consumers]int
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				for b.Wait(ctx, piece) == nil {
					got[i] += piece
				}
			})
		}
		wg.Wait()
		total, least, most := 0, got[0], got[0]
		for _, n := range got {
			total, least, most = total+n, min(least, n), max(most, n)
		}
		if total < rate*seconds*98/100 || total > rate*seconds+rate/50 || most-least > piece {
			t.Fatalf("%d bytes in %d s at %d a second; the least got %d, the most %d", total, seconds, rate, least, most)
		}
		if b.Waiting() != 0 || b.Waited() == 0 {
			t.Fatalf("%d wait, waited %v", b.Waiting(), b.Waited())
		}
	})
}
