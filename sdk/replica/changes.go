package replica

import (
	"bytes"
	"context"
	"iter"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// changesBytes is how much a Changes iterator may fall behind before it is told to read everything anew (I7).
const changesBytes = 16 << 20

// ChangeKind says what a Change is.
type ChangeKind int

// Kinds of changes.
const (
	// Put: the key has a new value.
	Put ChangeKind = iota + 1
	// Delete: the key is gone.
	Delete
	// Rebuilt: rows changed that are not told one by one, because of a bootstrap or because this iterator fell behind: read what you
	// need from DB again.
	Rebuilt
)

// Change is one record applied to the replica. Its slices must not be changed.
type Change struct {
	Kind      ChangeKind
	Partition lane.Partition
	Sequence  lane.Sequence
	TimeMS    int64
	Key       string
	Headers   record.Headers
	Value     []byte
}

func changeOf(p lane.Partition, r *record.Record) Change {
	c := Change{Kind: Put, Partition: p, Sequence: r.Sequence, TimeMS: r.TimeMS, Key: string(r.Key), Headers: bytes.Clone(r.Headers), Value: bytes.Clone(r.Value)}
	if r.Tombstone {
		c.Kind, c.Value = Delete, nil
	}
	return c
}

func (c *Change) size() int { return len(c.Key) + len(c.Headers) + len(c.Value) + 96 }

// Changes yields what is applied from now on, after it is committed, in order within each partition; it never slows the replica. It
// ends with an error when ctx ends or the replica stops, and without one when the loop is left. Changes from before the call are not
// told: read DB after the call has begun to have both.
func (r *Replica) Changes(ctx context.Context) iter.Seq2[Change, error] {
	w := r.watchers.add()                                   // at the call, not at the first step: nothing in between is missed
	context.AfterFunc(ctx, func() { r.watchers.remove(w) }) // also when nobody ever loops
	return func(yield func(Change, error) bool) {
		if w.over() { // a second loop over the same iterator
			w = r.watchers.add()
		}
		defer r.watchers.remove(w)
		for {
			changes, err := w.next(ctx)
			if err != nil {
				yield(Change{}, err)
				return
			}
			for i := range changes {
				if !yield(changes[i], nil) {
					return
				}
			}
		}
	}
}

// watchers are the iterators that are told of changes.
type watchers struct {
	mu     sync.Mutex // protects what follows
	all    map[*watcher]struct{}
	closed error
}

// watcher is one of them.
type watcher struct {
	wake chan struct{}

	mu      sync.Mutex // protects what follows
	queue   []Change
	bytes   int
	removed bool
	err     error
}

func (w *watchers) add() *watcher {
	n := &watcher{wake: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != nil {
		n.err = w.closed
		return n
	}
	if w.all == nil {
		w.all = map[*watcher]struct{}{}
	}
	w.all[n] = struct{}{}
	return n
}

func (w *watchers) remove(n *watcher) {
	w.mu.Lock()
	delete(w.all, n)
	w.mu.Unlock()
	n.mu.Lock()
	n.removed, n.queue = true, nil
	n.mu.Unlock()
}

func (w *watchers) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all) > 0
}

func (w *watchers) publish(changes []Change) {
	if len(changes) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.all {
		n.put(changes)
	}
}

func (w *watchers) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = err
	for n := range w.all {
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
		n.signal()
	}
}

func (n *watcher) put(changes []Change) {
	n.mu.Lock()
	for i := range changes {
		n.bytes += changes[i].size()
	}
	n.queue = append(n.queue, changes...)
	if n.bytes > changesBytes {
		n.queue, n.bytes = []Change{{Kind: Rebuilt}}, 0
	}
	n.mu.Unlock()
	n.signal()
}

func (n *watcher) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *watcher) over() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.removed
}

// next gives what waits, or waits for it.
func (n *watcher) next(ctx context.Context) ([]Change, error) {
	for {
		n.mu.Lock()
		queue, err := n.queue, n.err
		n.queue, n.bytes = nil, 0
		n.mu.Unlock()
		if len(queue) > 0 {
			return queue, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-n.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
