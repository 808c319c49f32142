package rsocket

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// The tests here run in a bubble: time passes only when everybody waits, over net.Pipe.

// pipeServer gives the raw end of a connection of s.
func (s *testServer) pipe(t *testing.T) *rawPeer {
	here, there := net.Pipe()
	s.ServeConn(there)
	t.Cleanup(func() { here.Close() })
	return newRawPeer(here)
}

// untilEnd reads until the other side hangs up and says how long that took and what was heard.
func untilEnd(p *rawPeer) (time.Duration, []rawFrame) {
	began := time.Now()
	var heard []rawFrame
	for {
		f, err := p.read()
		if err != nil {
			return time.Since(began), heard
		}
		heard = append(heard, f)
	}
}

func TestSetupDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(ServerConfig{SetupTimeout: 5 * time.Second})
		if d, _ := untilEnd(s.pipe(t)); d != 5*time.Second {
			t.Errorf("a silent peer was kept for %v", d)
		}
		slow := s.pipe(t) // one byte a second is not a SETUP
		go func() {
			for _, b := range rawSetup(time.Second, time.Second) {
				if _, err := slow.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if d, _ := untilEnd(slow); d != 5*time.Second {
			t.Errorf("a slow-loris SETUP was kept for %v", d)
		}
		hang := s.pipe(t)
		setup, _ := appendSetup(make([]byte, lengthBytes), Setup{Version: ProtocolVersion, KeepaliveInterval: time.Second, Lifetime: time.Minute, Payload: Payload{Data: []byte("hang")}})
		putUint24(setup, len(setup)-lengthBytes)
		hang.send(t, setup)
		if d, heard := untilEnd(hang); d < 5*time.Second || d > 7*time.Second || len(heard) != 1 || heard[0].typ != core.FrameTypeError {
			t.Errorf("an undecided Acceptor kept the peer for %v, which heard %v", d, heard)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLifetimeFromSetup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(ServerConfig{MaxLifetime: time.Minute})
		for _, tc := range []struct{ asked, atLeast, atMost time.Duration }{
			{2 * time.Second, 2 * time.Second, 3 * time.Second},
			{time.Hour, time.Minute, 70 * time.Second}, // cut to MaxLifetime
		} {
			p := s.pipe(t)
			p.send(t, rawSetup(time.Second, tc.asked))
			if d, _ := untilEnd(p); d < tc.atLeast || d > tc.atMost {
				t.Errorf("lifetime %v: a silent peer was kept for %v", tc.asked, d)
			}
			if err := <-s.closed; !errors.Is(err, ErrLifetime) {
				t.Errorf("Closed(%v)", err)
			}
		}
		// KEEPALIVE keeps it, and is echoed.
		p := s.pipe(t)
		p.send(t, rawSetup(time.Second, 3*time.Second))
		for range 20 {
			time.Sleep(2 * time.Second)
			p.send(t, raw(0, core.FrameTypeKeepalive, core.FlagRespond, make([]byte, 8), []byte("tick")))
			if f, err := p.read(); err != nil || f.typ != core.FrameTypeKeepalive || string(f.body[8:]) != "tick" || f.flags != 0 {
				t.Fatalf("echo %+v, %v", f, err)
			}
		}
		// Bytes that never become a frame do not.
		p.send(t, []byte{0, 1, 0, 0, 0, 0, 1, 4 << 2, 0})
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				if _, err := p.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if d, _ := untilEnd(p); d > 4*time.Second {
			t.Errorf("a frame that trickles in kept the connection for %v", d)
		}
		<-gone
		s.Close()
	})
}

func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(ServerConfig{Limits: Limits{WriteTimeout: 4 * time.Second}})
		p := s.pipe(t)
		p.send(t, rawSetup(time.Minute, time.Minute), rawStream(1, maxCredit, "endless 100"))
		began := time.Now()
		if err := <-s.closed; !errors.Is(err, ErrWriteTimeout) { // nobody reads the pipe
			t.Errorf("Closed(%v)", err)
		}
		if d := time.Since(began); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("a peer that does not read was kept for %v", d)
		}
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d sources open", n)
		}
		s.Close()
	})
}

