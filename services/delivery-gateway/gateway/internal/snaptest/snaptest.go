// Package snaptest is a storage that makes and keeps snapshots in memory, for tests of whoever fetches them.
package snaptest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Seed of all digests made here.
const Seed = 42

// State says what the rows of a snapshot are: row i has sequence i+1, so that "newer than" is easy to tell. The records behind Rows,
// up to At, deleted keys that never were.
type State struct {
	Stream     lane.StreamName
	Lane       lane.ID
	Epoch      lane.Epoch
	Rows       int
	ValueBytes int
	At, Floor  lane.Sequence
}

// noise is half noise, half what compresses.
var noise = func() (b [1 << 14]byte) {
	x := uint32(1)
	for i := 0; i < len(b); i += 2 {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i], b[i+1] = 'a'+byte(x%16), 'o'
	}
	return b
}()

// Record is row i of s.
func (s State) Record(i int) record.Record {
	value := make([]byte, 0, s.ValueBytes+64)
	value = append(value, `{"customer":"c-`...)
	value = strconv.AppendInt(value, int64(i*7919%9999991), 10)
	value = append(value, `","currency":"EUR","total":`...)
	value = strconv.AppendInt(value, int64(i*31%99733), 10)
	if at := i * 61 % (len(noise) - s.ValueBytes); len(value) < s.ValueBytes {
		value = append(value, noise[at:at+s.ValueBytes-len(value)]...)
	}
	return record.Record{Key: fmt.Appendf(nil, "order-%09d", i), Sequence: lane.Sequence(i + 1), TimeMS: 1_700_000_000_000 + int64(i), Value: value[:s.ValueBytes:s.ValueBytes]}
}

// Records are rows [from, to).
func (s State) Records(from, to int) []record.Record {
	records := make([]record.Record, 0, to-from)
	for i := from; i < to; i++ {
		records = append(records, s.Record(i))
	}
	return records
}

// Write makes the snapshot's chunks.
func (s State) Write(out io.Writer) (*snapshot.Manifest, error) {
	h := digest.NewHasher(Seed)
	var set digest.Set
	for i := range s.Rows {
		r := s.Record(i)
		set.Add(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))
	}
	w := snapshot.NewWriter(out, snapshot.Manifest{Stream: s.Stream, Lane: s.Lane, Seed: Seed, At: lane.Position{Epoch: s.Epoch, Sequence: s.At}, Set: set, Floor: s.Floor})
	for i := range s.Rows {
		r := s.Record(i)
		if err := w.AddRecord(h, &r); err != nil {
			return nil, err
		}
	}
	for at := max(lane.Sequence(s.Rows), s.Floor) + 1; at <= s.At; at++ {
		if err := w.Tombstone(state.Tombstone{Key: fmt.Appendf(nil, "gone-%d", at), Sequence: at}); err != nil {
			return nil, err
		}
	}
	return w.Finish()
}

// Kept is one snapshot at storage.
type Kept struct {
	*snapshot.Manifest
	ID      snapshot.ID
	Encoded []byte
	File    []byte
}

// Make makes the snapshot of s.
func Make(s State) (*Kept, error) {
	var file bytes.Buffer
	m, err := s.Write(&file)
	if err != nil {
		return nil, err
	}
	encoded, id, err := m.Encode()
	return &Kept{Manifest: m, ID: id, Encoded: encoded, File: file.Bytes()}, err
}

// Stored is the bytes of chunk n.
func (k *Kept) Stored(n int) []byte {
	c := k.Chunk(n)
	return k.File[c.Offset : c.Offset+uint64(c.Bytes)]
}

// Storage has one newest snapshot and those before, until they are let go. Safe for concurrent use.
type Storage struct {
	mu     sync.Mutex       // protects what follows
	at     storage.Standing // of the lane
	newest *Kept
	kept   map[snapshot.ID]*Kept
	gate   chan struct{}
	damage int // so many pieces more are sent with a flipped bit
	cut    int // so many reads more break off in the middle
	losses int // so many reads more find that storage has let go of the snapshot
	down   bool
	opens  int
	reads  int
	read   int64 // bytes
}

