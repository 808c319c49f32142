package snapshot

import (
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
)

const (
	// MaxRawBytes is the largest content of a chunk: the target and one largest row, with room to spare.
	MaxRawBytes = state.TargetChunkBytes + record.MaxValueBytes + record.MaxHeadersBytes + record.MaxKeyBytes + 64
	// MaxChunkBytes is the largest stored chunk: what does not shrink grows by little.
	MaxChunkBytes = MaxRawBytes + MaxRawBytes/128 + 1024
)

// encoder and decoder are shared: EncodeAll and DecodeAll are safe for concurrent use. The fastest level: a snapshot is made while
// appends go on, and is sent over networks faster than a better level packs.
var (
	encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	})
	decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxRawBytes), zstd.WithDecodeAllCapLimit(true))
	})
)

// Pack appends the packed form of raw to out: what a chunk, and any other piece of rows on its way to a consumer, is stored and sent as.
func Pack(out, raw []byte) ([]byte, error) {
	z, err := encoder()
	if err != nil {
		return out, fault.New(fault.Internal, "zstd: %w", err)
	}
	return z.EncodeAll(raw, out), nil
}

// Unpack gives the rawBytes bytes that were packed, in scratch when that has room. Fault: Corrupt when there are more or fewer, or packed
// is damaged; never more memory than rawBytes (I1).
func Unpack(packed []byte, rawBytes int, scratch []byte) ([]byte, error) {
	if rawBytes < 0 || rawBytes > MaxRawBytes {
		return nil, fault.New(fault.Malformed, "a chunk declares %d bytes of content; at most %d are possible", rawBytes, MaxRawBytes)
	}
	d, err := decoder()
	if err != nil {
		return nil, fault.New(fault.Internal, "zstd: %w", err)
	}
	if cap(scratch) < rawBytes {
		scratch = make([]byte, 0, rawBytes)
	}
	raw, err := d.DecodeAll(packed, scratch[:0:rawBytes])
	if err != nil || len(raw) != rawBytes {
		return nil, fault.New(fault.Corrupt, "a chunk does not unpack to its %d bytes of content: %w", rawBytes, err)
	}
	return raw, nil
}

// Seal makes the chunk of raw: its stored form, appended to out, and what the manifest says of it, but for Offset. content says what
// raw holds (Count, Newest, FirstKey).
func Seal(out, raw []byte, content Chunk) ([]byte, Chunk, error) {
	from := len(out)
	out, err := Pack(out, raw)
	content.Bytes, content.RawBytes = uint32(len(out)-from), uint32(len(raw))
	content.Hash = HashOf(out[from:])
	return out, content, err
}

// Holds reports whether stored is the chunk, byte for byte.
func (c *Chunk) Holds(stored []byte) bool {
	return len(stored) == int(c.Bytes) && HashOf(stored) == c.Hash
}

// Open checks a stored chunk and gives its content, in scratch when that has room (I1). Fault: Corrupt.
func (c *Chunk) Open(stored, scratch []byte) ([]byte, error) {
	if !c.Holds(stored) {
		return nil, fault.New(fault.Corrupt, "a chunk of a snapshot is not what its manifest names: it was damaged on its way or on disk")
	}
	return Unpack(stored, int(c.RawBytes), scratch)
}
