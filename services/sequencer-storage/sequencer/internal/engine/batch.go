package engine

import "encoding/binary"

// Tags of RocksDB's write-batch encoding (db/write_batch.cc), which is also its WAL format and therefore stable.
const (
	tagDelete = 0x4
	tagPut    = 0x5
	// batchHeader is 8 bytes of sequence number, which RocksDB fills in, and 4 of count.
	batchHeader = 12
)

// Batch is a set of changes applied as one, encoded here so that a write is one call into C. The zero Batch is empty. Not safe for
// concurrent use.
type Batch struct {
	data  []byte
	count uint32
}

// Put sets key to value.
func (b *Batch) Put(f Family, key, value []byte) {
	b.begin(tagPut, f)
	b.bytes(key)
	b.bytes(value)
}

// Delete removes key.
func (b *Batch) Delete(f Family, key []byte) {
	b.begin(tagDelete, f)
	b.bytes(key)
}

// Len counts the changes.
func (b *Batch) Len() int { return int(b.count) }

// Size is the encoded length in bytes.
func (b *Batch) Size() int { return len(b.data) }

// Reset empties b and keeps its memory.
func (b *Batch) Reset() { b.data, b.count = b.data[:0], 0 }

func (b *Batch) begin(tag byte, f Family) {
	if len(b.data) == 0 {
		b.data = append(b.data, make([]byte, batchHeader)...)
	}
	b.count++
	b.data = append(b.data, tag)
	b.data = binary.AppendUvarint(b.data, uint64(f)) // families have their creation order as number
}

func (b *Batch) bytes(p []byte) {
	b.data = binary.AppendUvarint(b.data, uint64(len(p)))
	b.data = append(b.data, p...)
}

func (b *Batch) encoded() []byte {
	binary.LittleEndian.PutUint32(b.data[8:], b.count)
	return b.data
}
