package batch

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/zeebo/xxh3"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	// HeaderBytes is the length of the header this version writes.
	HeaderBytes = 88
	// MaxHeaderBytes bounds the header of a newer minor version.
	MaxHeaderBytes = 1024
	// MaxRawBytes bounds a body before compression: one largest record and a full group fit.
	MaxRawBytes = 4 << 20
	// MaxBytes bounds an encoded batch: compression is only kept when it shrinks.
	MaxBytes = MaxHeaderBytes + MaxRawBytes
	// Major is the version of the format; another one is refused.
	Major = 1
)

// Chain is the hash that ties a batch to all before it in its lane. The zero Chain stands before the first batch.
type Chain [16]byte

// String gives 32 hexadecimal digits.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// Codec says how a body is compressed.
type Codec uint8

// Codecs. Others are refused as an unsupported version.
const (
	CodecNone Codec = 0
	CodecS2   Codec = 1
	CodecZstd Codec = 2
)

// Header is what is known of a batch without touching its body.
type Header struct {
	Lane  lane.ID
	Epoch lane.Epoch
	// Base is the sequence of the first record, 0 in a draft.
	Base  lane.Sequence
	Count uint32
	Codec Codec
	// RawBytes and BodyBytes are the body's length before and after compression.
	RawBytes, BodyBytes uint32
	BodyCRC             uint32
	// FirstMS and LastMS are the lowest and highest record time.
	FirstMS, LastMS int64
	// Previous is the chain of the batch before.
	Previous Chain
	length   int
}

// Last is the sequence of the last record.
func (h *Header) Last() lane.Sequence { return h.Base + lane.Sequence(h.Count) - 1 }

// Next is the sequence after the last record.
func (h *Header) Next() lane.Sequence { return h.Base + lane.Sequence(h.Count) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the checksum of all stored bytes: CRC32C.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// ParseHeader reads the header of b and checks its lengths, version and CRC, and that the body is all there; not the body's CRC.
// Faults: Malformed, Corrupt, UnsupportedVersion.
func ParseHeader(b []byte) (Header, error) {
	h, err := parse(b)
	if err != nil {
		return Header{}, err
	}
	if headerCRC(b[:h.length]) != binary.BigEndian.Uint32(b[84:]) {
		return Header{}, fault.New(fault.Corrupt, "the header of the batch at sequence %d of lane %v fails its checksum", h.Base, h.Lane)
	}
	return h, nil
}

// ParseDraft is ParseHeader for a batch that was not stamped yet: base must be 0 and there is no header CRC.
func ParseDraft(b []byte) (Header, error) {
	h, err := parse(b)
	if err != nil {
		return Header{}, err
	}
	if h.Base != 0 {
		return Header{}, fault.New(fault.Malformed, "the batch was stamped before, with base %d", h.Base)
	}
	return h, nil
}

func parse(b []byte) (Header, error) {
	if len(b) < HeaderBytes || b[0] != 'L' || b[1] != 'B' {
		return Header{}, fault.New(fault.Malformed, "%d bytes are not a batch", len(b))
	}
	if b[2] != Major {
		return Header{}, fault.New(fault.UnsupportedVersion, "the batch has format %d, and this version reads format %d: upgrade the older side", b[2], Major)
	}
	h := Header{
		Codec:     Codec(b[3]),
		length:    int(binary.BigEndian.Uint16(b[4:])),
		Epoch:     lane.Epoch(binary.BigEndian.Uint64(b[8:])),
		Base:      lane.Sequence(binary.BigEndian.Uint64(b[16:])),
		Count:     binary.BigEndian.Uint32(b[24:]),
		RawBytes:  binary.BigEndian.Uint32(b[28:]),
		BodyBytes: binary.BigEndian.Uint32(b[32:]),
		BodyCRC:   binary.BigEndian.Uint32(b[36:]),
		FirstMS:   int64(binary.BigEndian.Uint64(b[40:])),
		LastMS:    int64(binary.BigEndian.Uint64(b[48:])),
		Previous:  Chain(b[56:72]),
		Lane: lane.ID{
			Stream:    lane.StreamID(binary.BigEndian.Uint64(b[72:])),
			Partition: lane.Partition(binary.BigEndian.Uint32(b[80:])),
		},
	}
	switch {
	case h.length < HeaderBytes || h.length > MaxHeaderBytes || h.length > len(b):
		return Header{}, fault.New(fault.Malformed, "the batch header says it is %d bytes long", h.length)
	case h.Count == 0:
		return Header{}, fault.New(fault.Malformed, "the batch is empty")
	case h.RawBytes > MaxRawBytes || h.BodyBytes > h.RawBytes || uint64(h.Count) > uint64(h.RawBytes):
		return Header{}, fault.New(fault.Malformed, "the batch header declares %d records in %d bytes, %d stored", h.Count, h.RawBytes, h.BodyBytes)
	case uint64(h.Base)+uint64(h.Count) < uint64(h.Base):
		return Header{}, fault.New(fault.Malformed, "the batch header declares sequences beyond the last possible")
	case len(b) != h.length+int(h.BodyBytes):
		return Header{}, fault.New(fault.Malformed, "the batch has %d bytes, and its header declares %d", len(b), h.length+int(h.BodyBytes))
	}
	return h, nil
}

// ChainOf gives the chain value a stamped batch hands on to the next: a hash over its header, which holds the chain before it (I2).
// b must have passed ParseHeader.
func ChainOf(b []byte) Chain {
	n := binary.BigEndian.Uint16(b[4:])
	return xxh3.Hash128(b[:n]).Bytes()
}

// Stamp is what only the sequencer knows.
type Stamp struct {
	Epoch    lane.Epoch
	Base     lane.Sequence
	Previous Chain
}

// Apply writes the stamp into b, in place, and returns the batch's chain value. b must have passed ParseDraft, and nobody else may
// read it meanwhile.
func (s Stamp) Apply(b []byte) Chain {
	binary.BigEndian.PutUint64(b[8:], uint64(s.Epoch))
	binary.BigEndian.PutUint64(b[16:], uint64(s.Base))
	copy(b[56:72], s.Previous[:])
	n := binary.BigEndian.Uint16(b[4:])
	binary.BigEndian.PutUint32(b[84:], headerCRC(b[:n]))
	return ChainOf(b)
}

// headerCRC covers the whole header but its own four bytes.
func headerCRC(header []byte) uint32 {
	crc := crc32.Update(0, castagnoli, header[:84])
	return crc32.Update(crc, castagnoli, header[88:])
}