// New has nothing.
func New() *Storage { return &Storage{kept: make(map[snapshot.ID]*Kept)} }

// Put makes k the newest; the lane then stands at its position.
func (s *Storage) Put(k *Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest, s.kept[k.ID] = k, k
	s.at = storage.Standing{Lane: k.Lane, Stream: k.Stream, Epoch: k.At.Epoch, Head: 1, Tail: k.At.Sequence}
}

// Stand moves the lane.
func (s *Storage) Stand(head, tail lane.Sequence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.Head, s.at.Tail = head, tail
}

// Gate makes opening wait until the returned function is called.
func (s *Storage) Gate() (open func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() { close(gate) })
}

// Damage flips a bit in each of the next n pieces.
func (s *Storage) Damage(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage = n
}

// Cut breaks the next n reads off in the middle.
func (s *Storage) Cut(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = n
}

// Lose makes the next n reads fail as if their snapshot were gone.
func (s *Storage) Lose(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses = n
}

// Forget lets go of all snapshots.
func (s *Storage) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kept)
	s.newest = nil
}

// SetDown makes every call fail, or no longer.
func (s *Storage) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Counts is how often it was asked, and the bytes it sent.
func (s *Storage) Counts() (opens, reads int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens, s.reads, s.read
}

// Tails answers as storage.Client does.
func (s *Storage) Tails(context.Context, []lane.ID) ([]storage.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, fault.New(fault.Unavailable, "storage is down")
	}
	return []storage.Standing{s.at}, nil
}

// OpenSnapshot answers as storage.Client does.
func (s *Storage) OpenSnapshot(ctx context.Context, w storage.Wanted, progress func(rows, expected uint64)) ([]byte, snapshot.ID, error) {
	s.mu.Lock()
	s.opens++
	gate, down, k := s.gate, s.down, s.newest
	if !w.ID.IsZero() {
		k = s.kept[w.ID]
	}
	s.mu.Unlock()
	switch {
	case down:
		return nil, snapshot.ID{}, fault.New(fault.Unavailable, "storage is down")
	case k == nil:
		return nil, snapshot.ID{}, fault.New(fault.SnapshotGone, "no such snapshot")
	}
	progress(k.Set.Count/2, k.Set.Count)
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, snapshot.ID{}, ctx.Err()
		}
	}
	return k.Encoded, k.ID, nil
}

const pieceBytes = 256 << 10

// ReadSnapshot answers as storage.Client does.
func (s *Storage) ReadSnapshot(ctx context.Context, id snapshot.ID, offset, n uint64, visit func([]byte) error) error {
	s.mu.Lock()
	s.reads++
	k, down, cut := s.kept[id], s.down, s.cut > 0
	if s.losses > 0 {
		s.losses--
		k = nil
	}
	if cut {
		s.cut--
	}
	s.mu.Unlock()
	switch {
	case down:
		return fault.New(fault.Unavailable, "storage is down")
	case k == nil:
		return fault.New(fault.SnapshotGone, "no such snapshot")
	case offset+n > uint64(len(k.File)):
		return fault.New(fault.InvalidArgument, "[%d, %d) is beyond the file", offset, offset+n)
	}
	for part := k.File[offset : offset+n]; len(part) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := part[:min(pieceBytes, len(part))]
		part = part[len(piece):]
		s.mu.Lock()
		s.read += int64(len(piece))
		if s.damage > 0 {
			s.damage--
			piece = bytes.Clone(piece)
			piece[len(piece)/2] ^= 1
		}
		s.mu.Unlock()
		if err := visit(piece); err != nil {
			return err
		}
		if cut {
			return fault.New(fault.Unavailable, "storage went away during the read")
		}
	}
	return nil
}
