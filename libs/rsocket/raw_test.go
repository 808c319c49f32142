package rsocket

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// rawPeer writes and reads frames by hand, well-formed or not.
type rawPeer struct {
	net.Conn
	r *bufio.Reader
}

type rawFrame struct {
	id    uint32
	typ   core.FrameType
	flags core.FrameFlag
	body  []byte
}

func dialRaw(t testing.TB, address string) *rawPeer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newRawPeer(conn)
}

func newRawPeer(conn net.Conn) *rawPeer { return &rawPeer{conn, bufio.NewReader(conn)} }

// connectRaw also sends a good SETUP.
func connectRaw(t testing.TB, address string) *rawPeer {
	p := dialRaw(t, address)
	p.send(t, rawSetup(20*time.Second, 90*time.Second))
	return p
}

func (p *rawPeer) send(t testing.TB, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := p.Write(f); err != nil {
			t.Logf("write: %v", err) // the server may have hung up already, and the test looks for that
		}
	}
}

func (p *rawPeer) read() (rawFrame, error) {
	var h [lengthBytes + core.FrameHeaderLen]byte
	if _, err := io.ReadFull(p.r, h[:]); err != nil {
		return rawFrame{}, err
	}
	body := make([]byte, uint24(h[:])-core.FrameHeaderLen)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return rawFrame{}, err
	}
	header := core.ParseFrameHeader(h[lengthBytes:])
	return rawFrame{header.StreamID(), header.Type(), header.Flag(), body}, nil
}

// expect reads until a frame of the type and id comes.
func (p *rawPeer) expect(t testing.TB, typ core.FrameType, id uint32) rawFrame {
	t.Helper()
	p.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		f, err := p.read()
		if err != nil {
			t.Fatalf("waiting for %s on stream %d: %v", typ, id, err)
		}
		if f.typ == typ && f.id == id {
			return f
		}
	}
}

func (p *rawPeer) expectError(t testing.TB, id uint32, code ErrorCode) {
	t.Helper()
	if f := p.expect(t, core.FrameTypeError, id); ErrorCode(binary.BigEndian.Uint32(f.body)) != code {
		t.Errorf("ERROR on stream %d is %v %q, want %v", id, ErrorCode(binary.BigEndian.Uint32(f.body)), f.body[4:], code)
	}
}

// expectEnd reads until the server has hung up.
func (p *rawPeer) expectEnd(t testing.TB) {
	t.Helper()
	p.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		if _, err := p.read(); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the server did not hang up")
			}
			return
		}
	}
}

// alive: the connection still answers.
func (p *rawPeer) alive(t testing.TB, id uint32) {
	t.Helper()
	p.send(t, rawRequest(id, "ping"))
	p.expect(t, core.FrameTypePayload, id)
}

func raw(id uint32, typ core.FrameType, flags core.FrameFlag, body ...[]byte) []byte {
	b := make([]byte, lengthBytes+core.FrameHeaderLen)
	core.ResetFrameHeader(b[lengthBytes:], id, typ, flags)
	for _, part := range body {
		b = append(b, part...)
	}
	putUint24(b, len(b)-lengthBytes)
	return b
}

func word(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func rawSetup(interval, lifetime time.Duration) []byte {
	b, err := appendSetup(make([]byte, lengthBytes), Setup{Version: ProtocolVersion, KeepaliveInterval: interval, Lifetime: lifetime,
		MetadataMIME: "application/binary", DataMIME: "application/binary"})
	if err != nil {
		panic(err)
	}
	putUint24(b, len(b)-lengthBytes)
	return b
}

func rawRequest(id uint32, data string) []byte {
	return raw(id, core.FrameTypeRequestResponse, 0, []byte(data))
}

func rawStream(id, n uint32, data string) []byte {
	return raw(id, core.FrameTypeRequestStream, 0, word(n), []byte(data))
}
