package rsocket

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// neighbour is a well-behaved connection that streams and asks all the while. It fails the test
// when a payload is lost or anything takes longer than 2 s.
func neighbour(t *testing.T, address string) {
	t.Helper()
	c := dialTest(t, "tcp://"+address, ClientConfig{})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var turns atomic.Int64
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			in, err := c.RequestStream(ctx, Payload{Data: []byte("stream 20 64")}, 20)
			if err != nil {
				t.Errorf("neighbour: %v", err)
				return
			}
			if n, err := receiveAll(ctx, in, 20); n != 20 || err != io.EOF {
				t.Errorf("neighbour: %d payloads, %v", n, err)
				return
			}
			if _, err := c.RequestResponse(ctx, Payload{Data: []byte("x")}); err != nil {
				t.Errorf("neighbour: %v", err)
				return
			}
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("neighbour: a turn took %v", d)
			}
			turns.Add(1)
		}
	}()
	t.Cleanup(func() {
		before := turns.Load()
		waitFor(t, func() bool { return turns.Load() > before+1 || t.Failed() })
		close(stop)
		wg.Wait()
		cancel()
	})
}

// heapGrowth says how much more live heap there is than at its first call.
func heapMeter() func() int64 {
	read := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	base := read()
	return func() int64 { return read() - base }
}

