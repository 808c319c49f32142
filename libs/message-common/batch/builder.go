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
	draft           []byte // room for the header, then the body
	packed          []byte // the same, compressed
	count           uint32
	firstMS, lastMS int64
	previousMS      int64
}

// Add encodes r behind the records added before. Callers check r first, and keep Size within MaxRawBytes.
func (b *Builder) Add(r *record.Record) {
	b.note(r.TimeMS)
	b.draft = record.Append(b.draft, r, b.previousMS)
	b.previousMS = r.TimeMS
}

// note keeps count and time range.
func (b *Builder) note(timeMS int64) {
	if b.count == 0 {
		b.draft = append(b.draft[:0], make([]byte, HeaderBytes)...)
	}
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
func (b *Builder) Size() int { return max(0, len(b.draft)-HeaderBytes) }

// Reset empties the Builder and keeps its memory.
func (b *Builder) Reset() { *b = Builder{draft: b.draft[:0], packed: b.packed} }

// Build returns the draft of the records added, compressed with S2 when that shrinks it; nil when there are none. The bytes are the
// Builder's own, valid until its next Add or Reset. It keeps its records until Reset.
func (b *Builder) Build(id lane.ID) []byte {
	if b.count == 0 {
		return nil
	}
	body := b.draft[HeaderBytes:]
	codec, out := CodecNone, b.draft
	if len(body) >= minCompressBytes {
		if most := HeaderBytes + s2.MaxEncodedLen(len(body)); cap(b.packed) < most {
			b.packed = make([]byte, most)
		}
		if packed := s2.Encode(b.packed[HeaderBytes:cap(b.packed)], body); len(packed) < len(body)-len(body)/16 {
			codec, out = CodecS2, b.packed[:HeaderBytes+len(packed)]
		}
	}
	clear(out[:HeaderBytes])
	out[0], out[1], out[2], out[3] = 'L', 'B', Major, byte(codec)
	binary.BigEndian.PutUint16(out[4:], HeaderBytes)
	binary.BigEndian.PutUint32(out[24:], b.count)
	binary.BigEndian.PutUint32(out[28:], uint32(len(body)))
	binary.BigEndian.PutUint32(out[32:], uint32(len(out)-HeaderBytes))
	binary.BigEndian.PutUint32(out[36:], CRC(out[HeaderBytes:]))
	binary.BigEndian.PutUint64(out[40:], uint64(b.firstMS))
	binary.BigEndian.PutUint64(out[48:], uint64(b.lastMS))
	binary.BigEndian.PutUint64(out[72:], uint64(id.Stream))
	binary.BigEndian.PutUint32(out[80:], uint32(id.Partition))
	return out
}
