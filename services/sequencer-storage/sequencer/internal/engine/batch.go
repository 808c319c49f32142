package engine

import "encoding/binary"

// Tags of RocksDB's write-batch encoding (db/write_batch.cc), which is also its WAL format and therefore stable.
const (
	tagDelete         = 0x0 // in the default column family
	tagPut            = 0x1
	tagDeleteInFamily = 0x4
	tagPutInFamily    = 0x5
	// batchHeader is 8 bytes of sequence number, which RocksDB fills in, and 4 of count.
	batchHeader = 12
)

// Batch is a set of changes applied as one, encoded here so that a write is one call into C: either of the state or of the other
// families, never of both. The zero Batch is empty. Not safe for concurrent use.
type Batch struct {
	data           []byte
	count          uint32
	inLog, inState bool // which databases it changes
}

// Put sets key to value.
func (b *Batch) Put(f Family, key, value []byte) {
	b.begin(f, tagPut, tagPutInFamily)
	b.bytes(key)
	b.bytes(value)
}

// Delete removes key.
func (b *Batch) Delete(f Family, key []byte) {
	b.begin(f, tagDelete, tagDeleteInFamily)
	b.bytes(key)
}

// Len counts the changes.
func (b *Batch) Len() int { return int(b.count) }

// Size is the encoded length in bytes.
func (b *Batch) Size() int { return len(b.data) }

// Reset empties b and keeps its memory.
func (b *Batch) Reset() { *b = Batch{data: b.data[:0]} }

func (b *Batch) begin(f Family, plain, inFamily byte) {
	if len(b.data) == 0 {
		b.data = append(b.data, make([]byte, batchHeader)...)
	}
	b.count++
	if f == State {
		b.inState = true
		b.data = append(b.data, plain)
		return
	}
	b.inLog = true
	b.data = append(b.data, inFamily)
	b.data = binary.AppendUvarint(b.data, uint64(f))
}

func (b *Batch) bytes(p []byte) {
	b.data = binary.AppendUvarint(b.data, uint64(len(p)))
	b.data = append(b.data, p...)
}

func (b *Batch) encoded() []byte {
	binary.LittleEndian.PutUint32(b.data[8:], b.count)
	return b.data
}
