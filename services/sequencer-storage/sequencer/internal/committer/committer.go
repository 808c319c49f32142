// Package committer is group commit: it orders what many callers submit, writes it in groups and answers after the fsync.
//
//	Submit ──▶ pending ──▶ [gather ≤ 1 MiB: Prepare, Write] ──▶ ≤ 4 groups ──▶ [Sync, Publish] ──▶ answers
//	                        one goroutine                                        one goroutine
//
// There is no timer: whatever waits when the first goroutine is free makes the next group, so groups grow with load and a single
// item waits for nobody. While groups are in fsync the next ones are prepared and written; one Sync covers every group written
// before it began.
//
// It knows neither batches nor RocksDB: the environment is four functions.
//
// Invariants:
//
//	I1  Prepare, Write and Publish see items in one order, the order of Submit.
//	I2  Publish of an item comes after the Sync that covers its Write, and after Publish of all items before it; an item without a
//	    write of its own waits for the same, since its answer may rest on items before it.
//	I3  after an error of Write or Sync nothing more is written, and Fail is called once for every item that was taken and not published.
//	I4  at most MaxPendingBytes wait and MaxGroups groups are in flight.
package committer

import (
	"context"
	"errors"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Bounds.
const (
	// GroupBytes ends the gathering of a group; one larger item makes a group of its own.
	GroupBytes = 1 << 20
	// MaxGroups is how many groups may be written and not synced.
	MaxGroups = 4
	// MaxPendingBytes and MaxPendingItems bound what waits; more is refused as Overloaded.
	MaxPendingBytes = 64 << 20
	MaxPendingItems = 16 << 10
)

// Env is what a Committer works on. Prepare and Write are called by one goroutine, Sync and Publish by another.
type Env[T any] struct {
	// Prepare decides on each item of a group, in order, and says whether there is anything to write.
	Prepare func(group []T) (write bool)
	// Write writes what Prepare decided, without waiting for the disk.
	Write func() error
	// Sync makes all writes so far durable.
	Sync func() error
	// Publish makes the groups' items visible and answers them.
	Publish func(group []T)
	// Fail answers an item that will not be published. err is Unavailable when it was never written, else UnknownOutcome.
	Fail func(item T, err error)
}

// Committer commits items of type T. Make with New, run with Run.
type Committer[T any] struct {
	env Env[T]

	mu      sync.Mutex // protects the fields below
	pending []entry[T]
	bytes   int
	closed  error // not nil: why Submit refuses
	wake    chan struct{}
}

type entry[T any] struct {
	item  T
	bytes int
}

type group[T any] struct {
	items []T
	write bool
}

// New makes a Committer that accepts items at once and commits them while Run runs.
func New[T any](env Env[T]) *Committer[T] {
	return &Committer[T]{env: env, wake: make(chan struct{}, 1)}
}

// Submit hands an item in; bytes is its weight. nil means that Publish or Fail will be called with it. Never blocks.
// Faults: Overloaded, Unavailable; then neither is called.
func (c *Committer[T]) Submit(item T, bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return c.closed
	}
	if len(c.pending) >= MaxPendingItems || c.bytes+bytes > MaxPendingBytes { // I4
		return fault.New(fault.Overloaded, "%d appends with %d bytes wait for the disk already; nothing was written, try again", len(c.pending), c.bytes).With("retry_after_ms", "50")
	}
	c.pending = append(c.pending, entry[T]{item, bytes})
	c.bytes += bytes
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// Pending is how many items and bytes wait to be gathered.
func (c *Committer[T]) Pending() (items, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending), c.bytes
}

// Run commits until ctx ends or Write or Sync fails; it returns the failure, nil at ctx's end. Items written are synced and published
// before it returns at ctx's end; items still pending are failed as Unavailable.
func (c *Committer[T]) Run(ctx context.Context) error {
	written := make(chan group[T], MaxGroups-1) // one more is in the syncer's hands
	synced := make(chan error, 1)
	broken := make(chan struct{})
	go func() { synced <- c.sync(written, broken) }() // ends when written is closed; awaited below
	err := c.gather(ctx, written, broken)
	close(written)
	err = errors.Join(err, <-synced)
	c.close()
	return err
}

func (c *Committer[T]) gather(ctx context.Context, written chan<- group[T], broken <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-broken:
			return nil
		default:
		}
		items := c.take()
		if len(items) == 0 {
			select {
			case <-c.wake:
			case <-ctx.Done():
			case <-broken:
			}
			continue
		}
		g := group[T]{items: items, write: c.env.Prepare(items)}
		if g.write {
			if err := c.env.Write(); err != nil {
				c.fail(items, err)
				return err
			}
		}
		select {
		case written <- g:
		case <-broken:
			c.fail(items, errors.New("an earlier fsync failed"))
			return nil
		}
	}
}

// take removes the next group from pending.
func (c *Committer[T]) take() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return nil
	}
	n, bytes := 0, 0
	for n < len(c.pending) && (n == 0 || bytes+c.pending[n].bytes <= GroupBytes) {
		bytes += c.pending[n].bytes
		n++
	}
	items := make([]T, n)
	for i := range items {
		items[i] = c.pending[i].item
	}
	rest := copy(c.pending, c.pending[n:])
	clear(c.pending[rest:])
	c.pending = c.pending[:rest]
	c.bytes -= bytes
	return items
}

func (c *Committer[T]) sync(written <-chan group[T], broken chan<- struct{}) error {
	var failed error
	for first := range written {
		groups := []group[T]{first}
		for more := true; more; { // one sync for every group that was written meanwhile
			select {
			case g, ok := <-written:
				if more = ok; ok {
					groups = append(groups, g)
				}
			default:
				more = false
			}
		}
		dirty := false
		for _, g := range groups {
			dirty = dirty || g.write
		}
		if failed == nil && dirty {
			if failed = c.env.Sync(); failed != nil {
				close(broken)
			}
		}
		for _, g := range groups {
			if failed != nil {
				c.fail(g.items, failed) // I3
			} else {
				c.env.Publish(g.items) // I2
			}
		}
	}
	return failed
}

func (c *Committer[T]) fail(items []T, cause error) {
	err := fault.New(fault.UnknownOutcome, "writing failed and the service ends; the records may or may not be there after it is back, retry under the same producer sequences: %w", cause)
	for _, item := range items {
		c.env.Fail(item, err)
	}
}

// close refuses what comes and fails what waits.
func (c *Committer[T]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := fault.New(fault.Unavailable, "the service is stopping; nothing was written, try again")
	c.closed = err
	for _, e := range c.pending {
		c.env.Fail(e.item, err)
	}
	c.pending, c.bytes = nil, 0
}
