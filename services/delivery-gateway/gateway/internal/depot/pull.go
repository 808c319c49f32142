package depot

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

const (
	// runBytes is about what one call for a range of a snapshot reads; ranges run at once.
	runBytes = 8 << 20
	ranges   = 4
	// readTimeout bounds one such call.
	readTimeout = time.Minute
	// maxFailures in a row, without one chunk between them, end a pull.
	maxFailures = 6
	retryFirst  = 100 * time.Millisecond
)

// pull asks storage for the snapshot a flight is for and brings it here, unless it is here. The copy is in use once.
func (d *Depot) pull(ctx context.Context, f *flight) (*Copy, error) {
	encoded, id, err := d.provider.OpenSnapshot(ctx, f.wanted, func(rows, expected uint64) { d.tell(f, rows, expected) })
	if err != nil {
		return nil, err
	}
	m, err := snapshot.ParseManifest(encoded, id)
	if err != nil {
		return nil, err
	}
	c := &Copy{Manifest: m, ID: id, Encoded: encoded, depot: d, takenAt: time.Now(), proven: make([]atomic.Bool, m.Chunks())}
	if !serves(c, f.wanted) {
		return nil, fault.New(fault.Internal, "storage answered with snapshot %v of stream %q, lane %v, at %v, which is not what was asked for", id, m.Stream, m.Lane, m.At)
	}
	d.mu.Lock()
	if kept := d.copies[id]; kept != nil { // it was not fresh, and storage has no fresher one
		d.useLocked(kept, 1)
		d.mu.Unlock()
		return kept, nil
	}
	err = d.makeRoomLocked(c.diskBytes())
	if err == nil {
		d.usedBytes += c.diskBytes() // reserved
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = d.shelf.fill(c, func(file *os.File) error {
		return d.chunks(ctx, c, file, func(rows uint64) { d.tell(f, rows, m.Set.Count) })
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.usedBytes -= c.diskBytes()
	if err != nil {
		return nil, err
	}
	d.addLocked(c)
	d.useLocked(c, 1)
	d.pulled.Add(1)
	return c, nil
}

// chunks brings all chunks into file, several ranges at once; each is checked before it is written (I1).
func (d *Depot) chunks(ctx context.Context, c *Copy, file *os.File, tell func(rows uint64)) error {
	var rows atomic.Uint64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ranges)
	for from := 0; from < c.Chunks(); {
		to, bytes := from, uint32(0)
		for to < c.Chunks() && (to == from || bytes < runBytes) {
			bytes += c.Manifest.Chunk(to).Bytes
			to++
		}
		r := run{depot: d, copy: c, file: file, next: from, to: to, done: func(n int) {
			if n < len(c.Rows) {
				tell(rows.Add(uint64(c.Rows[n].Count)))
			}
		}}
		g.Go(func() error { return r.pull(ctx) })
		from = to
	}
	return g.Wait()
}

// run is the chunks [next, to) on their way here.
type run struct {
	depot    *Depot
	copy     *Copy
	file     *os.File
	next, to int
	done     func(n int)
	gathered []byte
	failures int
}

// pull goes on behind the last good chunk after each failure that may pass.
func (r *run) pull(ctx context.Context) error {
	for r.next < r.to {
		err := r.read(ctx)
		if err == nil {
			continue
		}
		damaged := errors.Is(err, fault.Corrupt)
		if damaged {
			r.depot.mended.Add(1)
			r.depot.log.Warn("a chunk of a snapshot came damaged; it is fetched again", "snapshot", r.copy.ID.String(), "chunk", r.next, "error", err)
		}
		r.failures++
		if r.failures >= maxFailures || ctx.Err() != nil || !damaged && !fault.ReasonOf(err).Temporary() && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		select {
		case <-time.After(retryFirst << r.failures):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *run) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	first, last := r.copy.Manifest.Chunk(r.next), r.copy.Manifest.Chunk(r.to-1)
	r.gathered = r.gathered[:0]
	return r.depot.provider.ReadSnapshot(ctx, r.copy.ID, first.Offset, last.Offset+uint64(last.Bytes)-first.Offset, r.take)
}

// take gathers bytes to chunks and writes those that are whole.
func (r *run) take(piece []byte) error {
	for len(piece) > 0 && r.next < r.to {
		c := r.copy.Manifest.Chunk(r.next)
		n := min(len(piece), int(c.Bytes)-len(r.gathered))
		whole := piece[:n]
		if len(r.gathered) > 0 || n < int(c.Bytes) {
			r.gathered = append(r.gathered, piece[:n]...)
			whole = r.gathered
		}
		piece = piece[n:]
		if len(whole) < int(c.Bytes) {
			return nil
		}
		r.gathered = r.gathered[:0]
		if !c.Holds(whole) {
			return fault.New(fault.Corrupt, "chunk %d of snapshot %v does not have the hash its manifest names", r.next, r.copy.ID)
		}
		if _, err := r.file.WriteAt(whole, int64(c.Offset)); err != nil {
			return fault.New(fault.DiskFull, "the gateway could not keep a snapshot: %w", err)
		}
		r.copy.proven[r.next].Store(true)
		r.failures = 0
		r.done(r.next)
		r.next++
	}
	return nil
}