// Frames that no peer should send. Each is answered as the protocol says and hurts only its sender.
func TestHostileFrames(t *testing.T) {
	pastEnd := []byte{0xff, 0xff, 0xff, 'x'} // a metadata length that runs past the frame
	setup := rawSetup(20*time.Second, 90*time.Second)
	setupBody := setup[lengthBytes+core.FrameHeaderLen:]
	closes := func(code ErrorCode) func(*testing.T, *rawPeer) {
		return func(t *testing.T, p *rawPeer) { p.expectError(t, 0, code); p.expectEnd(t) }
	}
	stays := func(t *testing.T, p *rawPeer) { p.alive(t, 101) }
	rejects := func(id uint32, code ErrorCode) func(*testing.T, *rawPeer) {
		return func(t *testing.T, p *rawPeer) { p.expectError(t, id, code); p.alive(t, 101) }
	}
	all := func(frames ...[]byte) (b []byte) {
		for _, f := range frames {
			b = append(b, f...)
		}
		return b
	}
	s := newTestServer(ServerConfig{})
	address := s.listen(t)
	neighbour(t, address)
	for _, tc := range []struct {
		name  string
		first bool // instead of SETUP
		send  []byte
		want  func(*testing.T, *rawPeer)
	}{
		{"request-stream metadata past the frame", false, raw(1, core.FrameTypeRequestStream, core.FlagMetadata, word(10), pastEnd), closes(CodeConnectionError)},
		{"request-response metadata past the frame", false, raw(1, core.FrameTypeRequestResponse, core.FlagMetadata, pastEnd), closes(CodeConnectionError)},
		{"request-response metadata length cut short", false, raw(1, core.FrameTypeRequestResponse, core.FlagMetadata, []byte{0}), closes(CodeConnectionError)},
		{"fire-and-forget metadata past the frame", false, raw(1, core.FrameTypeRequestFNF, core.FlagMetadata, pastEnd), closes(CodeConnectionError)},
		{"payload metadata past the frame", false, raw(1, core.FrameTypePayload, core.FlagMetadata|core.FlagNext, pastEnd), closes(CodeConnectionError)},
		{"channel metadata past the frame", false, raw(1, core.FrameTypeRequestChannel, core.FlagMetadata, word(1), pastEnd), closes(CodeConnectionError)},
		{"bad metadata in a later fragment", false, all(raw(1, core.FrameTypeRequestStream, core.FlagFollow|core.FlagMetadata, word(10), []byte{0, 0, 1, 'm'}),
			raw(1, core.FrameTypePayload, core.FlagMetadata|core.FlagNext, pastEnd)), closes(CodeConnectionError)},
		{"metadata push, empty", false, raw(0, core.FrameTypeMetadataPush, core.FlagMetadata), stays},
		{"cancel of unknown streams", false, all(raw(77, core.FrameTypeCancel, 0), raw(2, core.FrameTypeCancel, 0)), stays},
		{"error on a responder stream", false, all(rawStream(1, 10, "idle"), raw(1, core.FrameTypeError, 0, word(0x201), []byte("boo"))), stays},
		{"error on an unknown stream", false, raw(9, core.FrameTypeError, 0, word(0x201), []byte("boo")), stays},
		{"payload on a responder stream", false, all(rawStream(1, 10, "idle"), raw(1, core.FrameTypePayload, core.FlagNext|core.FlagComplete, []byte("x"))), stays},
		{"request N of 0", false, all(rawStream(1, 1, "idle"), raw(1, core.FrameTypeRequestN, 0, word(0))), rejects(1, CodeInvalid)},
		{"request N above 2^31-1", false, all(rawStream(1, 1, "idle"), raw(1, core.FrameTypeRequestN, 0, word(0x80000001))), rejects(1, CodeInvalid)},
		{"credit overflow", false, all(rawStream(1, maxCredit, "stream 9 8"), raw(1, core.FrameTypeRequestN, 0, word(maxCredit)), raw(1, core.FrameTypeRequestN, 0, word(maxCredit))), stays},
		{"initial request N of 0", false, rawStream(1, 0, "stream 1 8"), rejects(1, CodeInvalid)},
		{"initial request N above 2^31-1", false, rawStream(1, 0x80000001, "stream 1 8"), rejects(1, CodeInvalid)},
		{"stream id used twice", false, all(rawStream(1, 1, "endless 64"), rawStream(1, 1, "endless 64")), closes(CodeConnectionError)},
		{"stream id 0 for a request", false, rawStream(0, 1, "idle"), closes(CodeConnectionError)},
		{"stream id of our side for a request", false, rawStream(2, 1, "idle"), closes(CodeConnectionError)},
		{"stream id with the high bit", false, rawStream(0x80000001, 1, "idle"), closes(CodeConnectionError)},
		{"second SETUP", false, setup, closes(CodeInvalidSetup)},
		{"request-channel", false, raw(1, core.FrameTypeRequestChannel, 0, word(5), []byte("x")), rejects(1, CodeRejected)},
		{"request-channel in fragments", false, all(raw(1, core.FrameTypeRequestChannel, core.FlagFollow, word(5), []byte("x")), raw(1, core.FrameTypePayload, core.FlagNext, []byte("y"))), rejects(1, CodeRejected)},
		{"LEASE", false, raw(0, core.FrameTypeLease, 0, make([]byte, 8)), stays},
		{"RESUME on a running connection", false, raw(0, core.FrameTypeResume, 0, make([]byte, 22)), closes(CodeRejectedResume)},
		{"RESUME_OK", false, raw(0, core.FrameTypeResumeOK, 0, make([]byte, 8)), closes(CodeConnectionError)},
		{"EXT without the ignore flag", false, raw(0, core.FrameTypeExt, 0, make([]byte, 8)), closes(CodeConnectionError)},
		{"EXT with the ignore flag", false, raw(0, core.FrameTypeExt, core.FlagIgnore, make([]byte, 8)), stays},
		{"unknown type on a stream with the ignore flag", false, raw(5, 0x2a, core.FlagIgnore), stays},
		{"unknown type", false, raw(0, 0x2a, 0), closes(CodeConnectionError)},
		{"type 0", false, raw(0, 0, 0), closes(CodeConnectionError)},
		{"short KEEPALIVE", false, raw(0, core.FrameTypeKeepalive, core.FlagRespond), closes(CodeConnectionError)},
		{"KEEPALIVE on a stream", false, raw(1, core.FrameTypeKeepalive, core.FlagRespond, make([]byte, 8)), closes(CodeConnectionError)},
		{"short REQUEST_N", false, raw(1, core.FrameTypeRequestN, 0), closes(CodeConnectionError)},
		{"short ERROR", false, raw(1, core.FrameTypeError, 0), closes(CodeConnectionError)},
		{"short REQUEST_STREAM", false, raw(1, core.FrameTypeRequestStream, 0, []byte{1}), closes(CodeConnectionError)},
		{"PAYLOAD on stream 0", false, raw(0, core.FrameTypePayload, core.FlagNext), closes(CodeConnectionError)},
		{"ERROR on stream 0", false, raw(0, core.FrameTypeError, 0, word(0x101), []byte("bye")), func(t *testing.T, p *rawPeer) { p.expectEnd(t) }},
		{"frame above the limit", false, []byte{0x10, 0, 1, 0, 0, 0, 1, 4 << 2, 0}, closes(CodeConnectionError)},
		{"frame of the largest length", false, []byte{0xff, 0xff, 0xff, 0, 0, 0, 1, 4 << 2, 0}, closes(CodeConnectionError)},
		{"frame length 0", false, []byte{0, 0, 0}, closes(CodeConnectionError)},
		{"frame length 3", false, []byte{0, 0, 3, 1, 2, 3}, closes(CodeConnectionError)},
		{"SETUP cut short", true, raw(0, core.FrameTypeSetup, 0, setupBody[:9]), closes(CodeInvalidSetup)},
		{"SETUP with bad MIME lengths", true, raw(0, core.FrameTypeSetup, 0, setupBody[:12], []byte{255, 255}), closes(CodeInvalidSetup)},
		{"SETUP with metadata past the frame", true, raw(0, core.FrameTypeSetup, core.FlagMetadata, setupBody, pastEnd[:3]), closes(CodeInvalidSetup)},
		{"SETUP with a resume token past the frame", true, raw(0, core.FrameTypeSetup, core.FlagResume, setupBody[:12], []byte{0xff, 0xff, 1, 1}), closes(CodeRejectedSetup)},
		{"SETUP with lease", true, raw(0, core.FrameTypeSetup, core.FlagLease, setupBody), closes(CodeUnsupportedSetup)},
		{"SETUP of another major version", true, raw(0, core.FrameTypeSetup, 0, []byte{0, 2}, setupBody[2:]), closes(CodeUnsupportedSetup)},
		{"SETUP without keepalive", true, rawSetup(0, time.Second), closes(CodeInvalidSetup)},
		{"SETUP on a stream", true, raw(1, core.FrameTypeSetup, 0, setupBody), closes(CodeInvalidSetup)},
		{"SETUP above its limit", true, raw(0, core.FrameTypeSetup, 0, setupBody, make([]byte, 70<<10)), closes(CodeConnectionError)},
		{"RESUME first", true, raw(0, core.FrameTypeResume, 0, make([]byte, 6)), closes(CodeRejectedResume)},
		{"RESUME first, token past the frame", true, raw(0, core.FrameTypeResume, 0, []byte{0, 1, 0, 0, 0xff, 0xff, 1, 2}), closes(CodeRejectedResume)},
		{"KEEPALIVE first", true, raw(0, core.FrameTypeKeepalive, core.FlagRespond, make([]byte, 8)), closes(CodeInvalidSetup)},
		{"a web browser", true, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), func(t *testing.T, p *rawPeer) { p.expectEnd(t) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p *rawPeer
			if tc.first {
				p = dialRaw(t, address)
			} else {
				p = connectRaw(t, address)
			}
			p.send(t, tc.send)
			tc.want(t, p)
			p.Close()
		})
	}
	waitFor(t, func() bool { return s.open.Load() <= 1 }) // the neighbour's at most
}

