package admission

import (
	"context"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
)

// burst is how long a Bucket that nobody used saves up: short, so that what passes at once does not hold up live tails for long.
const burst = 10 * time.Millisecond

// Bucket passes bytes at a rate (I3). Safe for concurrent use.
type Bucket struct {
	tails func() int64 // nil: none

	mu      sync.Mutex // protects what follows
	pace    pace
	probing bool      // a timer is set
	free    time.Time // when all that was promised will have passed
	waiting int
	waited  time.Duration
}

// NewBucket passes bytesPerSecond. tails counts the deliveries sent to live tails, to which the Bucket gives way (I4); it may be nil.
func NewBucket(bytesPerSecond int64, tails func() int64) *Bucket {
	return &Bucket{pace: pace{full: float64(bytesPerSecond), now: float64(bytesPerSecond)}, tails: tails}
}

// Wait lets so many bytes pass when it is their turn. A turn that is not waited for is lost to all, one piece at most.
func (b *Bucket) Wait(ctx context.Context, bytes int) error {
	now := time.Now()
	b.mu.Lock()
	if saved := now.Add(-burst); b.free.Before(saved) {
		b.free = saved
	}
	b.free = b.free.Add(time.Duration(float64(bytes) / b.pace.now * float64(time.Second)))
	wait := b.free.Sub(now)
	if wait > 0 {
		b.waiting++
		b.waited += wait
	}
	b.probeLocked()
	b.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting--
	}()
	return pause.Wait(ctx, wait)
}

// probeLocked sets a timer, unless one is set, and learns from it how busy the processors are.
func (b *Bucket) probeLocked() {
	if b.probing || b.tails == nil {
		return
	}
	b.probing = true
	due := time.Now().Add(probeAfter)
	time.AfterFunc(probeAfter, func() {
		now := time.Now()
		tails := b.tails()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.probing = false
		b.pace.hear(now.Sub(due), tails, now)
	})
}

// BytesPerSecond is the rate of this moment.
func (b *Bucket) BytesPerSecond() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pace.now
}

// Waiting is how many wait now.
func (b *Bucket) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// Waited is how long all have waited together.
func (b *Bucket) Waited() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waited
}
