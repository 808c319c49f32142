package snapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"lukechampine.com/blake3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Major and Minor are the format this code writes.
const (
	Major = 1
	Minor = 0
)

// MaxManifestBytes bounds an encoded manifest, so that it fits into one delivery: some 70,000 chunks.
const MaxManifestBytes = 7 << 20

// magic begins an encoded manifest.
const magic = "LKSS"

// HashBytes is the length of a Hash.
const HashBytes = 32

// Hash is a BLAKE3-256 hash.
type Hash [HashBytes]byte

// HashOf hashes b.
func HashOf(b []byte) Hash { return blake3.Sum256(b) }

// ID names a snapshot: the hash of its encoded manifest. The zero ID names none.
type ID Hash

// String gives the first half in hexadecimal: enough to tell snapshots apart, and a file name.
func (id ID) String() string { return hex.EncodeToString(id[:HashBytes/2]) }

// IsZero reports whether id names no snapshot.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads the 32 bytes of an ID; ok is false for another length.
func ParseID(b []byte) (id ID, ok bool) {
	if len(b) != HashBytes {
		return ID{}, false
	}
	return ID(b), true
}

// Chunk says where a chunk lies and what it holds.
type Chunk struct {
	// Offset and Bytes: where it lies in the file of all chunks, in bytes.
	Offset uint64
	Bytes  uint32
	// RawBytes is the length of its content.
	RawBytes uint32
	// Count is how many rows or tombstones it holds.
	Count uint32
	// Newest is the highest sequence among them.
	Newest lane.Sequence
	// Hash is that of the chunk as it is stored.
	Hash Hash
	// FirstKey is the key of its first row; empty for tombstones.
	FirstKey []byte
}

// Manifest says what a snapshot is. Treat it as read-only once made.
type Manifest struct {
	Stream    lane.StreamName
	Lane      lane.ID
	Seed      uint64 // of the digest
	At        lane.Position
	AtTimeMS  int64 // of the record at At; 0 when unknown
	Set       digest.Set
	Floor     lane.Sequence // I3
	Rows      []Chunk       // rising by key
	Tombstone []Chunk       // rising by sequence
}

// Bytes is the length of all chunks.
func (m *Manifest) Bytes() uint64 {
	if c := m.last(); c != nil {
		return c.Offset + uint64(c.Bytes)
	}
	return 0
}

// RowBytes is the length of the row chunks: what a bootstrap moves.
func (m *Manifest) RowBytes() uint64 {
	if n := len(m.Rows); n > 0 {
		return m.Rows[n-1].Offset + uint64(m.Rows[n-1].Bytes)
	}
	return 0
}

func (m *Manifest) last() *Chunk {
	switch {
	case len(m.Tombstone) > 0:
		return &m.Tombstone[len(m.Tombstone)-1]
	case len(m.Rows) > 0:
		return &m.Rows[len(m.Rows)-1]
	}
	return nil
}

// Chunk gives chunk number n of all: row chunks first. It panics outside [0, Chunks()).
func (m *Manifest) Chunk(n int) *Chunk {
	if n < len(m.Rows) {
		return &m.Rows[n]
	}
	return &m.Tombstone[n-len(m.Rows)]
}

// Chunks counts all chunks.
func (m *Manifest) Chunks() int { return len(m.Rows) + len(m.Tombstone) }

// Encode gives the manifest's bytes and their ID. Fault: InvalidArgument when it has too many chunks.
func (m *Manifest) Encode() ([]byte, ID, error) {
	b := append([]byte(magic), Major, Minor)
	b = appendBytes(b, []byte(m.Stream))
	b = binary.AppendUvarint(b, uint64(m.Lane.Stream))
	b = binary.AppendUvarint(b, uint64(m.Lane.Partition))
	b = binary.BigEndian.AppendUint64(b, m.Seed)
	b = binary.AppendUvarint(b, uint64(m.At.Epoch))
	b = binary.AppendUvarint(b, uint64(m.At.Sequence))
	b = binary.AppendVarint(b, m.AtTimeMS)
	b = m.Set.Sum.Append(b)
	b = binary.AppendUvarint(b, m.Set.Count)
	b = binary.AppendUvarint(b, uint64(m.Floor))
	for _, chunks := range [][]Chunk{m.Rows, m.Tombstone} {
		b = binary.AppendUvarint(b, uint64(len(chunks)))
		for i := range chunks {
			c := &chunks[i]
			b = binary.AppendUvarint(b, uint64(c.Bytes))
			b = binary.AppendUvarint(b, uint64(c.RawBytes))
			b = binary.AppendUvarint(b, uint64(c.Count))
			b = binary.AppendUvarint(b, uint64(c.Newest))
			b = append(b, c.Hash[:]...)
			b = appendBytes(b, c.FirstKey)
		}
	}
	if len(b) > MaxManifestBytes {
		return nil, ID{}, fault.New(fault.InvalidArgument, "the state of stream %q, partition %d, is too large for one snapshot: its manifest would have %d bytes, and at most %d can be sent; divide the stream into more partitions",
			m.Stream, m.Lane.Partition, len(b), MaxManifestBytes)
	}
	return b, ID(HashOf(b)), nil
}

