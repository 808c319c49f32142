// Package staterow is how the state of a keyed lane lies in the engine.
//
//	row        key lane u32, 'k', record key     value digest element (16), row in the encoding of libs/message-common/state
//	tombstone  key lane u32, 'k', record key     value 't', sequence u64, time u64: 17 bytes, and no row is shorter than 22
//	by order   key lane u32, 't', sequence u64   value time u64, record key; one for every tombstone
//	mark       key lane u32, 'm'                 value epoch, sequence, sum (16), count, floor, tombstones; u64 each
//
// All numbers are big endian. The element is kept so that replacing a row needs no hashing of the old value; the row is kept as it
// travels. A tombstone stands where the row stood that was deleted at its sequence; digest and count know nothing of it. Format 1 had
// no tombstones and a mark without the last two: it reads as a state whose tombstones were all let go.
//
// Invariants:
//
//	I1  rows, tombstones and mark change in one write: what is stored is the state at exactly the mark's sequence.
//	I2  of every key that was deleted above the mark's floor and not put again there is the tombstone; of others there is none.
package staterow

import (
	"bytes"
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

const (
	rowTag  = 'k'
	markTag = 'm'
	tombTag = 't'
)

// Prefix is what all keys of a lane begin with.
func Prefix(l segment.LaneNumber) []byte { return binary.BigEndian.AppendUint32(nil, uint32(l)) }

// RowKey appends the key of a row; with an empty record key it is where rows begin.
func RowKey(b []byte, l segment.LaneNumber, key []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(l))
	return append(append(b, rowTag), key...)
}

// IsRow reports whether key is one of a row of l.
func IsRow(key []byte, l segment.LaneNumber) bool {
	return len(key) > 5 && key[4] == rowTag && binary.BigEndian.Uint32(key) == uint32(l)
}

// MarkKey is the key of a lane's mark.
func MarkKey(l segment.LaneNumber) []byte { return append(Prefix(l), markTag) }

// AppendRow appends the value of a row.
func AppendRow(b []byte, e digest.Element, r *record.Record) []byte {
	return state.AppendRow(e.Append(b), r)
}

// SplitRow gives the element and the row as it travels; the row aliases value. Fault: Corrupt.
func SplitRow(value []byte) (digest.Element, []byte, error) {
	if len(value) < digest.Bytes {
		return digest.Element{}, nil, fault.New(fault.Corrupt, "a stored state row is %d bytes long", len(value))
	}
	e, _ := digest.ParseElement(value[:digest.Bytes])
	return e, value[digest.Bytes:], nil
}

// Mark says what the stored state is.
type Mark struct {
	Epoch    lane.Epoch
	Sequence lane.Sequence
	Set      digest.Set
	// Floor is the sequence up to which tombstones were let go (I2); Tombstones is how many there are above it.
	Floor      lane.Sequence
	Tombstones uint64
}

// Lengths of a stored mark.
const (
	markBytes        = 56
	markBytesFormat1 = 40
)

// Encode gives the stored form.
func (m Mark) Encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(m.Epoch))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Sequence))
	b = m.Set.Sum.Append(b)
	b = binary.BigEndian.AppendUint64(b, m.Set.Count)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Floor))
	return binary.BigEndian.AppendUint64(b, m.Tombstones)
}

// ParseMark reads what Encode wrote, now or in format 1. Fault: Corrupt.
func ParseMark(b []byte) (Mark, error) {
	if len(b) != markBytes && len(b) != markBytesFormat1 {
		return Mark{}, fault.New(fault.Corrupt, "a stored state mark is %d bytes long", len(b))
	}
	var m Mark
	m.Epoch = lane.Epoch(binary.BigEndian.Uint64(b))
	m.Sequence = lane.Sequence(binary.BigEndian.Uint64(b[8:]))
	m.Set.Sum, _ = digest.ParseSum(b[16:32])
	m.Set.Count = binary.BigEndian.Uint64(b[32:])
	if len(b) == markBytesFormat1 {
		m.Floor = m.Sequence
		return m, nil
	}
	m.Floor = lane.Sequence(binary.BigEndian.Uint64(b[40:]))
	m.Tombstones = binary.BigEndian.Uint64(b[48:])
	if m.Floor > m.Sequence {
		return Mark{}, fault.New(fault.Corrupt, "a stored state mark at sequence %d has its tombstones' floor at %d", m.Sequence, m.Floor)
	}
	return m, nil
}

// CheckRow reads a stored row whole and hashes it anew. Fault: Corrupt.
func CheckRow(storedKey, value []byte, h *digest.Hasher) (digest.Element, error) {
	e, row, err := SplitRow(value)
	if err != nil {
		return e, err
	}
	r := state.NewReader(row)
	var rec record.Record
	if !r.Next(&rec) {
		return e, fault.New(fault.Corrupt, "the stored state row of key %.60q does not decode", storedKey[5:])
	}
	if !bytes.Equal(rec.Key, storedKey[5:]) {
		return e, fault.New(fault.Corrupt, "the stored state row of key %.60q is that of %.60q", storedKey[5:], rec.Key)
	}
	if again := h.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value); again != e {
		return e, fault.New(fault.Corrupt, "the stored state row of key %.60q has another digest than was stored with it", storedKey[5:])
	}
	return e, nil
}
