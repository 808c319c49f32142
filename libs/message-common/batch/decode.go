package batch

import (
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Body checks the body of b against h (from ParseHeader or ParseDraft of the same bytes) and returns it decompressed. scratch is
// reused when it is large enough; the result may alias b or scratch. Faults: Corrupt, Malformed, UnsupportedVersion.
func Body(h *Header, b, scratch []byte) ([]byte, error) {
	stored := b[h.length:]
	if CRC(stored) != h.BodyCRC {
		return nil, fault.New(fault.Corrupt, "the batch [%d, %d) of lane %v fails its checksum", h.Base, h.Next(), h.Lane)
	}
	switch h.Codec {
	case CodecNone:
		if h.BodyBytes != h.RawBytes {
			return nil, fault.New(fault.Malformed, "the batch declares %d bytes before compression but is not compressed", h.RawBytes)
		}
		return stored, nil
	case CodecS2:
		// I3: the length the stream itself declares is checked before anything is allocated.
		if n, err := s2.DecodedLen(stored); err != nil || n != int(h.RawBytes) {
			return nil, fault.New(fault.Malformed, "the batch at sequence %d does not decompress to the %d bytes its header declares", h.Base, h.RawBytes)
		}
		raw, err := s2.Decode(sized(scratch, int(h.RawBytes)), stored)
		if err != nil {
			return nil, fault.New(fault.Malformed, "the batch at sequence %d does not decompress: %w", h.Base, err)
		}
		return raw, nil
	case CodecZstd:
		d, err := zstdReader()
		if err != nil {
			return nil, fault.New(fault.Internal, "zstd: %w", err)
		}
		// I3: WithDecodeAllCapLimit stops at the capacity given.
		raw, err := d.DecodeAll(stored, sized(scratch, int(h.RawBytes))[:0])
		if err != nil || len(raw) != int(h.RawBytes) {
			return nil, fault.New(fault.Malformed, "the batch at sequence %d does not decompress to the %d bytes its header declares", h.Base, h.RawBytes)
		}
		return raw, nil
	default:
		return nil, fault.New(fault.UnsupportedVersion, "the batch uses codec %d, which this version does not know: upgrade the reader", h.Codec)
	}
}

// sized returns scratch cut to exactly n bytes of capacity, or fresh memory of that size.
func sized(scratch []byte, n int) []byte {
	if cap(scratch) >= n {
		return scratch[:n:n]
	}
	return make([]byte, n)
}

// zstdReader is shared: a Decoder's DecodeAll is safe for concurrent use.
var zstdReader = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxRawBytes), zstd.WithDecodeAllCapLimit(true))
})

// Records parses and checks b whole and returns its header and a Reader of its records. scratch as in Body. The caller must read to
// the end and look at the Reader's Err; Walk does both.
func Records(b, scratch []byte) (Header, record.Reader, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, record.Reader{}, err
	}
	body, err := Body(&h, b, scratch)
	if err != nil {
		return Header{}, record.Reader{}, err
	}
	return h, record.NewReader(body, h.Base), nil
}

// Walk calls visit for every record of b, checking everything there is to check, and stops at the first error of visit.
// The record and its slices are only valid during the call.
func Walk(b, scratch []byte, visit func(*record.Record) error) error {
	h, r, err := Records(b, scratch)
	if err != nil {
		return err
	}
	var rec record.Record
	var seen uint32
	for r.Next(&rec) {
		seen++
		if err := visit(&rec); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	if seen != h.Count {
		return fault.New(fault.Malformed, "the batch at sequence %d declares %d records and holds %d", h.Base, h.Count, seen)
	}
	return nil
}
