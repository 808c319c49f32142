// Package segment says where batches lie in the log: which keys they have, and which range of each lane a segment holds.
//
// A segment is a slice of the node's log of about 256 MiB, whatever the lanes in it; it is expired and freed as one. Inside, an
// Extent is the contiguous range of one lane.
//
//	key of a batch:  segment u32, lane number u32, base sequence u64; big endian, so old segments lie before new ones
//
// Invariants:
//
//	I1  segment numbers only rise; a sealed segment never gets another batch.
//	I2  the extents of a lane follow one another without a gap in rising segments.
package segment

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Number counts segments from 1.
type Number uint32

// LaneNumber is a lane's number on this node, from the catalogue; never reused.
type LaneNumber uint32

// KeyBytes is the length of a batch's key.
const KeyBytes = 16

// Key appends the key of the batch.
func Key(b []byte, n Number, l LaneNumber, base lane.Sequence) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, uint32(l))
	return binary.BigEndian.AppendUint64(b, uint64(base))
}

// ParseKey reads what Key wrote; ok is false for any other length.
func ParseKey(key []byte) (n Number, l LaneNumber, base lane.Sequence, ok bool) {
	if len(key) != KeyBytes {
		return 0, 0, 0, false
	}
	return Number(binary.BigEndian.Uint32(key)), LaneNumber(binary.BigEndian.Uint32(key[4:])), lane.Sequence(binary.BigEndian.Uint64(key[8:])), true
}

// Extent is the range [First, Last] of one lane in one segment.
type Extent struct {
	Segment     Number
	First, Last lane.Sequence
	Bytes       uint64
	// FirstMS and LastMS are the lowest and highest record time.
	FirstMS, LastMS int64
	// Chain is the chain value behind the last batch.
	Chain batch.Chain
}

// Grow takes the batch with header h, of size bytes and chain value chain, into x. The zero Extent but for Segment is empty.
func (x *Extent) Grow(h *batch.Header, size int, chain batch.Chain) {
	if x.First == 0 {
		x.First, x.FirstMS, x.LastMS = h.Base, h.FirstMS, h.LastMS
	}
	x.FirstMS, x.LastMS = min(x.FirstMS, h.FirstMS), max(x.LastMS, h.LastMS)
	x.Last, x.Chain = h.Last(), chain
	x.Bytes += uint64(size)
}