func TestDuplicateStreamThenDisconnect(t *testing.T) {
	s := newTestServer(ServerConfig{})
	address := s.listen(t)
	neighbour(t, address)
	for range 50 {
		p := connectRaw(t, address)
		p.send(t, rawStream(1, 1000, "endless 1000"), rawStream(1, 1000, "endless 1000"))
		p.Conn.(*net.TCPConn).SetLinger(0)
		p.Close()
	}
	waitFor(t, func() bool { return s.Stats().Connections == 1 && s.open.Load() <= 1 })
}

// Fragments without end: refused at the bound, and nothing of them is kept.
func TestEndlessFragments(t *testing.T) {
	s := newTestServer(ServerConfig{})
	address := s.listen(t)
	neighbour(t, address)
	grown := heapMeter()
	p := connectRaw(t, address)
	piece := make([]byte, 100<<10)
	p.send(t, raw(1, core.FrameTypeRequestResponse, core.FlagFollow, piece))
	for range 300 { // 30 MB
		p.send(t, raw(1, core.FrameTypePayload, core.FlagFollow|core.FlagNext, piece))
	}
	p.expectError(t, 1, CodeRejected)
	p.alive(t, 3)
	// Many unfinished requests share the same bound.
	for id := uint32(5); id < 5+2*1000; id += 2 {
		p.send(t, raw(id, core.FrameTypeRequestResponse, core.FlagFollow, piece[:10<<10]))
	}
	p.alive(t, 9001)
	if g := grown(); g > 8<<20 {
		t.Errorf("heap grew by %d bytes", g)
	}
	p.Close()
	waitFor(t, func() bool { return s.Stats().InboundBudget == s.cfg.InboundBudgetBytes })
}

