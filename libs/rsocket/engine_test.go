package rsocket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echoServer answers by the first word of a request's data: it is what the tests of this package
// talk to.
//
//	stream N SIZE   N numbered payloads of SIZE bytes
//	endless SIZE    payloads without end
//	idle            a stream that never has anything
//	panic           panics
type echoResponder struct {
	conn   *Conn
	fnf    chan Payload
	closed chan error
	open   *atomic.Int64 // sources not yet closed
	hold   chan struct{} // "hold" requests wait for it
}

type testServer struct {
	*Server
	fnf    chan Payload
	closed chan error
	open   atomic.Int64
	hold   chan struct{}
	setups chan Setup
}

func newTestServer(cfg ServerConfig) *testServer {
	s := &testServer{fnf: make(chan Payload, 1024), closed: make(chan error, 1<<14), hold: make(chan struct{}), setups: make(chan Setup, 1<<14)}
	s.Server = NewServer(cfg, func(ctx context.Context, setup Setup, conn *Conn) (Responder, error) {
		switch string(setup.Payload.Data) {
		case "reject":
			return nil, errors.New("go away")
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		case "panic":
			panic("setup")
		}
		s.setups <- setup
		return &echoResponder{conn: conn, fnf: s.fnf, closed: s.closed, open: &s.open, hold: s.hold}, nil
	})
	return s
}

func (r *echoResponder) RequestResponse(ctx context.Context, req Payload) (Payload, error) {
	word, arg, _ := strings.Cut(string(req.Data), " ")
	switch word {
	case "panic":
		panic("request")
	case "hold":
		select {
		case <-r.hold:
		case <-ctx.Done():
			return Payload{}, ctx.Err()
		}
	case "error":
		return Payload{}, errors.New(arg)
	case "coded":
		return Payload{}, &Error{Code: CodeInvalid, Data: []byte{0, 1, 2}}
	case "fatal":
		return Payload{}, &Error{Code: CodeConnectionError, Data: []byte("not yours to send")}
	case "big":
		n, _ := strconv.Atoi(arg)
		return Payload{Data: make([]byte, n)}, nil
	}
	return req, nil
}

func (r *echoResponder) FireAndForget(req Payload) {
	if string(req.Data) == "panic" {
		panic("fnf")
	}
	select {
	case r.fnf <- req:
	default:
	}
}

func (r *echoResponder) RequestStream(req Payload, out *Outbound) (Source, error) {
	words := strings.Fields(string(req.Data))
	if len(words) == 0 {
		return nil, errors.New("empty request")
	}
	num := func(i int) int {
		if i < len(words) {
			n, _ := strconv.Atoi(words[i])
			return n
		}
		return 0
	}
	src := &numberSource{out: out, open: r.open, metadata: req.Metadata}
	switch words[0] {
	case "stream":
		src.left, src.data = num(1), make([]byte, max(8, num(2)))
	case "endless":
		src.left, src.data = 1<<60, make([]byte, max(8, num(1)))
	case "idle":
		src.idle = true
	case "tell":
		src.idle, src.tells = true, true
	case "panic":
		panic("stream")
	case "panic-next":
		src.panics = true
	case "fail":
		src.fail = true
	case "too-large":
		src.left, src.data = 1, make([]byte, FrameMaxBytes)
	default:
		return nil, Errorf(CodeRejected, "no stream %q", words[0])
	}
	r.open.Add(1)
	return src, nil
}

func (r *echoResponder) Closed(err error) { r.closed <- err }

type numberSource struct {
	out                *Outbound
	open               *atomic.Int64
	metadata           []byte
	data               []byte
	left, sent         int
	asked              atomic.Int64
	idle, panics, fail bool
	tells              bool // queues a frame of another kind while it is asked
	closed             atomic.Bool
	running            atomic.Bool
}

func (s *numberSource) Next() (Payload, Signal) {
	if s.running.Swap(true) || s.closed.Load() {
		panic("Next called concurrently or after Closed")
	}
	defer s.running.Store(false)
	switch {
	case s.panics:
		panic("next")
	case s.fail:
		s.out.Fail(&Error{Code: CodeApplication, Data: []byte("no more")})
		return Payload{}, Fail
	case s.tells:
		s.tells = false
		if err := s.out.Conn().FireAndForget(context.Background(), Payload{Data: []byte("meanwhile")}); err != nil {
			panic(err)
		}
		return Payload{}, Wait
	case s.idle:
		return Payload{}, Wait
	case s.left == 0:
		return Payload{}, Complete
	}
	if int64(s.sent) >= s.asked.Load() {
		panic("Next called without credit")
	}
	data := s.data
	if len(data) <= 4096 {
		data = append([]byte(nil), data...)
		binary.BigEndian.PutUint64(data, uint64(s.sent))
	}
	s.sent++
	s.left--
	if s.left == 0 && s.sent%2 == 0 { // both ways of ending are tried
		return Payload{Metadata: s.metadata, Data: data}, EmitAndComplete
	}
	if s.left == 0 {
		s.out.Complete()
	}
	return Payload{Metadata: s.metadata, Data: data}, Emit
}

