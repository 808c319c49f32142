package snapshot

import (
	"io"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
)

// Writer makes a snapshot: rows first, rising by key, then tombstones, rising by sequence, then Finish. Chunks go to the io.Writer as they
// are full; memory is bounded by two of them. One goroutine at a time.
type Writer struct {
	out      io.Writer
	manifest Manifest
	set      digest.Set
	raw      []byte
	stored   []byte
	content  Chunk
	offset   uint64
	dead     bool // rows are over
}

// NewWriter begins the snapshot that m describes; its Set is what the rows must prove to be, its chunks are the Writer's to fill.
func NewWriter(out io.Writer, m Manifest) *Writer {
	m.Rows, m.Tombstone = nil, nil
	return &Writer{out: out, manifest: m}
}

// Row adds a row: its element and its encoding by package state, of a record with this key and sequence. The slices are only read.
func (w *Writer) Row(e digest.Element, key []byte, sequence lane.Sequence, row []byte) error {
	if w.dead {
		return fault.New(fault.Internal, "a row of a snapshot comes after its tombstones")
	}
	w.set.Add(e)
	if w.content.Count == 0 {
		w.content.FirstKey = append([]byte(nil), key...)
	}
	w.raw = append(w.raw, row...)
	return w.added(sequence)
}

// Tombstone adds a deleted key.
func (w *Writer) Tombstone(t state.Tombstone) error {
	if !w.dead {
		if err := w.seal(); err != nil {
			return err
		}
		w.dead = true
	}
	w.raw = state.AppendTombstone(w.raw, t)
	return w.added(t.Sequence)
}

func (w *Writer) added(s lane.Sequence) error {
	w.content.Count++
	w.content.Newest = max(w.content.Newest, s)
	if len(w.raw) < state.TargetChunkBytes {
		return nil
	}
	return w.seal()
}

// seal writes the chunk that gathers.
func (w *Writer) seal() error {
	if w.content.Count == 0 {
		return nil
	}
	stored, c, err := Seal(w.stored[:0], w.raw, w.content)
	if err != nil {
		return err
	}
	if _, err := w.out.Write(stored); err != nil {
		return err
	}
	c.Offset = w.offset
	w.offset += uint64(c.Bytes)
	if w.dead {
		w.manifest.Tombstone = append(w.manifest.Tombstone, c)
	} else {
		w.manifest.Rows = append(w.manifest.Rows, c)
	}
	w.stored, w.raw, w.content = stored, w.raw[:0], Chunk{}
	return nil
}

// Rows is how many rows were added.
func (w *Writer) Rows() uint64 { return w.set.Count }

// Finish writes what is left and gives the manifest. Fault: Corrupt when the rows do not add up to the manifest's Set; then what was
// written is of no use.
func (w *Writer) Finish() (*Manifest, error) {
	if err := w.seal(); err != nil {
		return nil, err
	}
	if w.set != w.manifest.Set {
		return nil, fault.New(fault.Corrupt, "the state of stream %q, partition %d, at %v has digest %v, and its rows have %v: no snapshot was made",
			w.manifest.Stream, w.manifest.Lane.Partition, w.manifest.At, w.manifest.Set, w.set)
	}
	m := w.manifest
	return &m, nil
}

// AddRecord is Row for a record that is hashed here.
func (w *Writer) AddRecord(h *digest.Hasher, r *record.Record) error {
	e := h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
	return w.Row(e, r.Key, r.Sequence, state.AppendRow(nil, r))
}
