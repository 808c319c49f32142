package replica

import (
	"context"
	"sync"
	"sync/atomic"
)

// inParallel runs do for [0, n), at most limit of them at a time, and waits for all. The first failure ends the others' context; it is the
// one that is answered.
func inParallel(ctx context.Context, n, limit int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var taken atomic.Int64
	var workers sync.WaitGroup
	for range min(limit, n) {
		workers.Go(func() { // ends with the numbers, or with ctx
			for ctx.Err() == nil {
				i := int(taken.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
