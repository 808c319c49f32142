package batch

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// minCompressBytes is the body below which compression costs more than it saves.
const minCompressBytes = 512

// Builder gathers records of one lane into a draft. The zero Builder is empty and ready; one goroutine at a time.
type Builder struct {
	body            []byte
	count           uint32
	firstMS, lastMS int64
	previousMS      int64
}

// Add encodes r behind the records added before. Callers check r first, and keep Size within MaxRawBytes.
func (b *Builder) Add(r *record.Record) {
	b.note(r.TimeMS)
	b.body = record.Append(b.body, r, b.previousMS)
	b.previousMS = r.TimeMS
}

// note keeps count and time range.
func (b *Builder) note(timeMS int64) {
	if b.count == 0 || timeMS < b.firstMS {
		b.firstMS = timeMS
	}
	if b.count == 0 || timeMS > b.lastMS {
		b.lastMS = timeMS
	}
	b.count++
}

// Count is the number of records added since the last Reset.
func (b *Builder) Count() uint32 { return b.count }

// Size is the length of the body so far, in bytes before compression.
func (b *Builder) Size() int { return len(b.body) }

// Reset empties the Builder and keeps its memory.
func (b *Builder) Reset() { *b = Builder{body: b.body[:0]} }

// Build returns the draft of the records added, in fresh memory, compressed with S2 when that shrinks it; nil when there are none.
// The Builder keeps its records until Reset.
func (b *Builder) Build(id lane.ID) []byte {
	if b.count == 0 {
		return nil
	}
	codec, stored := CodecNone, len(b.body)
	var out []byte
	if len(b.body) >= minCompressBytes {
		out = make([]byte, HeaderBytes+s2.MaxEncodedLen(len(b.body)))
		if packed := s2.Encode(out[HeaderBytes:], b.body); len(packed) < len(b.body)-len(b.body)/16 {
			codec, stored = CodecS2, len(packed)
			out = out[:HeaderBytes+stored]
		} else {
			out = nil
		}
	}
	if out == nil {
		out = make([]byte, HeaderBytes+stored)
		copy(out[HeaderBytes:], b.body)
	}
	out[0], out[1], out[2], out[3] = 'L', 'B', Major, byte(codec)
	binary.BigEndian.PutUint16(out[4:], HeaderBytes)
	binary.BigEndian.PutUint32(out[24:], b.count)
	binary.BigEndian.PutUint32(out[28:], uint32(len(b.body)))
	binary.BigEndian.PutUint32(out[32:], uint32(stored))
	binary.BigEndian.PutUint32(out[36:], CRC(out[HeaderBytes:]))
	binary.BigEndian.PutUint64(out[40:], uint64(b.firstMS))
	binary.BigEndian.PutUint64(out[48:], uint64(b.lastMS))
	binary.BigEndian.PutUint64(out[72:], uint64(id.Stream))
	binary.BigEndian.PutUint32(out[80:], uint32(id.Partition))
	return out
}
