// Package crew does jobs in the order in which they came, a bounded number at a time.
//
//	Put ──▶ queue ──▶ at most `workers` goroutines, which end when nothing waits
//
// What a job is, whether it is tried again, and how many may wait is its owner's.
package crew

import "sync"

// Crew is safe for concurrent use. Close it.
type Crew[T any] struct {
	workers int
	do      func(T)
	wg      sync.WaitGroup // workers

	mu     sync.Mutex // protects what follows; nothing is called with it held
	queue  []T
	busy   int
	closed bool
}

// New makes a crew of at most so many workers; do is called by them, without any lock of the crew's.
func New[T any](workers int, do func(T)) *Crew[T] { return &Crew[T]{workers: workers, do: do} }

// Put has job done, soon; after Close it is dropped. It does not wait, and may be called with the owner's lock held.
func (c *Crew[T]) Put(job T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.queue = append(c.queue, job)
	if c.busy < c.workers {
		c.busy++
		c.wg.Go(c.work) // ends when nothing waits, or after Close
	}
}

func (c *Crew[T]) work() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 || c.closed {
			c.busy--
			c.mu.Unlock()
			return
		}
		job := c.queue[0]
		var none T
		c.queue[0] = none
		c.queue = c.queue[1:]
		c.mu.Unlock()
		c.do(job)
	}
}

// Close drops what waits and returns when the jobs under way are done; whoever owns the crew makes them end.
func (c *Crew[T]) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}
