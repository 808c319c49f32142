package replica

import (
	"context"
	"sync"
)

// budget bounds what waits, in bytes. One piece larger than all of it is let through alone.
type budget struct {
	limit int

	mu    sync.Mutex // protects what follows
	used  int
	freed chan struct{} // closed when bytes are given back; nil while nobody waits
}

// take waits for room; false when ctx ended first.
func (b *budget) take(ctx context.Context, n int) bool {
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+n <= b.limit {
			b.used += n
			b.mu.Unlock()
			return true
		}
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

// give returns room.
func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}
