package rsocket

import (
	"encoding/binary"
	"errors"

	"github.com/rsocket/rsocket-go/core"
)

const (
	lengthBytes         = 3 // TCP and TLS put the frame's length before it
	metadataLengthBytes = 3
	wordBytes           = 4 // initial request N, request N, error code
	keepaliveFixedBytes = 8 // last received position
	maxCredit           = 1<<31 - 1
	maxStreamID         = 1<<31 - 1
)

var errMalformed = errors.New("rsocket: malformed frame")

// inFrame is a received frame, cut but not copied: every slice aliases raw.
type inFrame struct {
	raw   []byte
	body  []byte // raw without the header
	id    uint32
	typ   core.FrameType
	flags core.FrameFlag
	word  uint32 // initial request N, request N or error code, by type
	content
}

// content is the metadata and data part of a received frame.
type content struct {
	metadata    []byte
	data        []byte
	hasMetadata bool
}

func (f *inFrame) has(flag core.FrameFlag) bool { return f.flags&flag == flag }

// parseFrame cuts raw into its parts. It accepts nothing that a later slice expression could trip
// over: this is the only place that reads lengths which a peer chose, besides parseSetup.
func parseFrame(raw []byte) (inFrame, error) {
	if len(raw) < core.FrameHeaderLen {
		return inFrame{}, errMalformed
	}
	typeAndFlags := binary.BigEndian.Uint16(raw[4:])
	f := inFrame{
		raw:   raw,
		body:  raw[core.FrameHeaderLen:],
		id:    binary.BigEndian.Uint32(raw),
		typ:   core.FrameType(typeAndFlags >> 10),
		flags: core.FrameFlag(typeAndFlags & 0x3ff),
	}
	if f.id > maxStreamID {
		return inFrame{}, errMalformed
	}
	rest, ok := f.body, true
	switch f.typ {
	case core.FrameTypeRequestStream, core.FrameTypeRequestChannel:
		if f.word, rest, ok = cutWord(rest); ok {
			f.content, ok = splitPayload(f.flags, rest)
		}
	case core.FrameTypeRequestResponse, core.FrameTypeRequestFNF, core.FrameTypePayload:
		f.content, ok = splitPayload(f.flags, rest)
	case core.FrameTypeRequestN:
		f.word, _, ok = cutWord(rest)
	case core.FrameTypeError:
		f.word, f.data, ok = cutWord(rest)
	case core.FrameTypeKeepalive:
		ok = len(rest) >= keepaliveFixedBytes
	}
	if !ok {
		return inFrame{}, errMalformed
	}
	return f, nil
}

func cutWord(b []byte) (uint32, []byte, bool) {
	if len(b) < wordBytes {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(b), b[wordBytes:], true
}

func splitPayload(flags core.FrameFlag, b []byte) (content, bool) {
	if flags&core.FlagMetadata == 0 {
		return content{data: b}, true
	}
	if len(b) < metadataLengthBytes {
		return content{}, false
	}
	n := uint24(b)
	b = b[metadataLengthBytes:]
	if n > len(b) {
		return content{}, false
	}
	return content{metadata: b[:n:n], data: b[n:], hasMetadata: true}, true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func putUint24(b []byte, n int) { b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n) }

// owned makes the payload the application's: with one allocation, or none when the frame already
// has memory of its own (I10).
func (f *inFrame) owned(exclusive bool) Payload {
	p := Payload{Metadata: f.metadata, Data: f.data}
	if !exclusive {
		own := make([]byte, len(f.metadata)+len(f.data))
		n := copy(own, f.metadata)
		copy(own[n:], f.data)
		p = Payload{Metadata: own[:n:n], Data: own[n:]}
	}
	if !f.hasMetadata {
		p.Metadata = nil
	} else if p.Metadata == nil {
		p.Metadata = []byte{}
	}
	return p
}

// outFrame is a frame waiting to be written: a small head built here, and the shared payload.
type outFrame struct {
	metadata []byte
	data     []byte
	// credit: a REQUEST_N whose number is taken from the stream when it is written, so that many
	// small requests become one frame.
	credit *Inbound
	// answer: a request-response whose place becomes free when this is written.
	answer *call
	head   [lengthBytes + core.FrameHeaderLen + keepaliveFixedBytes]byte // the longest head, KEEPALIVE's
	headN  uint8
}

// size is the frame's length on the wire, length prefix included.
func (f *outFrame) size() int { return int(f.headN) + len(f.metadata) + len(f.data) }

func newFrame(id uint32, typ core.FrameType, flags core.FrameFlag) outFrame {
	var f outFrame
	core.ResetFrameHeader(f.head[lengthBytes:], id, typ, flags)
	f.headN = lengthBytes + core.FrameHeaderLen
	return f
}

func (f outFrame) withWord(v uint32) outFrame {
	binary.BigEndian.PutUint32(f.head[f.headN:], v)
	f.headN += wordBytes
	return f
}

func (f outFrame) withPayload(p Payload) outFrame {
	if p.Metadata != nil {
		f.head[lengthBytes+4] |= byte(core.FlagMetadata >> 8)
		putUint24(f.head[f.headN:], len(p.Metadata))
		f.headN += metadataLengthBytes
		f.metadata = p.Metadata
	}
	f.data = p.Data
	return f
}

// sealed writes the length prefix; call it last.
func (f outFrame) sealed() outFrame {
	putUint24(f.head[:], f.size()-lengthBytes)
	return f
}

func errorFrame(id uint32, e *Error) outFrame {
	f := newFrame(id, core.FrameTypeError, 0).withWord(uint32(e.Code))
	f.data = e.Data
	return f.sealed()
}

// payloadFits says whether p fits one frame of at most maxBytes, whatever its type.
func payloadFits(p Payload, maxBytes int) bool {
	return core.FrameHeaderLen+wordBytes+p.size() <= maxBytes
}
