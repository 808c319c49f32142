package rsocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server accepts connections and keeps all of them inside its bounds. It is made by NewServer and
// safe for concurrent use.
type Server struct {
	cfg    ServerConfig
	accept Acceptor
	env    *environment

	acceptFailures atomic.Int64

	mu        sync.Mutex // protects what follows
	listeners map[net.Listener]struct{}
	conns     map[*Conn]struct{}
	closed    bool
	stop      chan struct{} // closed with closed
	empty     chan struct{} // closed when the last connection has gone, if someone waits
}

// NewServer returns a server that asks accept about every connection. It starts nothing: Serve,
// ServeConn and WebSocket do.
func NewServer(cfg ServerConfig, accept Acceptor) *Server {
	cfg = cfg.withDefaults()
	return &Server{
		cfg: cfg, accept: accept,
		env:       &environment{log: cfg.Logger, budget: newBudget(cfg.InboundBudgetBytes)},
		listeners: make(map[net.Listener]struct{}), conns: make(map[*Conn]struct{}), stop: make(chan struct{}),
	}
}

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Serve accepts connections from l, TCP or TLS, until ctx ends or the server closes or drains
// (nil) or l fails for good (its error). Failures that pass, such as too many open files, are
// retried with a growing pause. It closes l. Connections accepted live on after it has returned.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.addListener(l) {
		_ = l.Close()
		return nil
	}
	defer s.removeListener(l)
	unhook := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer unhook()
	pause := acceptPauseMin
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = acceptPauseMin
			s.serveAccepted(conn)
			continue
		}
		if ctx.Err() != nil || s.isClosed() {
			return nil
		}
		if !temporaryAccept(err) {
			return fmt.Errorf("rsocket: listener %s: %w", l.Addr(), err)
		}
		s.acceptFailures.Add(1)
		s.cfg.Logger.Warn("rsocket: cannot accept, will try again", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-s.stop:
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// temporaryAccept: the listener itself is well and the next Accept may succeed.
func temporaryAccept(err error) bool {
	for _, no := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPROTO} {
		if errors.Is(err, no) {
			return true
		}
	}
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	_ = l.Close()
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// ServeConn serves one connection that came from elsewhere than a listener, such as net.Pipe, and
// returns at once. The server owns conn from here on.
func (s *Server) ServeConn(conn net.Conn) { s.serveAccepted(conn) }

func (s *Server) serveAccepted(conn net.Conn) {
	w := newStreamWire(conn, s.cfg.ReadBufferMaxBytes, s.env.budget, false)
	c := newConn(w, &s.cfg.Limits, s.env, conn.LocalAddr(), conn.RemoteAddr(), false)
	if s.start(c) {
		return
	}
	s.env.count.refused.Add(1)
	if _, ok := conn.(*tls.Conn); !ok { // a handshake would hold up the others
		_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = writeRuns(conn, []outFrame{errorFrame(0, Errorf(CodeRejectedSetup, "server full or closing, try another one"))})
	}
	_ = conn.Close()
}

// start registers c and starts its reader; false when the server is full or closed.
func (s *Server) start(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.cfg.MaxConnections {
		return false
	}
	s.conns[c] = struct{}{}
	s.env.count.accepted.Add(1)
	s.env.count.open.Add(1)
	s.env.tasks.Add(1)
	go s.run(c)
	return true
}

// run is the reader of one connection, from its first byte to its end.
func (s *Server) run(c *Conn) {
	defer s.env.tasks.Done()
	if err := s.handshake(c); err != nil {
		s.env.count.refused.Add(1)
		s.cfg.Logger.Debug("rsocket: connection refused", "peer", addrText(c.remote), "error", err)
		c.end(err)
	} else {
		err := c.readLoop()
		c.end(err)
		s.cfg.Logger.Debug("rsocket: connection ended", "peer", addrText(c.remote), "error", err)
	}
	c.teardown()
	s.env.count.open.Add(-1)
	s.mu.Lock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
	s.mu.Unlock()
}

// handshake reads SETUP and asks the Acceptor, all under one deadline (I6).
func (s *Server) handshake(c *Conn) error {
	deadline := time.Now().Add(s.cfg.SetupTimeout)
	c.mu.Lock()
	if !c.parting {
		c.wire.setReadDeadline(deadline)
	}
	c.mu.Unlock()
	raw, _, err := c.wire.next(s.cfg.MaxSetupBytes)
	if err != nil {
		return c.readFailed(err, ErrSetupTimeout)
	}
	c.inFrames, c.inBytes = 1, int64(len(raw))
	f, err := parseFrame(raw)
	var setup Setup
	refusal := Errorf(CodeInvalidSetup, "malformed first frame")
	if err == nil {
		setup, refusal = parseSetup(f, s.cfg.MaxLifetime)
	}
	if refusal == nil {
		refusal = s.decide(c, setup, deadline)
	}
	if refusal != nil {
		c.refuse(refusal)
		c.linger()
		return refusal
	}
	c.lifetime = setup.Lifetime
	return nil
}

type verdict struct {
	responder Responder
	err       error
}

// decide runs the Acceptor on a goroutine of its own, so that one that hangs holds up nothing but
// itself; a Responder that comes too late is closed at once.
func (s *Server) decide(c *Conn, setup Setup, deadline time.Time) *Error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	decided := make(chan verdict, 1)
	s.env.tasks.Add(1)
	go func() {
		defer s.env.tasks.Done()
		var v verdict
		if c.guard("Acceptor", func() { v.responder, v.err = s.accept(ctx, setup, c) }) {
			v.err = Errorf(CodeRejectedSetup, "internal error")
		}
		decided <- v
	}()
	select {
	case v := <-decided:
		cancel()
		if v.err != nil {
			return setupError(v.err)
		}
		c.responder = v.responder
		return nil
	case <-ctx.Done():
	case <-c.quit:
	}
	cancel()
	s.env.tasks.Add(1)
	go func() { // ends when the Acceptor does
		defer s.env.tasks.Done()
		if v := <-decided; v.err == nil && v.responder != nil {
			c.guard("Closed", func() { v.responder.Closed(ErrSetupTimeout) })
		}
	}()
	return Errorf(CodeRejectedSetup, "not accepted in time, try again")
}

