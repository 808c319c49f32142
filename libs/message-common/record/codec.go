package record

import (
	"encoding/binary"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	flagTombstone = 1 << 0
	flagHeaders   = 1 << 1
	flagsKnown    = flagTombstone | flagHeaders
)

// Append appends r's encoding to body. previousMS is the time of the record before it in the same body, 0 for the first.
func Append(body []byte, r *Record, previousMS int64) []byte {
	var flags uint64
	if r.Tombstone {
		flags |= flagTombstone
	}
	if len(r.Headers) > 0 {
		flags |= flagHeaders
	}
	body = binary.AppendUvarint(body, flags)
	body = binary.AppendVarint(body, r.TimeMS-previousMS)
	body = binary.AppendUvarint(body, uint64(len(r.Key)))
	body = append(body, r.Key...)
	if len(r.Headers) > 0 {
		body = binary.AppendUvarint(body, uint64(len(r.Headers)))
		body = append(body, r.Headers...)
	}
	if !r.Tombstone {
		body = binary.AppendUvarint(body, uint64(len(r.Value)))
		body = append(body, r.Value...)
	}
	return body
}

// Reader walks the records of a body. Use: for r.Next(&rec) { ... }; if r.Err() != nil { ... }. The records alias the body.
type Reader struct {
	rest   []byte
	next   lane.Sequence
	timeMS int64
	err    error
}

// NewReader reads body, whose first record has sequence base.
func NewReader(body []byte, base lane.Sequence) Reader { return Reader{rest: body, next: base} }

// Next decodes the next record into rec; false at the end and at the first malformed byte.
func (r *Reader) Next(rec *Record) bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	flags, ok := r.uvarint()
	if !ok || flags&^flagsKnown != 0 {
		return r.fail("flags")
	}
	delta, n := binary.Varint(r.rest)
	if n <= 0 {
		return r.fail("time")
	}
	r.rest = r.rest[n:]
	r.timeMS += delta
	rec.Sequence, rec.TimeMS, rec.Tombstone = r.next, r.timeMS, flags&flagTombstone != 0
	if rec.Key, ok = r.bytes(MaxKeyBytes); !ok {
		return r.fail("key")
	}
	rec.Headers, rec.Value = nil, nil
	if flags&flagHeaders != 0 {
		if rec.Headers, ok = r.bytes(MaxHeadersBytes); !ok || len(rec.Headers) == 0 {
			return r.fail("headers")
		}
	}
	if !rec.Tombstone {
		if rec.Value, ok = r.bytes(MaxValueBytes); !ok {
			return r.fail("value")
		}
	}
	r.next++
	return true
}

// Err gives the fault (reason fault.Malformed) that stopped Next, nil at a clean end.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(part string) bool {
	r.err = fault.New(fault.Malformed, "record %d does not decode: bad %s", r.next, part)
	return false
}

func (r *Reader) uvarint() (uint64, bool) {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		return 0, false
	}
	r.rest = r.rest[n:]
	return v, true
}

func (r *Reader) bytes(limit uint64) ([]byte, bool) {
	n, ok := r.uvarint()
	if !ok || n > limit || n > uint64(len(r.rest)) {
		return nil, false
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b, true
}
