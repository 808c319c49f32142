package depot

import (
	"context"
	"errors"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// maxFlights may run or wait to run (I2).
const maxFlights = 256

// key tells flights apart: any snapshot of a lane, or one by its ID.
type key struct {
	lane lane.ID
	id   snapshot.ID
}

// flight fetches one snapshot for all who wait for it. Its fields are protected by Depot.mu until done is closed, and fixed then.
type flight struct {
	wanted         storage.Wanted
	waiters        map[*waiter]struct{}
	rows, expected uint64
	done           chan struct{}
	over           bool
	copy           *Copy // in use once for every waiter
	err            error
}

type waiter struct{ progress Progress }

// join waits for the flight for w, starting it when there is none. The copy it gives is in use.
func (d *Depot) join(ctx context.Context, w storage.Wanted, progress Progress) (*Copy, error) {
	k := key{lane: w.Lane, id: w.ID}
	me := &waiter{progress}
	d.mu.Lock()
	f := d.flights[k]
	if f == nil {
		if d.closed || len(d.flights) >= maxFlights {
			d.mu.Unlock()
			return nil, fault.New(fault.Overloaded, "this gateway fetches %d snapshots already: try again", maxFlights).With("retry_after_ms", "2000")
		}
		f = &flight{wanted: w, waiters: make(map[*waiter]struct{}), done: make(chan struct{})}
		d.flights[k] = f
		d.tasks.Add(1)
		go func() { // ends with the fetch, or with the Depot
			defer d.tasks.Done()
			c, err := d.fetch(f)
			d.land(k, f, c, err)
		}()
	}
	f.waiters[me] = struct{}{}
	if f.rows > 0 || f.expected > 0 {
		progress(f.rows, f.expected)
	}
	d.mu.Unlock()
	select {
	case <-f.done:
		return f.copy, f.err
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(f.waiters, me)
		if f.over && f.copy != nil {
			d.giveBackLocked(f.copy)
		}
		return nil, ctx.Err()
	}
}

// land hands c to all who wait.
func (d *Depot) land(k key, f *flight, c *Copy, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.flights, k)
	f.over, f.copy, f.err = true, c, err
	if c != nil {
		d.useLocked(c, len(f.waiters)-1) // fetch used it once itself
		if c.uses == 0 && c.gone {
			_ = c.file.Close()
		}
	}
	close(f.done)
}

// tell passes progress on to all who wait.
func (d *Depot) tell(f *flight, rows, expected uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.rows, f.expected = rows, expected
	for w := range f.waiters {
		w.progress(rows, expected)
	}
}

// fetch gives the copy, in use once.
func (d *Depot) fetch(f *flight) (*Copy, error) {
	select {
	case d.pulls <- struct{}{}:
		defer func() { <-d.pulls }()
	case <-d.ctx.Done():
		return nil, stopping()
	}
	d.mu.Lock()
	deserted := len(f.waiters) == 0
	d.mu.Unlock()
	if deserted { // while it waited; a fetch that has begun goes on, since who left may come back for it
		return nil, context.Canceled
	}
	c, err := d.pull(d.ctx, f)
	for try := 1; try < maxTurns && f.wanted.ID.IsZero() && errors.Is(err, fault.SnapshotGone); try++ { // any other will do
		c, err = d.pull(d.ctx, f)
	}
	if err != nil && d.ctx.Err() != nil {
		err = stopping()
	}
	return c, err
}

func stopping() error {
	return fault.New(fault.Unavailable, "the gateway is stopping: connect to another")
}
