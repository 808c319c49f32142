package rsocket

import (
	"bytes"
	"time"

	"github.com/rsocket/rsocket-go/core"
	"github.com/rsocket/rsocket-go/core/framing"
)

// Version is the protocol version of a SETUP.
type Version struct{ Major, Minor uint16 }

// ProtocolVersion is what this engine speaks. Another major is refused, another minor tolerated.
var ProtocolVersion = Version{Major: 1, Minor: 0}

// Setup is a peer's first frame, as the Acceptor sees it. Resume tokens and leases were refused
// before.
type Setup struct {
	Version           Version
	KeepaliveInterval time.Duration // how often the peer promises a KEEPALIVE
	Lifetime          time.Duration // how long the peer may be silent; bounded by MaxLifetime
	MetadataMIME      string
	DataMIME          string
	Payload           Payload
}

// setupFixedBytes: version, keepalive interval, lifetime.
const setupFixedBytes = 12

// parseSetup reads a SETUP frame. Lengths are checked here first, because the library's codec
// indexes by the peer's lengths. The refusal, if any, is what the peer is to be told.
func parseSetup(f inFrame, maxLifetime time.Duration) (Setup, *Error) {
	if f.typ != core.FrameTypeSetup {
		if f.typ == core.FrameTypeResume {
			return Setup{}, Errorf(CodeRejectedResume, "resuming a connection is not supported: send SETUP")
		}
		return Setup{}, Errorf(CodeInvalidSetup, "the first frame must be SETUP, this is %s", f.typ)
	}
	if f.id != 0 {
		return Setup{}, Errorf(CodeInvalidSetup, "SETUP belongs on stream 0, this one is on %d", f.id)
	}
	body := f.body
	if len(body) < setupFixedBytes+2 {
		return Setup{}, Errorf(CodeInvalidSetup, "SETUP of %d bytes is cut short", len(body))
	}
	if major := uint16(body[0])<<8 | uint16(body[1]); major != ProtocolVersion.Major {
		return Setup{}, Errorf(CodeUnsupportedSetup, "RSocket version %d is not supported, this side speaks %d", major, ProtocolVersion.Major)
	}
	if f.has(core.FlagResume) {
		return Setup{}, Errorf(CodeRejectedSetup, "resume is not supported: connect without a resume token")
	}
	if f.has(core.FlagLease) {
		return Setup{}, Errorf(CodeUnsupportedSetup, "lease is not supported: connect without it")
	}
	at := setupFixedBytes
	for range 2 { // the two MIME types, each behind its length
		if at >= len(body) || at+1+int(body[at]) > len(body) {
			return Setup{}, Errorf(CodeInvalidSetup, "SETUP is cut short in its MIME types")
		}
		at += 1 + int(body[at])
	}
	if _, ok := splitPayload(f.flags, body[at:]); !ok {
		return Setup{}, Errorf(CodeInvalidSetup, "SETUP metadata runs past the frame")
	}
	decoded, err := framing.FromBytes(f.raw)
	if err != nil {
		return Setup{}, Errorf(CodeInvalidSetup, "SETUP: %v", err)
	}
	defer decoded.Release()
	s, ok := decoded.(*framing.SetupFrame)
	if !ok {
		return Setup{}, Errorf(CodeInvalidSetup, "SETUP cannot be read")
	}
	setup := Setup{
		Version:           Version{Major: s.Version().Major(), Minor: s.Version().Minor()},
		KeepaliveInterval: s.TimeBetweenKeepalive(),
		Lifetime:          s.MaxLifetime(),
		MetadataMIME:      s.MetadataMimeType(),
		DataMIME:          s.DataMimeType(),
		Payload:           Payload{Data: bytes.Clone(s.Data())},
	}
	if metadata, ok := s.Metadata(); ok {
		setup.Payload.Metadata = append([]byte{}, metadata...)
	}
	if setup.KeepaliveInterval <= 0 || setup.Lifetime <= 0 {
		return Setup{}, Errorf(CodeInvalidSetup, "keepalive interval %v and lifetime %v must be above zero", setup.KeepaliveInterval, setup.Lifetime)
	}
	if setup.KeepaliveInterval > maxLifetime {
		return Setup{}, Errorf(CodeInvalidSetup, "keepalive interval %v is above the longest lifetime allowed here, %v", setup.KeepaliveInterval, maxLifetime)
	}
	setup.Lifetime = min(setup.Lifetime, maxLifetime)
	return setup, nil
}

// appendSetup encodes a SETUP frame without the length that TCP puts before it.
func appendSetup(dst []byte, s Setup) ([]byte, error) {
	f := framing.NewWriteableSetupFrame(core.NewVersion(s.Version.Major, s.Version.Minor), s.KeepaliveInterval, s.Lifetime,
		nil, []byte(s.MetadataMIME), []byte(s.DataMIME), s.Payload.Data, s.Payload.Metadata, false)
	w := bytes.NewBuffer(dst)
	_, err := f.WriteTo(w)
	return w.Bytes(), err
}
