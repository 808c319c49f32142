package rsocket

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rsocket/rsocket-go/core"
	"github.com/rsocket/rsocket-go/core/framing"
)

// scriptConn gives its bytes in pieces of a chosen size, then end of file; what is written to it
// is kept.
type scriptConn struct {
	mu      sync.Mutex
	in      []byte
	piece   int
	out     bytes.Buffer
	closed  bool
	largest int // largest buffer offered to Read
}

func (c *scriptConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.largest = max(c.largest, len(b))
	if len(c.in) == 0 || c.closed {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.piece)], c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *scriptConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.out.Write(b)
}

func (c *scriptConn) Close() error                     { c.mu.Lock(); c.closed = true; c.mu.Unlock(); return nil }
func (c *scriptConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scriptConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzConnection gives a server any bytes after (or instead of) a good SETUP, and a client any
// bytes as its server's. Both must end without a panic, close what they opened, and what the
// server says must itself be well-formed frames.
func FuzzConnection(f *testing.F) {
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	f.Add(true, byte(7), join(rawStream(1, 3, "stream 5 20"), raw(1, core.FrameTypeRequestN, 0, word(9)), rawRequest(3, "x"), raw(1, core.FrameTypeCancel, 0)))
	f.Add(true, byte(255), join(raw(1, core.FrameTypeRequestResponse, core.FlagFollow|core.FlagMetadata, []byte{0, 0, 1, 'm'}), raw(1, core.FrameTypePayload, core.FlagNext, []byte("z"))))
	f.Add(true, byte(1), join(raw(0, core.FrameTypeKeepalive, core.FlagRespond, make([]byte, 9)), raw(0, core.FrameTypeError, 0, word(0x102)), raw(5, core.FrameTypeRequestFNF, 0, []byte("f"))))
	f.Add(false, byte(3), rawSetup(time.Second, time.Minute))
	f.Add(false, byte(90), join(raw(1, core.FrameTypePayload, core.FlagNext, []byte("answer")), raw(3, core.FrameTypePayload, core.FlagNext|core.FlagComplete, []byte("answer"))))
	f.Add(true, byte(200), join(rawStream(1, 2, "endless 9"), rawStream(3, 1, "panic-next"), rawRequest(5, "panic"), raw(7, core.FrameTypeRequestChannel, 0, word(1))))
	f.Fuzz(func(t *testing.T, setup bool, piece byte, script []byte) {
		s := newTestServer(ServerConfig{Limits: Limits{MaxFrameBytes: 16 << 10, MaxStreams: 8, MaxOutstanding: 4}})
		in := script
		if setup {
			in = append(rawSetup(time.Second, time.Minute), script...)
		}
		conn := &scriptConn{in: in, piece: int(piece) + 1}
		s.ServeConn(conn)
		s.env.tasks.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := s.open.Load(); n != 0 {
			t.Fatalf("%d sources not closed", n)
		}
		if left := s.Stats().InboundBudget; left != s.cfg.InboundBudgetBytes {
			t.Fatalf("inbound budget is %d, was %d", left, s.cfg.InboundBudgetBytes)
		}
		for out := conn.out.Bytes(); len(out) > 0; {
			if len(out) < lengthBytes || len(out) < lengthBytes+uint24(out) {
				break // the socket was closed in the middle
			}
			raw := out[lengthBytes : lengthBytes+uint24(out)]
			if _, err := parseFrame(raw); err != nil {
				t.Fatalf("the server sent % x: %v", raw, err)
			}
			out = out[lengthBytes+len(raw):]
		}

		c, err := NewClientConn(&scriptConn{in: script, piece: int(piece) + 1}, ClientConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if stream, err := c.RequestStream(ctx, Payload{}, 3); err == nil {
			for {
				if _, err := stream.Recv(ctx); err != nil {
					break
				}
			}
		}
		_, _ = c.RequestResponse(ctx, Payload{})
		c.Close()
		<-c.Done()
	})
}

// FuzzParseFrame: our parser against the library's. Where ours accepts a frame, the library's own
// accessors agree with it and do not panic; what ours writes, it reads again.
func FuzzParseFrame(f *testing.F) {
	for _, b := range [][]byte{rawSetup(time.Second, time.Minute), rawStream(1, 3, "abc"), rawRequest(3, "x"), raw(5, core.FrameTypeRequestN, 0, word(7)),
		raw(1, core.FrameTypePayload, core.FlagMetadata|core.FlagNext, []byte{0, 0, 2, 'a', 'b', 'c'}), raw(9, core.FrameTypeError, 0, word(0x201), []byte("boo")),
		raw(0, core.FrameTypeKeepalive, core.FlagRespond, make([]byte, 12))} {
		f.Add(b[lengthBytes:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, err := parseFrame(b)
		if err != nil {
			return
		}
		if setup, refusal := parseSetup(ours, time.Minute); refusal == nil && (setup.Lifetime <= 0 || setup.Version.Major != 1) {
			t.Fatalf("accepted %+v", setup)
		}
		theirs, err := framing.FromBytes(b)
		if err != nil {
			return
		}
		defer theirs.Release()
		same := func(metadata []byte, has bool, data []byte) {
			if !bytes.Equal(metadata, ours.metadata) || has != ours.hasMetadata || !bytes.Equal(data, ours.data) {
				t.Fatalf("% x: ours %q %v %q, theirs %q %v %q", b, ours.metadata, ours.hasMetadata, ours.data, metadata, has, data)
			}
		}
		switch v := theirs.(type) {
		case *framing.PayloadFrame:
			m, has := v.Metadata()
			same(m, has, v.Data())
		case *framing.RequestResponseFrame:
			m, has := v.Metadata()
			same(m, has, v.Data())
		case *framing.FireAndForgetFrame:
			m, has := v.Metadata()
			same(m, has, v.Data())
		case *framing.RequestStreamFrame:
			m, has := v.Metadata()
			same(m, has, v.Data())
			if v.InitialRequestN() != ours.word {
				t.Fatalf("initial N %d and %d", ours.word, v.InitialRequestN())
			}
		case *framing.RequestNFrame:
			if v.N() != ours.word {
				t.Fatalf("N %d and %d", ours.word, v.N())
			}
		case *framing.ErrorFrame:
			if ErrorCode(ours.word) != v.ErrorCode() {
				t.Fatalf("code %d and %d", ours.word, v.ErrorCode())
			}
		}
	})
}
