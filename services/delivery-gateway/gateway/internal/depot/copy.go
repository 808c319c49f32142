package depot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

// Copy is a snapshot at hand. It is good until it is released. Safe for concurrent use.
type Copy struct {
	*snapshot.Manifest
	ID snapshot.ID
	// Encoded is the manifest as it is sent; it must not be changed.
	Encoded []byte

	depot   *Depot
	file    *os.File
	takenAt time.Time
	proven  []atomic.Bool // chunk by chunk, since this process has the copy (I1)
	mending sync.Mutex    // one fetches a damaged chunk, the others find it mended

	// Protected by depot.mu.
	uses   int
	usedAt int64 // on the depot's clock
	gone   bool  // not in the depot any more
	sketch *Sketch
}

func (c *Copy) diskBytes() int64 { return int64(c.Bytes()) + int64(len(c.Encoded)) }

// Chunk reads chunk number n of all as it is stored, into memory of its own. prove asks for its hash to be compared although that was
// done before. Faults: SnapshotGone when it is damaged and storage has no other, and those of storage.
func (c *Copy) Chunk(ctx context.Context, n int, prove bool) ([]byte, error) {
	return c.chunk(ctx, n, nil, prove)
}

func (c *Copy) chunk(ctx context.Context, n int, scratch []byte, prove bool) ([]byte, error) {
	at := c.Manifest.Chunk(n)
	b := sized(scratch, int(at.Bytes))
	_, err := c.file.ReadAt(b, int64(at.Offset))
	if err == nil && (c.proven[n].Load() && !prove || at.Holds(b)) {
		c.proven[n].Store(true)
		return b, nil
	}
	return c.mend(ctx, n, b, err)
}

// mend fetches a damaged chunk again into b (I1).
func (c *Copy) mend(ctx context.Context, n int, b []byte, why error) ([]byte, error) {
	c.mending.Lock()
	defer c.mending.Unlock()
	at := c.Manifest.Chunk(n)
	if _, err := c.file.ReadAt(b, int64(at.Offset)); err == nil && at.Holds(b) {
		return b, nil // somebody else did it meanwhile
	}
	c.depot.log.Error("a chunk of a snapshot is damaged on this gateway's disk; it is fetched again", "snapshot", c.ID.String(), "chunk", n, "stream", string(c.Stream), "error", why)
	c.proven[n].Store(false)
	got := bytes.NewBuffer(b[:0])
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err := c.depot.provider.ReadSnapshot(ctx, c.ID, at.Offset, uint64(at.Bytes), func(piece []byte) error { got.Write(piece); return nil })
	if err == nil && !at.Holds(got.Bytes()) {
		err = fault.New(fault.Corrupt, "chunk %d of snapshot %v is damaged at storage too, or on its way; nothing of it was sent: begin with another snapshot", n, c.ID)
	}
	if err != nil {
		if errors.Is(err, fault.SnapshotGone) || errors.Is(err, fault.Corrupt) {
			c.depot.mu.Lock()
			c.depot.dropLocked(c)
			c.depot.mu.Unlock()
			return nil, fault.New(fault.SnapshotGone, "the copy of snapshot %v on this gateway was damaged and could not be mended: ask for another: %w", c.ID, err)
		}
		return nil, err
	}
	c.depot.mended.Add(1)
	if _, err := c.file.WriteAt(got.Bytes(), int64(at.Offset)); err != nil { // what was fetched is good all the same
		c.depot.log.Warn("a mended chunk could not be written; it will be fetched again when needed", "snapshot", c.ID.String(), "error", err)
		return got.Bytes(), nil
	}
	c.proven[n].Store(true)
	return got.Bytes(), nil
}

func sized(scratch []byte, n int) []byte {
	if cap(scratch) < n {
		return make([]byte, n)
	}
	return scratch[:n]
}

// artefact reads the chunks proven, and mended if need be.
func (c *Copy) artefact(ctx context.Context) *snapshot.Artefact {
	return &snapshot.Artefact{Manifest: c.Manifest, Stored: func(n int, scratch []byte) ([]byte, error) { return c.chunk(ctx, n, scratch, true) }}
}

// Changes hands the rows and tombstones newer than since to send, packed. Fault Expired: see snapshot.Artefact.
func (c *Copy) Changes(ctx context.Context, since lane.Sequence, send func(snapshot.Packet) error) error {
	return c.depot.scan(ctx, send, func(send func(snapshot.Packet) error) error { return c.artefact(ctx).Changes(ctx, since, send) })
}

// Pick hands the wanted rows to send, packed, rising by key.
func (c *Copy) Pick(ctx context.Context, wanted map[sketch.ID]struct{}, send func(snapshot.Packet) error) error {
	return c.depot.scan(ctx, send, func(send func(snapshot.Packet) error) error { return c.artefact(ctx).Pick(ctx, wanted, send) })
}

// scan runs one of the scans that are allowed at once; its place is somebody else's while send waits (I5).
func (d *Depot) scan(ctx context.Context, send func(snapshot.Packet) error, run func(func(snapshot.Packet) error) error) error {
	if err := d.beginScan(ctx); err != nil {
		return err
	}
	running := true
	defer func() {
		if running {
			d.endScan()
		}
	}()
	return run(func(p snapshot.Packet) error {
		d.endScan()
		running = false
		if err := send(p); err != nil {
			return err
		}
		if err := d.beginScan(ctx); err != nil {
			return err
		}
		running = true
		return nil
	})
}

func (d *Depot) beginScan(ctx context.Context) error {
	select {
	case d.scans <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Depot) endScan() { <-d.scans }
