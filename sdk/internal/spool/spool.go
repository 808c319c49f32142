package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

// hotChunks is how many chunks ahead of the reader stay in memory, so that they need not be read again (I3).
const hotChunks = 2

// Spool holds the row chunks of one snapshot. Safe for one writer and one reader at a time.
type Spool struct {
	Manifest *snapshot.Manifest
	ID       snapshot.ID

	chunks  string // path
	file    *os.File
	scratch []byte // of the reader: a stored chunk

	mu      sync.Mutex // protects what follows
	there   []bool
	bytes   uint64 // of the chunks that are there
	reading int    // the chunk the reader wants next
	hot     map[int][]byte
	changed chan struct{} // closed and made anew when a chunk came
}

// Open opens the spool of a snapshot, makes it when it is not there, and finds out which chunks it has (I1). encoded is the manifest as it
// is named by id. Fault: DiskFull.
func Open(ctx context.Context, dir string, m *snapshot.Manifest, id snapshot.ID, encoded []byte) (*Spool, error) {
	name := nameOf(dir, m.Lane.Partition, id)
	if err := writeManifest(name+manifestSuffix, encoded); err != nil {
		return nil, explain(err)
	}
	f, err := os.OpenFile(name+chunksSuffix, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, explain(err)
	}
	s := &Spool{Manifest: m, ID: id, chunks: name + chunksSuffix, file: f, there: make([]bool, len(m.Rows)), hot: map[int][]byte{}, changed: make(chan struct{})}
	if err := s.look(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// look hashes what the file holds.
func (s *Spool) look(ctx context.Context) error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the spool %s: %w", s.chunks, err)
	}
	var b []byte
	for n := range s.there {
		c := &s.Manifest.Rows[n]
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.Offset+uint64(c.Bytes) > uint64(info.Size()) {
			return nil // chunks follow each other: what comes is not there either
		}
		if b, err = s.read(n, b); err != nil {
			return err
		}
		if c.Holds(b) {
			s.there[n] = true
			s.bytes += uint64(c.Bytes)
		}
	}
	return nil
}

func (s *Spool) read(n int, scratch []byte) ([]byte, error) {
	c := &s.Manifest.Rows[n]
	if cap(scratch) < int(c.Bytes) {
		scratch = make([]byte, int(c.Bytes)+int(c.Bytes)/8)
	}
	b := scratch[:c.Bytes]
	if _, err := s.file.ReadAt(b, int64(c.Offset)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the spool %s: %w", s.chunks, err)
	}
	return b, nil
}

// Missing gives the chunks that are not there, as pairs [from, until), rising.
func (s *Spool) Missing() (ranges []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, there := range s.there {
		switch last := len(ranges) - 1; {
		case there:
		case last > 0 && ranges[last] == uint32(n):
			ranges[last]++
		default:
			ranges = append(ranges, uint32(n), uint32(n+1))
		}
	}
	return ranges
}

// Bytes is how many bytes of chunks are there.
func (s *Spool) Bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Put takes a chunk that came, which the spool may keep. Faults: Corrupt when it is not the one the manifest names (I1), DiskFull.
func (s *Spool) Put(n int, stored []byte) error {
	if n < 0 || n >= len(s.there) {
		return fault.New(fault.Malformed, "chunk %d came, and snapshot %v has %d", n, s.ID, len(s.there))
	}
	c := &s.Manifest.Rows[n]
	if !c.Holds(stored) {
		return fault.New(fault.Corrupt, "chunk %d of snapshot %v is not what its manifest names: it was damaged on its way or at the gateway, and is asked for again", n, s.ID)
	}
	if _, err := s.file.WriteAt(stored, int64(c.Offset)); err != nil {
		return explain(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.there[n] {
		s.there[n] = true
		s.bytes += uint64(c.Bytes)
	}
	if n >= s.reading && n < s.reading+hotChunks {
		s.hot[n] = stored
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Take waits for a chunk and gives its content, in scratch when that has room. Chunks are taken in order. Fault: Corrupt
// (I2).
func (s *Spool) Take(ctx context.Context, n int, scratch []byte) ([]byte, error) {
	for {
		s.mu.Lock()
		s.reading = n
		stored, there, changed := s.hot[n], s.there[n], s.changed
		delete(s.hot, n)
		s.mu.Unlock()
		switch {
		case stored != nil:
			return snapshot.Unpack(stored, int(s.Manifest.Rows[n].RawBytes), scratch)
		case there:
			return s.reopen(n, scratch)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reopen reads a chunk back from the disk.
func (s *Spool) reopen(n int, scratch []byte) ([]byte, error) {
	stored, err := s.read(n, s.scratch)
	if err != nil {
		return nil, err
	}
	s.scratch = stored
	raw, err := s.Manifest.Rows[n].Open(stored, scratch)
	if err != nil {
		s.mu.Lock()
		s.there[n] = false
		s.bytes -= uint64(s.Manifest.Rows[n].Bytes)
		s.mu.Unlock()
	}
	return raw, err
}

// Close closes the file, which stays.
func (s *Spool) Close() error { return s.file.Close() }