// A request in fragments that stays inside the bound is one request.
func TestFragmentedRequest(t *testing.T) {
	s := newTestServer(ServerConfig{})
	p := connectRaw(t, s.listen(t))
	p.send(t, raw(1, core.FrameTypeRequestResponse, core.FlagFollow|core.FlagMetadata, []byte{0, 0, 2, 'm', '1'}),
		raw(1, core.FrameTypePayload, core.FlagFollow|core.FlagMetadata|core.FlagNext, []byte{0, 0, 2, 'm', '2'}, []byte("da")),
		rawRequest(3, "between"))
	p.expect(t, core.FrameTypePayload, 3)
	p.send(t, raw(1, core.FrameTypePayload, core.FlagNext, []byte("ta")))
	if f := p.expect(t, core.FrameTypePayload, 1); string(f.body) != "\x00\x00\x04m1m2data" {
		t.Errorf("answer %q", f.body)
	}
	p.send(t, raw(5, core.FrameTypeRequestStream, core.FlagFollow, word(1), []byte("stream ")), raw(5, core.FrameTypeRequestN, 0, word(2)),
		raw(5, core.FrameTypePayload, core.FlagNext, []byte("3 8")))
	for range 3 {
		p.expect(t, core.FrameTypePayload, 5)
	}
	p.send(t, raw(7, core.FrameTypeRequestResponse, core.FlagFollow, []byte("gone")), raw(7, core.FrameTypeCancel, 0), raw(7, core.FrameTypePayload, core.FlagNext, []byte("x")))
	p.alive(t, 9)
}

// Requests without reading an answer: the reader stops reading, memory stays where it is, and the
// write deadline ends it.
func TestRequestFlood(t *testing.T) {
	s := newTestServer(ServerConfig{Limits: Limits{WriteTimeout: time.Second}})
	address := s.listen(t)
	neighbour(t, address)
	grown := heapMeter()
	p := connectRaw(t, address)
	var burst []byte
	for range 64 {
		burst = append(burst, rawRequest(1, string(make([]byte, 1024)))...)
	}
	var sent atomic.Int64
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		id := uint32(1)
		for {
			for at := 0; at < len(burst); at += lengthBytes + core.FrameHeaderLen + 1024 {
				core.ResetFrameHeader(burst[at+lengthBytes:], id, core.FrameTypeRequestResponse, 0)
				id += 2
			}
			n, err := p.Write(burst)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Error("the flood was not stopped")
	}
	if g := grown(); g > 16<<20 {
		t.Errorf("heap grew by %d bytes after %d bytes of requests", g, sent.Load())
	}
	waitFor(t, func() bool { return s.Stats().Connections == 1 })
	if s.Stats().Timeouts == 0 {
		t.Error("the flood ended for another reason than the write deadline")
	}
}

// What is queued while a stream is asked for a payload and has none is sent all the same.
func TestQueuedWhileAStreamIsAsked(t *testing.T) {
	s := newTestServer(ServerConfig{})
	p := connectRaw(t, s.listen(t))
	p.send(t, rawStream(1, 1, "tell"))
	if f := p.expect(t, core.FrameTypeRequestFNF, 2); string(f.body) != "meanwhile" {
		t.Errorf("got %q", f.body)
	}
	p.alive(t, 3)
}

// Every cap of a connection is answered, and frees its place again.
func TestCaps(t *testing.T) {
	s := newTestServer(ServerConfig{Limits: Limits{MaxStreams: 4, MaxOutstanding: 3}, MaxConnections: 2})
	address := s.listen(t)
	p := connectRaw(t, address)
	for i := uint32(0); i < 5; i++ {
		p.send(t, rawStream(1+2*i, 1, "idle"))
	}
	p.expectError(t, 9, CodeRejected)
	p.send(t, raw(1, core.FrameTypeCancel, 0), rawStream(11, 1, "stream 1 8"))
	p.expect(t, core.FrameTypePayload, 11)
	for i := uint32(0); i < 4; i++ {
		p.send(t, rawRequest(21+2*i, "hold"))
	}
	p.expectError(t, 27, CodeRejected)
	close(s.hold)
	waitFor(t, func() bool { return s.outstandingCalls() == 0 })
	p.alive(t, 31)

	second := connectRaw(t, address)
	second.alive(t, 1)
	third := dialRaw(t, address)
	third.expectError(t, 0, CodeRejectedSetup)
	third.expectEnd(t)
	second.Close()
	waitFor(t, func() bool { return s.Stats().Connections == 1 })
	connectRaw(t, address).alive(t, 1)
}