func appendBytes(b, field []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

// ParseManifest reads what Encode wrote; when id is not zero b must have it. The manifest aliases b. Faults: Corrupt when b is not what
// id names, UnsupportedVersion, Malformed.
func ParseManifest(b []byte, id ID) (*Manifest, error) {
	if !id.IsZero() && ID(HashOf(b)) != id {
		return nil, fault.New(fault.Corrupt, "the manifest is not that of snapshot %v: it was damaged on its way or on disk", id)
	}
	if len(b) > MaxManifestBytes || len(b) < len(magic)+2 || string(b[:len(magic)]) != magic {
		return nil, fault.New(fault.Malformed, "these %d bytes are not a snapshot's manifest", len(b))
	}
	if major := b[len(magic)]; major != Major {
		return nil, fault.New(fault.UnsupportedVersion, "the snapshot has format %d.%d, and this side reads %d.%d: upgrade the older one", major, b[len(magic)+1], Major, Minor)
	}
	newer := b[len(magic)+1] > Minor
	r := reader{rest: b[len(magic)+2:]}
	m := &Manifest{
		Stream: lane.StreamName(r.bytes(lane.MaxNameBytes)),
		Lane:   lane.ID{Stream: lane.StreamID(r.uvarint()), Partition: lane.Partition(r.upTo(lane.MaxPartitions))},
		Seed:   r.uint64(),
		At:     lane.Position{Epoch: lane.Epoch(r.uvarint()), Sequence: lane.Sequence(r.uvarint())},
	}
	m.AtTimeMS = r.varint()
	m.Set.Sum, _ = digest.ParseSum(r.take(digest.Bytes))
	m.Set.Count, m.Floor = r.uvarint(), lane.Sequence(r.uvarint())
	offset := uint64(0)
	m.Rows = r.chunks(&offset)
	m.Tombstone = r.chunks(&offset)
	if r.bad || len(r.rest) > 0 && !newer { // I4
		return nil, fault.New(fault.Malformed, "the snapshot's manifest does not decode")
	}
	return m, m.consistent()
}

// consistent keeps I2.
func (m *Manifest) consistent() error {
	var rows uint64
	for i := range m.Rows {
		c := &m.Rows[i]
		rows += uint64(c.Count)
		if i > 0 && bytes.Compare(m.Rows[i-1].FirstKey, c.FirstKey) >= 0 {
			return fault.New(fault.Malformed, "the snapshot's chunks do not rise by key")
		}
		if c.Newest > m.At.Sequence {
			return fault.New(fault.Malformed, "the snapshot is of sequence %d, and chunk %d holds sequence %d", m.At.Sequence, i, c.Newest)
		}
	}
	if rows != m.Set.Count {
		return fault.New(fault.Malformed, "the snapshot's chunks hold %d rows, and its digest is of %d", rows, m.Set.Count)
	}
	if m.Floor > m.At.Sequence {
		return fault.New(fault.Malformed, "the snapshot is of sequence %d, and knows deletions since %d only", m.At.Sequence, m.Floor)
	}
	return nil
}

// reader decodes; after the first bad field everything is zero.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) upTo(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uint64() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) bytes(limit uint64) []byte { return r.take(int(r.upTo(limit))) }

// leastChunkBytes is the least a chunk takes in a manifest.
const leastChunkBytes = 5 + HashBytes

func (r *reader) chunks(offset *uint64) []Chunk {
	n := r.upTo(uint64(len(r.rest) / leastChunkBytes))
	if n == 0 {
		return nil
	}
	chunks := make([]Chunk, n)
	for i := range chunks {
		c := &chunks[i]
		c.Offset = *offset
		c.Bytes, c.RawBytes = uint32(r.upTo(MaxChunkBytes)), uint32(r.upTo(MaxRawBytes))
		c.Count, c.Newest = uint32(r.upTo(MaxRawBytes)), lane.Sequence(r.uvarint())
		copy(c.Hash[:], r.take(HashBytes))
		c.FirstKey = r.bytes(record.MaxKeyBytes)
		*offset += uint64(c.Bytes)
	}
	return chunks
}
