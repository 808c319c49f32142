package replica

import (
	"context"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
)

// pace keeps what is moved below a rate. Safe for concurrent use; nil never waits.
type pace struct {
	bytesPerSecond uint64

	mu   sync.Mutex // protects free
	free time.Time  // when what was taken so far has been paid for
}

// paceOf gives the pace of a rate, nil for 0.
func paceOf(bytesPerSecond uint64) *pace {
	if bytesPerSecond == 0 {
		return nil
	}
	return &pace{bytesPerSecond: bytesPerSecond}
}

// take waits until n more bytes may be moved.
func (p *pace) take(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	now := time.Now()
	p.mu.Lock()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.bytesPerSecond) * float64(time.Second)))
	wait := p.free.Sub(now)
	p.mu.Unlock()
	return pause.Wait(ctx, wait)
}
