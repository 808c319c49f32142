package state

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Deleted keys travel in chunks of their own:
//
//	chunk     := tombstone*
//	tombstone := key (uvarint length, bytes) sequence (uvarint)

// Tombstone says that a key was deleted, and at which sequence.
type Tombstone struct {
	Key      []byte
	Sequence lane.Sequence
}

// AppendTombstone appends t to a chunk.
func AppendTombstone(chunk []byte, t Tombstone) []byte {
	chunk = appendBytes(chunk, t.Key)
	return binary.AppendUvarint(chunk, uint64(t.Sequence))
}

// TombstoneReader walks the tombstones of a chunk as Reader walks rows. The keys alias the chunk.
type TombstoneReader struct {
	rows Reader
}

// NewTombstoneReader reads chunk.
func NewTombstoneReader(chunk []byte) TombstoneReader { return TombstoneReader{NewReader(chunk)} }

// Next decodes the next tombstone into t; false at the end and at the first malformed byte.
func (r *TombstoneReader) Next(t *Tombstone) bool {
	if r.rows.err != nil || len(r.rows.rest) == 0 {
		return false
	}
	var ok bool
	if t.Key, ok = r.rows.bytes(record.MaxKeyBytes); !ok {
		return r.fail("key")
	}
	sequence, n := binary.Uvarint(r.rows.rest)
	if n <= 0 {
		return r.fail("sequence")
	}
	r.rows.rest = r.rows.rest[n:]
	t.Sequence = lane.Sequence(sequence)
	return true
}

// Err gives the fault (reason fault.Malformed) that stopped Next, nil at a clean end.
func (r *TombstoneReader) Err() error { return r.rows.err }

func (r *TombstoneReader) fail(part string) bool {
	r.rows.err = fault.New(fault.Malformed, "a tombstone does not decode: bad %s", part)
	return false
}
