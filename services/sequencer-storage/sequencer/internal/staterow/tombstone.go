package staterow

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Tombstone says that Key's row was deleted by the record at Sequence.
type Tombstone struct {
	Key      []byte
	Sequence lane.Sequence
	// TimeMS is when the state took it in, by this node's clock: a record's time may be its producer's, and of any age.
	TimeMS int64
}

const tombstoneBytes = 17

// AppendTombstone appends the value of a tombstone.
func AppendTombstone(b []byte, sequence lane.Sequence, timeMS int64) []byte {
	b = binary.BigEndian.AppendUint64(append(b, tombTag), uint64(sequence))
	return binary.BigEndian.AppendUint64(b, uint64(timeMS))
}

// SplitTombstone reads the value of a tombstone; ok is false for one of a row.
func SplitTombstone(value []byte) (sequence lane.Sequence, timeMS int64, ok bool) {
	if len(value) != tombstoneBytes || value[0] != tombTag {
		return 0, 0, false
	}
	return lane.Sequence(binary.BigEndian.Uint64(value[1:])), int64(binary.BigEndian.Uint64(value[9:])), true
}

// OrderKey appends the key of a tombstone by order; with 0 it is where they begin.
func OrderKey(b []byte, l segment.LaneNumber, sequence lane.Sequence) []byte {
	b = append(binary.BigEndian.AppendUint32(b, uint32(l)), tombTag)
	return binary.BigEndian.AppendUint64(b, uint64(sequence))
}

// IsOrder reports whether key is one of a tombstone of l by order.
func IsOrder(key []byte, l segment.LaneNumber) bool {
	return len(key) > 4 && key[4] == tombTag && binary.BigEndian.Uint32(key) == uint32(l)
}

// AppendOrder appends the value of a tombstone by order.
func AppendOrder(b []byte, timeMS int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(timeMS)), key...)
}

// ParseOrder reads a tombstone by order, whose Key aliases value. Fault: Corrupt.
func ParseOrder(storedKey, value []byte) (Tombstone, error) {
	if len(storedKey) != 13 || len(value) < 9 || len(value) > 8+record.MaxKeyBytes {
		return Tombstone{}, fault.New(fault.Corrupt, "a stored tombstone has a key of %d bytes and a value of %d", len(storedKey), len(value))
	}
	return Tombstone{Key: value[8:], Sequence: lane.Sequence(binary.BigEndian.Uint64(storedKey[5:])), TimeMS: int64(binary.BigEndian.Uint64(value))}, nil
}
