// Package tip is the witness of what was acknowledged: a small file beside the log that remembers how far each lane had come.
//
// RocksDB notices a damaged write-ahead log but not one that is missing or cut at a record's end. So after each commit the new tail
// is written here too, and on the next start a lane whose tail is below it is not served.
//
//	file := slots; lane number n has the two slots at 128 n, written in turn
//	slot := 64 bytes, big endian: magic u32, lane u32, counter u64, epoch u64, tail u64, chain 16, unused 12, CRC32C u32
//
// Invariants:
//
//	I1  a slot is written after the fsync of what it says: a witness never claims more than was durable.
//	I2  a torn write loses one slot, never both.
//
// It is synced once a second, not with every commit: it is a second opinion and may be a second old after power loss.
package tip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

const (
	magic     = 0x4c535457 // "LSTW"
	slotBytes = 64
	// SyncInterval is how old the file on disk may be.
	SyncInterval = time.Second
)

// Tip is where a lane stood.
type Tip struct {
	Epoch lane.Epoch
	Tail  lane.Sequence
	Chain batch.Chain
}

// Witness is the open file. Safe for concurrent use.
type Witness struct {
	file *os.File

	mu       sync.Mutex // protects the fields below
	counters map[segment.LaneNumber]uint64
	dirty    bool
}

// Open opens the file, making it unless readOnly, and gives the newest readable tip of each lane.
func Open(path string, readOnly bool) (*Witness, map[segment.LaneNumber]Tip, error) {
	flags := os.O_RDWR | os.O_CREATE
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0o640)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the tip witness: %w", err)
	}
	w := &Witness{file: f, counters: map[segment.LaneNumber]uint64{}}
	tips, err := w.load()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("reading the tip witness: %w", err), f.Close())
	}
	return w, tips, nil
}

func (w *Witness) load() (map[segment.LaneNumber]Tip, error) {
	content, err := io.ReadAll(w.file)
	if err != nil {
		return nil, err
	}
	tips := map[segment.LaneNumber]Tip{}
	for at := 0; at+slotBytes <= len(content); at += slotBytes {
		t, n, counter, ok := parse(content[at : at+slotBytes])
		if !ok || int(n) != at/(2*slotBytes) || counter <= w.counters[n] {
			continue
		}
		tips[n], w.counters[n] = t, counter
	}
	return tips, nil
}

// Note writes a lane's new tip. I1 is the caller's to keep.
func (w *Witness) Note(n segment.LaneNumber, t Tip) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counters[n]++
	counter := w.counters[n]
	slot := encode(n, counter, t)
	if _, err := w.file.WriteAt(slot[:], int64(n)*2*slotBytes+int64(counter&1)*slotBytes); err != nil { // I2
		return fmt.Errorf("writing the tip witness: %w", err)
	}
	w.dirty = true
	return nil
}

// Sync makes what was noted durable.
func (w *Witness) Sync() error {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = false
	w.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := unix.Fdatasync(int(w.file.Fd())); err != nil {
		return fmt.Errorf("fsync of the tip witness: %w", err)
	}
	return nil
}

// Run syncs every SyncInterval until ctx ends.
func (w *Witness) Run(ctx context.Context) error {
	t := time.NewTicker(SyncInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := w.Sync(); err != nil {
				return err
			}
		case <-ctx.Done():
			return w.Sync()
		}
	}
}

// Close closes the file.
func (w *Witness) Close() error { return w.file.Close() }

func encode(n segment.LaneNumber, counter uint64, t Tip) (slot [slotBytes]byte) {
	binary.BigEndian.PutUint32(slot[0:], magic)
	binary.BigEndian.PutUint32(slot[4:], uint32(n))
	binary.BigEndian.PutUint64(slot[8:], counter)
	binary.BigEndian.PutUint64(slot[16:], uint64(t.Epoch))
	binary.BigEndian.PutUint64(slot[24:], uint64(t.Tail))
	copy(slot[32:48], t.Chain[:])
	binary.BigEndian.PutUint32(slot[60:], batch.CRC(slot[:60]))
	return slot
}

func parse(slot []byte) (t Tip, n segment.LaneNumber, counter uint64, ok bool) {
	if binary.BigEndian.Uint32(slot) != magic || binary.BigEndian.Uint32(slot[60:]) != batch.CRC(slot[:60]) {
		return Tip{}, 0, 0, false
	}
	t = Tip{
		Epoch: lane.Epoch(binary.BigEndian.Uint64(slot[16:])),
		Tail:  lane.Sequence(binary.BigEndian.Uint64(slot[24:])),
		Chain: batch.Chain(slot[32:48]),
	}
	return t, segment.LaneNumber(binary.BigEndian.Uint32(slot[4:])), binary.BigEndian.Uint64(slot[8:]), true
}
