package record

import (
	"bytes"
	"unicode/utf8"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Limits of one record, in bytes.
const (
	MaxKeyBytes     = 1024
	MaxHeadersBytes = 16 << 10
	MaxValueBytes   = 1 << 20
)

// Record is one record of a lane. Its slices alias the buffer they were decoded from: whoever keeps a Record longer than the
// buffer's owner allows must Clone it.
type Record struct {
	Sequence lane.Sequence
	// TimeMS is milliseconds since 1970.
	TimeMS int64
	// Key is UTF-8 without NUL, at most MaxKeyBytes; empty only in streams without keys.
	Key []byte
	// Headers is canonical JSON, or empty when there are none.
	Headers Headers
	// Value is any bytes, at most MaxValueBytes; empty in a tombstone.
	Value []byte
	// Tombstone deletes the key from the state.
	Tombstone bool
}

// Clone returns a Record that shares no memory with r.
func (r Record) Clone() Record {
	r.Key = bytes.Clone(r.Key)
	r.Headers = bytes.Clone(r.Headers)
	r.Value = bytes.Clone(r.Value)
	return r
}

// Check returns a fault unless r may be stored: sizes, UTF-8 of the key, no value in a tombstone. keyed asks for a key.
// Canonical headers are the caller's to ensure (ParseHeaders, NewHeaders).
func (r *Record) Check(keyed bool) error {
	switch {
	case keyed && len(r.Key) == 0:
		return fault.New(fault.KeyMissing, "the record has no key, and the stream is keyed")
	case len(r.Key) > MaxKeyBytes:
		return fault.New(fault.RecordTooLarge, "the key is %d bytes; at most %d are allowed", len(r.Key), MaxKeyBytes)
	case len(r.Headers) > MaxHeadersBytes:
		return fault.New(fault.RecordTooLarge, "the headers are %d bytes; at most %d are allowed", len(r.Headers), MaxHeadersBytes)
	case len(r.Value) > MaxValueBytes:
		return fault.New(fault.RecordTooLarge, "the value is %d bytes; at most %d are allowed", len(r.Value), MaxValueBytes)
	case !utf8.Valid(r.Key) || bytes.IndexByte(r.Key, 0) >= 0:
		return fault.New(fault.InvalidArgument, "the key %.60q is not UTF-8 text without NUL bytes", r.Key)
	case r.Tombstone && len(r.Value) > 0:
		return fault.New(fault.InvalidArgument, "the record of key %.60q is a tombstone and has a value; it can be one of the two", r.Key)
	case r.TimeMS < 0:
		return fault.New(fault.InvalidArgument, "the record's time is %d ms, before 1970", r.TimeMS)
	}
	return nil
}