// setupError keeps an Acceptor's error inside the codes of a refused SETUP.
func setupError(err error) *Error {
	e := wireError(err)
	if e.Code != CodeInvalidSetup && e.Code != CodeUnsupportedSetup {
		e.Code = CodeRejectedSetup
	}
	return e
}

// shut stops accepting and returns the open connections; nil channel when there are none.
func (s *Server) shut() (conns []*Conn, empty <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.stop)
		for l := range s.listeners {
			_ = l.Close()
		}
	}
	for c := range s.conns {
		conns = append(conns, c)
	}
	if len(conns) > 0 && s.empty == nil {
		s.empty = make(chan struct{})
	}
	return conns, s.empty
}

// Drain stops accepting, tells every connection to go elsewhere (CONNECTION_CLOSE, at a moment of
// its own within spread), leaves each DrainGrace for its running streams, flushes and waits. When
// ctx ends first the rest is closed at once and ctx's error returned.
func (s *Server) Drain(ctx context.Context, spread time.Duration) error {
	conns, empty := s.shut()
	timers := make([]*time.Timer, 0, len(conns))
	for _, c := range conns {
		var after time.Duration
		if spread > 0 {
			after = rand.N(spread)
		}
		timers = append(timers, time.AfterFunc(after, func() { c.goAway("server is going away, connect to another one", s.cfg.DrainGrace) }))
	}
	defer func() {
		for _, t := range timers {
			t.Stop()
		}
	}()
	if empty != nil {
		select {
		case <-empty:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.Close())
		}
	}
	return s.Close()
}

// Close closes listeners and connections at once and waits for every goroutine, at most
// CloseGrace; the error says that handlers are still running then.
func (s *Server) Close() error {
	conns, _ := s.shut()
	for _, c := range conns {
		c.end(ErrServerClosed)
	}
	gone := make(chan struct{})
	go func() { s.env.tasks.Wait(); close(gone) }()
	timer := time.NewTimer(s.cfg.CloseGrace)
	defer timer.Stop()
	select {
	case <-gone:
		return nil
	case <-timer.C:
		s.cfg.Logger.Error("rsocket: handlers still running after Close", "grace", s.cfg.CloseGrace, slog.Int64("connections", s.env.count.open.Load()))
		return fmt.Errorf("rsocket: handlers did not return within %v of Close", s.cfg.CloseGrace)
	}
}