func (s *numberSource) Requested(n uint32) { s.asked.Add(int64(n)) }

func (s *numberSource) Closed() {
	if s.closed.Swap(true) {
		panic("Closed called twice")
	}
	s.open.Add(-1)
}

// listen serves s on a fresh port until the test ends.
func (s *testServer) listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		if err := s.Serve(context.Background(), l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wg.Wait()
	})
	return l.Addr().String()
}

func dialTest(t testing.TB, address string, cfg ClientConfig) *Conn {
	t.Helper()
	c, err := Dial(context.Background(), address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return c
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// receiveAll receives until the stream ends, asking for more by halves of window, and checks that
// the payloads are numbered without a gap.
func receiveAll(ctx context.Context, in *Inbound, window uint32) (n int, err error) {
	used := uint32(0)
	for {
		p, err := in.Recv(ctx)
		if err != nil {
			return n, err
		}
		if got := binary.BigEndian.Uint64(p.Data); got != uint64(n) {
			return n, fmt.Errorf("payload %d carries number %d", n, got)
		}
		n++
		if used++; used >= max(1, window/2) {
			if err := in.Request(used); err != nil && err != io.EOF {
				return n, err
			}
			used = 0
		}
	}
}

func TestInteractions(t *testing.T) {
	for _, kind := range []string{"tcp", "tls", "ws", "wss"} {
		t.Run(kind, func(t *testing.T) {
			s := newTestServer(ServerConfig{})
			address, cfg := s.listenAs(t, kind)
			cfg.Setup = Payload{Metadata: []byte("m"), Data: []byte("hello")}
			c := dialTest(t, address, cfg)
			ctx := within(t)

			if got, err := c.RequestResponse(ctx, Payload{Metadata: []byte("meta"), Data: []byte("ping")}); err != nil || string(got.Data) != "ping" || string(got.Metadata) != "meta" {
				t.Fatalf("echo: %q %v", got, err)
			}
			setup := <-s.setups
			if string(setup.Payload.Data) != "hello" || string(setup.Payload.Metadata) != "m" || setup.Lifetime != 30*time.Second || setup.KeepaliveInterval != 10*time.Second ||
				setup.DataMIME != "application/octet-stream" || setup.Version != ProtocolVersion {
				t.Fatalf("setup: %+v", setup)
			}
			if got, err := c.RequestResponse(ctx, Payload{Data: []byte("x")}); err != nil || got.Metadata != nil {
				t.Fatalf("no metadata became %v, %v", got.Metadata, err)
			}
			if got, err := c.RequestResponse(ctx, Payload{Metadata: []byte{}, Data: []byte("x")}); err != nil || got.Metadata == nil || len(got.Metadata) != 0 {
				t.Fatalf("empty metadata became %v, %v", got.Metadata, err)
			}
			large := bytes.Repeat([]byte("0123456789abcdef"), 50_000) // 800 kB both ways
			if got, err := c.RequestResponse(ctx, Payload{Metadata: large[:5000], Data: large}); err != nil || !bytes.Equal(got.Data, large) || !bytes.Equal(got.Metadata, large[:5000]) {
				t.Fatalf("large echo: %d bytes, %v", len(got.Data), err)
			}
			if got, err := c.RequestResponse(ctx, Payload{Data: []byte("big 9000000")}); err != nil || len(got.Data) != 9_000_000 {
				t.Fatalf("9 MB answer: %d bytes, %v", len(got.Data), err)
			}

			if err := c.FireAndForget(ctx, Payload{Data: []byte("note")}); err != nil {
				t.Fatal(err)
			}
			select {
			case p := <-s.fnf:
				if string(p.Data) != "note" {
					t.Fatalf("fire-and-forget: %q", p.Data)
				}
			case <-ctx.Done():
				t.Fatal("fire-and-forget did not arrive")
			}

			for _, window := range []uint32{1, 2, 7, 64, maxCredit} {
				in, err := c.RequestStream(ctx, Payload{Data: []byte("stream 3000 100")}, window)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := receiveAll(ctx, in, window); n != 3000 || err != io.EOF {
					t.Fatalf("window %d: %d payloads, then %v", window, n, err)
				}
			}
			in, err := c.RequestStream(ctx, Payload{Data: []byte("stream 50 500000")}, 4)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 50 {
				p, err := in.Recv(ctx)
				if err != nil || len(p.Data) != 500_000 {
					t.Fatalf("large payload %d: %d bytes, %v", i, len(p.Data), err)
				}
				in.Request(1)
			}
			if _, err := in.Recv(ctx); err != io.EOF {
				t.Fatalf("end of stream: %v", err)
			}
		})
	}
}

func TestErrorsReachTheRequester(t *testing.T) {
	s := newTestServer(ServerConfig{})
	c := dialTest(t, "tcp://"+s.listen(t), ClientConfig{})
	ctx := within(t)
	for _, tc := range []struct {
		request string
		code    ErrorCode
		data    string
	}{
		{"error no such thing", CodeApplication, "no such thing"},
		{"coded", CodeInvalid, "\x00\x01\x02"},
		{"fatal", CodeApplication, "not yours to send"}, // a stream's error cannot end the connection
		{"panic", CodeApplication, "internal error"},
		{"big 16777215", CodeApplication, ErrPayloadTooLarge.Error()},
	} {
		_, err := c.RequestResponse(ctx, Payload{Data: []byte(tc.request)})
		var e *Error
		if !errors.As(err, &e) || e.Code != tc.code || string(e.Data) != tc.data {
			t.Errorf("%s: %v", tc.request, err)
		}
	}
	for _, tc := range []struct {
		request string
		code    ErrorCode
		data    string
	}{
		{"nothing", CodeRejected, `no stream "nothing"`},
		{"panic", CodeApplication, "internal error"},
		{"panic-next", CodeApplication, "internal error"},
		{"fail", CodeApplication, "no more"},
		{"too-large", CodeApplication, ErrPayloadTooLarge.Error()},
	} {
		in, err := c.RequestStream(ctx, Payload{Data: []byte(tc.request)}, 5)
		if err != nil {
			t.Fatal(err)
		}
		_, err = in.Recv(ctx)
		var e *Error
		if !errors.As(err, &e) || e.Code != tc.code || string(e.Data) != tc.data {
			t.Errorf("stream %s: %v", tc.request, err)
		}
	}
	if err := c.FireAndForget(ctx, Payload{Data: []byte("panic")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestResponse(ctx, Payload{Data: []byte("still here")}); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().Panics; got != 4 {
		t.Errorf("%d panics counted, want 4", got)
	}
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d sources not closed", n)
	}
	if _, err := c.RequestResponse(ctx, Payload{Data: make([]byte, 1<<20)}); err != ErrPayloadTooLarge {
		t.Errorf("request larger than a frame: %v", err)
	}
}

func TestRefusedSetup(t *testing.T) {
	s := newTestServer(ServerConfig{SetupTimeout: 200 * time.Millisecond})
	address := "tcp://" + s.listen(t)
	for data, want := range map[string]string{"reject": "go away", "panic": "internal error", "hang": "not accepted in time, try again"} {
		c := dialTest(t, address, ClientConfig{Setup: Payload{Data: []byte(data)}})
		_, err := c.RequestResponse(within(t), Payload{Data: []byte("x")})
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeRejectedSetup || string(e.Data) != want {
			// The Acceptor that gives up at the deadline may be heard before the engine's own verdict.
			if data != "hang" || e == nil || e.Code != CodeRejectedSetup {
				t.Errorf("%s: %v", data, err)
			}
		}
		<-c.Done()
		if !errors.As(c.Err(), &e) {
			t.Errorf("%s: connection ended with %v", data, c.Err())
		}
	}
}

func TestCancelAndCredit(t *testing.T) {
	s := newTestServer(ServerConfig{})
	c := dialTest(t, "tcp://"+s.listen(t), ClientConfig{})
	ctx := within(t)
	in, err := c.RequestStream(ctx, Payload{Data: []byte("endless 64")}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := in.Recv(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// The stream's 11th payload would come before this answer if credit were not kept.
	for range 3 {
		if _, err := c.RequestResponse(ctx, Payload{Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if n := in.Buffered(); n != 0 {
		t.Fatalf("%d payloads beyond the credit", n)
	}
	for range 5 {
		if err := in.Request(1); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		if _, err := in.Recv(ctx); err != nil {
			t.Fatal(err)
		}
	}
	in.Cancel()
	if _, err := in.Recv(ctx); err != ErrStreamCanceled {
		t.Fatalf("after Cancel: %v", err)
	}
	if err := in.Request(1); err != ErrStreamCanceled {
		t.Fatalf("Request after Cancel: %v", err)
	}
	if _, err := c.RequestResponse(ctx, Payload{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if n := s.open.Load(); n != 0 {
		t.Fatalf("%d sources open after cancel", n)
	}

	short, stop := context.WithCancel(ctx)
	result := make(chan error, 1)
	go func() {
		_, err := c.RequestResponse(short, Payload{Data: []byte("hold")})
		result <- err
	}()
	waitFor(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.requests == 1 })
	stop()
	if err := <-result; err != context.Canceled {
		t.Fatalf("cancelled request: %v", err)
	}
	waitFor(t, func() bool { return s.outstandingCalls() == 0 })
}

func (s *testServer) outstandingCalls() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		n += c.outstanding
		c.mu.Unlock()
	}
	return n
}

// waitFor polls a condition of another goroutine's making; it fails the test after 10 s.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("condition did not come true within 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

// A stream with endless data and endless credit must not hold up another one or a request (I3).
func TestFairness(t *testing.T) {
	s := newTestServer(ServerConfig{})
	c := dialTest(t, "tcp://"+s.listen(t), ClientConfig{})
	ctx := within(t)
	greedy, err := c.RequestStream(ctx, Payload{Data: []byte("endless 16384")}, maxCredit)
	if err != nil {
		t.Fatal(err)
	}
	var eaten atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := greedy.Recv(ctx); err != nil {
				return
			}
			eaten.Add(1)
		}
	}()
	waitFor(t, func() bool { return eaten.Load() > 100 })
	modest, err := c.RequestStream(ctx, Payload{Data: []byte("stream 500 64")}, 500)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := receiveAll(ctx, modest, maxCredit); n != 500 || err != io.EOF {
		t.Fatalf("beside a greedy stream: %d of 500, %v", n, err)
	}
	if _, err := c.RequestResponse(ctx, Payload{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	greedy.Cancel()
	<-done
}

// Requests of the server to its client use the same engine.
func TestServerAsksClient(t *testing.T) {
	got := make(chan string, 1)
	s := NewServer(ServerConfig{}, func(_ context.Context, _ Setup, conn *Conn) (Responder, error) {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			p, err := conn.RequestResponse(ctx, Payload{Data: []byte("status?")})
			in, err2 := conn.RequestStream(ctx, Payload{Data: []byte("stream 100 8")}, 3)
			n := 0
			if err2 == nil {
				n, err2 = receiveAll(ctx, in, 3)
			}
			got <- fmt.Sprint(string(p.Data), err, n, err2)
		}()
		return nil, nil
	})
	ts := &testServer{Server: s}
	client := &echoResponder{fnf: make(chan Payload, 1), closed: make(chan error, 1), open: new(atomic.Int64)}
	c := dialTest(t, "tcp://"+ts.listen(t), ClientConfig{Responder: client})
	if g, want := <-got, "status?<nil> 100 EOF"; g != want {
		t.Fatalf("got %s, want %s", g, want)
	}
	_, err := c.RequestResponse(within(t), Payload{})
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeRejected {
		t.Fatalf("a nil Responder answered %v", err)
	}
	c.Close()
	if err := <-client.closed; err != ErrClosed {
		t.Fatalf("Closed(%v)", err)
	}
}

// Wake from inside every callback, Cancel and Close from inside too: nothing may lock up (I4).
type reentrant struct {
	out  *Outbound
	conn *Conn
	n    int
	done chan struct{}
}

func (r *reentrant) Next() (Payload, Signal) {
	r.out.Wake()
	r.n++
	if r.n%2 == 0 {
		return Payload{}, Wait // the Wake above must bring the next turn
	}
	if r.n > 2000 {
		r.conn.Close()
		return Payload{}, Complete
	}
	return Payload{Data: []byte{1}}, Emit
}
func (r *reentrant) Requested(uint32) { r.out.Wake() }
func (r *reentrant) Closed()          { r.out.Wake(); r.out.Fail(nil); r.conn.Close(); close(r.done) }

type reentrantResponder struct {
	echoResponder
	done chan struct{}
}

func (r *reentrantResponder) RequestStream(_ Payload, out *Outbound) (Source, error) {
	out.Wake()
	return &reentrant{out: out, conn: out.Conn(), done: r.done}, nil
}
func (r *reentrantResponder) Closed(error) {}

func TestReentrantCallbacks(t *testing.T) {
	done := make(chan struct{})
	s := &testServer{Server: NewServer(ServerConfig{}, func(context.Context, Setup, *Conn) (Responder, error) { return &reentrantResponder{done: done}, nil })}
	c := dialTest(t, "tcp://"+s.listen(t), ClientConfig{})
	in, err := c.RequestStream(within(t), Payload{}, maxCredit)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, err := in.Recv(within(t)); err != nil {
			break
		}
	}
	if n != 1000 {
		t.Errorf("%d payloads, want 1000", n)
	}
	<-done
}