// A peer that asks for everything and reads nothing costs one round, and goes at the deadline.
func TestStalledReader(t *testing.T) {
	s := newTestServer(ServerConfig{Limits: Limits{WriteTimeout: 2 * time.Second}})
	address := s.listen(t)
	neighbour(t, address)
	grown := heapMeter()
	const stalled = 20
	var peers []*rawPeer
	for range stalled {
		p := connectRaw(t, address)
		p.send(t, rawStream(1, maxCredit, "endless 65536"))
		peers = append(peers, p)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { // they are not silent: only the write deadline can end them
		defer wg.Done()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				for _, p := range peers {
					_, _ = p.Write(raw(0, core.FrameTypeKeepalive, core.FlagRespond, make([]byte, 8)))
				}
			}
		}
	}()
	waitFor(t, func() bool { return s.open.Load() >= stalled })
	if g := grown(); g > stalled*(1<<20) {
		t.Errorf("%d stalled readers cost %d bytes of heap", stalled, g)
	}
	waitFor(t, func() bool { return s.Stats().Connections == 1 })
	close(stop)
	wg.Wait()
	if n := s.Stats().Timeouts; n != stalled {
		t.Errorf("%d connections ended by a deadline, want %d", n, stalled)
	}
}

// A large frame does not leave a large buffer behind, and announcing one costs nothing.
func TestLargeFramesLeaveNothing(t *testing.T) {
	s := newTestServer(ServerConfig{})
	address := s.listen(t)
	grown := heapMeter()
	var peers []*rawPeer
	for range 50 {
		p := connectRaw(t, address)
		p.send(t, raw(1, core.FrameTypeRequestFNF, 0, make([]byte, 1000<<10)))
		p.alive(t, 3)
		p.send(t, []byte{0x0f, 0xff, 0xff, 0, 0, 0, 5, 5 << 2, 0}) // announces 1 MiB, sends 6 bytes
		peers = append(peers, p)
	}
	for len(s.fnf) > 0 {
		<-s.fnf
	}
	waitFor(t, func() bool { return s.Stats().InboundBudget == s.cfg.InboundBudgetBytes-50*0x0fffff })
	if g := grown(); g > 6<<20 {
		t.Errorf("50 idle connections hold %d bytes", g)
	}
	runtime.KeepAlive(peers)
}

func TestInboundBudget(t *testing.T) {
	s := newTestServer(ServerConfig{InboundBudgetBytes: 1 << 20})
	address := s.listen(t)
	for i := range 3 {
		p := connectRaw(t, address)
		p.send(t, []byte{0x07, 0xff, 0xff, 0, 0, 0, 1, 5 << 2, 0}, make([]byte, 100)) // announces 512 KiB
		if i == 2 {
			p.expectError(t, 0, CodeConnectionError)
			p.expectEnd(t)
		} else {
			waitFor(t, func() bool { return s.Stats().InboundBudget == 1<<20-int64(i+1)*0x07ffff })
		}
	}
}

// Accept fails for a while, then works again.
type failingListener struct {
	net.Listener
	left atomic.Int64
	err  error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: l.err}
	}
	return l.Listener.Accept()
}

func TestAcceptRetry(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, err: fmt.Errorf("accept4: %w", syscall.EMFILE)}
	l.left.Store(4)
	s := newTestServer(ServerConfig{})
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- s.Serve(ctx, l) }()
	p := connectRaw(t, inner.Addr().String())
	p.alive(t, 1)
	if n := s.Stats().AcceptFailures; n != 4 {
		t.Errorf("%d failures counted", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve after its context ended: %v", err)
	}
	p.alive(t, 3) // connections outlive Serve
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	p.expectEnd(t)

	broken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken.Close()
	if err := newTestServer(ServerConfig{}).Serve(context.Background(), broken); err == nil {
		t.Error("a closed listener was served")
	}
}