// A client notices a server that has gone silent, and its own KEEPALIVE keeps a live one.
func TestClientKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(ServerConfig{})
		here, there := net.Pipe()
		s.ServeConn(there)
		c, err := NewClientConn(here, ClientConfig{KeepaliveInterval: time.Second, Lifetime: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := c.RequestResponse(context.Background(), Payload{Data: []byte("x")}); err != nil {
			t.Fatalf("after an idle hour: %v", err)
		}
		s.Close()
		<-c.Done()
		if c.Err() != io.EOF {
			t.Errorf("server closed: %v", c.Err())
		}

		here, there = net.Pipe()
		go io.Copy(io.Discard, there) // reads and never says anything: half open
		c, err = NewClientConn(here, ClientConfig{KeepaliveInterval: time.Second, Lifetime: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		in, err := c.RequestStream(context.Background(), Payload{Data: []byte("idle")}, 1)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := in.Recv(context.Background()); !errors.Is(err, ErrLifetime) {
			t.Errorf("stream of a silent server: %v", err)
		}
		if d := time.Since(began); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("noticed after %v", d)
		}
		<-c.Done()
		there.Close()
	})
}

// Drain: everybody is told within the spread, running streams get their grace, new requests are
// refused, and then the connections end.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(ServerConfig{DrainGrace: 3 * time.Second})
		var conns []*Conn
		var streams []*Inbound
		for range 20 {
			here, there := net.Pipe()
			s.ServeConn(there)
			c, err := NewClientConn(here, ClientConfig{})
			if err != nil {
				t.Fatal(err)
			}
			in, err := c.RequestStream(context.Background(), Payload{Data: []byte("idle")}, 1)
			if err != nil {
				t.Fatal(err)
			}
			conns, streams = append(conns, c), append(streams, in)
		}
		synctest.Wait()
		began := time.Now()
		told := make(chan time.Duration, len(conns))
		for i, c := range conns {
			go func() {
				<-c.Draining()
				told <- time.Since(began)
				if _, err := c.RequestResponse(context.Background(), Payload{}); !errors.Is(err, ErrDraining) && !errors.Is(err, io.EOF) {
					t.Errorf("request while draining: %v", err)
				}
				if i%2 == 0 {
					streams[i].Cancel() // done here: the connection need not wait for its grace
					<-c.Done()
					if d := time.Since(began); d > 10*time.Second {
						t.Errorf("ended %v after the drain began", d)
					}
				}
			}()
		}
		if err := s.Drain(context.Background(), 10*time.Second); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("Drain took %v", d)
		}
		first, last := time.Hour, time.Duration(0)
		for range conns {
			d := <-told
			first, last = min(first, d), max(last, d)
		}
		if last > 10*time.Second || last-first < 2*time.Second {
			t.Errorf("told from %v to %v, not spread over 10 s", first, last)
		}
		for i, c := range conns {
			<-c.Done()
			if _, err := streams[i].Recv(context.Background()); err == nil {
				t.Error("a stream outlived its connection")
			}
		}
	})
}

func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(ServerConfig{DrainGrace: time.Hour})
		p := s.pipe(t)
		p.send(t, rawSetup(10*time.Second, time.Minute), rawStream(1, 1, "idle"))
		go untilEnd(p)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Drain(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("Drain took %v", d)
		}
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d sources open", n)
		}
	})
}

// Close of a client writes what was queued before.
func TestCloseFlushes(t *testing.T) {
	s := newTestServer(ServerConfig{})
	address := "tcp://" + s.listen(t)
	for range 20 {
		c := dialTest(t, address, ClientConfig{})
		for range 20 {
			if err := c.FireAndForget(context.Background(), Payload{Data: []byte("ack")}); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		<-c.Done()
		if c.Err() != ErrClosed {
			t.Errorf("after Close: %v", c.Err())
		}
		if err := c.FireAndForget(context.Background(), Payload{}); err != ErrClosed {
			t.Errorf("request after Close: %v", err)
		}
	}
	waitFor(t, func() bool { return len(s.fnf) == 400 })
}
