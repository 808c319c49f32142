package rsocket

import (
	"net"
	"sync"
)

// webSocketWriteBytes is the WebSocket library's own write buffer; gatherConn makes it matter little.
const webSocketWriteBytes = 1 << 10

// gatherConn lies below the WebSocket library, which makes a system call of every message. Between
// hold and release its writes are gathered, so that a round of messages costs a few.
type gatherConn struct {
	net.Conn

	mu   sync.Mutex // protects what follows, also against the library's own pongs
	held []byte     // from the pool, nil when writes pass through
	err  error      // of a write that filled held
}

func (g *gatherConn) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = takeBuffer(scratchMaxBytes)[:0]
}

// release writes what was gathered and lets writes through again.
func (g *gatherConn) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flushLocked()
	giveBuffer(g.held[:cap(g.held)])
	g.held = nil
	return g.err
}

func (g *gatherConn) flushLocked() {
	if len(g.held) > 0 && g.err == nil {
		_, g.err = g.Conn.Write(g.held)
	}
	g.held = g.held[:0]
}

func (g *gatherConn) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		return g.Conn.Write(b)
	}
	if len(g.held)+len(b) > cap(g.held) {
		g.flushLocked()
	}
	if g.err != nil {
		return 0, g.err
	}
	if len(b) > cap(g.held) {
		var n int
		n, g.err = g.Conn.Write(b)
		return n, g.err
	}
	g.held = append(g.held, b...)
	return len(b), nil
}

// CloseWrite half-closes what lies below, if it can.
func (g *gatherConn) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
