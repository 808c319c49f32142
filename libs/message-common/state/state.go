// Package state encodes rows of a state, the latest record per key, as they travel in a bootstrap and lie in a store.
//
//	chunk := row*                             rising by key
//	row   := key sequence time headers value
//	  key, headers, value   uvarint length, bytes
//	  sequence              uvarint
//	  time                  varint, milliseconds since 1970
//
// Invariants:
//
//	I1  decoding never reads beyond the chunk and refuses lengths beyond the limits of package record.
package state

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// TargetChunkBytes is the size at which makers of chunks close one; a chunk exceeds it by at most one row.
const TargetChunkBytes = 1 << 20

// AppendRow appends r as a row. r must not be a tombstone.
func AppendRow(chunk []byte, r *record.Record) []byte {
	chunk = appendBytes(chunk, r.Key)
	chunk = binary.AppendUvarint(chunk, uint64(r.Sequence))
	chunk = binary.AppendVarint(chunk, r.TimeMS)
	chunk = appendBytes(chunk, r.Headers)
	return appendBytes(chunk, r.Value)
}

func appendBytes(b, field []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

// Reader walks the rows of a chunk. Use: for r.Next(&rec) { ... }; if r.Err() != nil { ... }. The records alias the chunk.
type Reader struct {
	rest []byte
	err  error
}

// NewReader reads chunk.
func NewReader(chunk []byte) Reader { return Reader{rest: chunk} }

// Next decodes the next row into rec; false at the end and at the first malformed byte.
func (r *Reader) Next(rec *record.Record) bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	*rec = record.Record{}
	var ok bool
	if rec.Key, ok = r.bytes(record.MaxKeyBytes); !ok {
		return r.fail("key")
	}
	sequence, n := binary.Uvarint(r.rest)
	if n <= 0 {
		return r.fail("sequence")
	}
	r.rest = r.rest[n:]
	rec.Sequence = lane.Sequence(sequence)
	if rec.TimeMS, n = binary.Varint(r.rest); n <= 0 {
		return r.fail("time")
	}
	r.rest = r.rest[n:]
	if rec.Headers, ok = r.bytes(record.MaxHeadersBytes); !ok {
		return r.fail("headers")
	}
	if rec.Value, ok = r.bytes(record.MaxValueBytes); !ok {
		return r.fail("value")
	}
	return true
}

// Err gives the fault (reason fault.Malformed) that stopped Next, nil at a clean end.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(part string) bool {
	r.err = fault.New(fault.Malformed, "a state row does not decode: bad %s", part)
	return false
}

func (r *Reader) bytes(limit uint64) ([]byte, bool) {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > limit || n > uint64(len(r.rest)-size) {
		return nil, false
	}
	b := r.rest[size : size+int(n) : size+int(n)]
	r.rest = r.rest[size+int(n):]
	return b, true
}
