package rsocket

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/rsocket/rsocket-go/core"
)

// subprotocol is what RSocket peers name in the WebSocket handshake; none is accepted too.
const subprotocol = "rsocket"

// webSocketWire carries one frame per binary message. Deadlines are set on the socket below,
// because the library's own would cost a timer per call.
type webSocketWire struct {
	ws      *websocket.Conn
	conn    *gatherConn
	budget  *budget
	scratch [readBufferIdleBytes]byte
}

func (w *webSocketWire) buffered() bool               { return false }
func (w *webSocketWire) setReadDeadline(t time.Time)  { _ = w.conn.SetReadDeadline(t) }
func (w *webSocketWire) setWriteDeadline(t time.Time) { _ = w.conn.SetWriteDeadline(t) }
func (w *webSocketWire) socket() net.Conn             { return w.conn }

// closeWrite ends the socket without WebSocket's own close frames: sending one means to wait for
// the peer's inside the library, while the reader is at work there.
func (w *webSocketWire) closeWrite() bool { return closeWrite(w.conn) }

func (w *webSocketWire) close() {
	// The socket first: the library's close waits for its reader.
	_ = w.conn.Close()
	_ = w.ws.CloseNow()
}

func (w *webSocketWire) next(limit int) ([]byte, bool, error) {
	kind, r, err := w.ws.Reader(context.Background())
	if err != nil {
		var closed websocket.CloseError
		if errors.As(err, &closed) && closed.Code == websocket.StatusNormalClosure {
			err = io.EOF
		}
		return nil, false, err
	}
	if kind != websocket.MessageBinary {
		return nil, false, errMalformed
	}
	buf, n, taken := w.scratch[:], 0, 0
	var pooled []byte // the second step: what fits it gets memory of its own size
	defer func() {
		w.budget.give(taken)
		if pooled != nil {
			giveBuffer(pooled)
		}
	}()
	for {
		k, err := r.Read(buf[n:])
		n += k
		if n > limit {
			return nil, false, errFrameTooLarge
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, err
		}
		if n < len(buf) {
			continue
		}
		var grown []byte
		if pooled == nil {
			pooled = takeBuffer(scratchMaxBytes)
			grown = pooled
		} else {
			size := min(2*len(buf), limit+1) // one more byte tells too large from full
			if !w.budget.take(size - taken) {
				return nil, false, errBudgetSpent
			}
			taken = size
			grown = make([]byte, size)
		}
		copy(grown, buf[:n])
		buf = grown
	}
	if pooled != nil && n <= len(pooled) {
		buf = append(make([]byte, 0, n), buf[:n]...)
	}
	if n < core.FrameHeaderLen {
		return nil, false, errMalformed
	}
	return buf[:n:n], n > len(w.scratch), nil
}

func (w *webSocketWire) write(frames []outFrame) (written int64, err error) {
	ctx := context.Background()
	if len(frames) > 1 {
		w.conn.hold()
		defer func() {
			if flushed := w.conn.release(); err == nil {
				err = flushed
			}
		}()
	}
	for i := range frames {
		f := &frames[i]
		head := f.head[lengthBytes:f.headN]
		if size := f.size() - lengthBytes; size <= scratchMaxBytes {
			buf := takeBuffer(size)
			n := copy(buf, head)
			n += copy(buf[n:], f.metadata)
			n += copy(buf[n:], f.data)
			err = w.ws.Write(ctx, websocket.MessageBinary, buf[:n])
			giveBuffer(buf)
		} else {
			err = w.writeLarge(ctx, head, f.metadata, f.data)
		}
		if err != nil {
			return written, err
		}
		written += int64(f.size())
	}
	return written, nil
}

// writeLarge sends one message in parts, so that a large payload is not copied.
func (w *webSocketWire) writeLarge(ctx context.Context, parts ...[]byte) error {
	m, err := w.ws.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if len(part) > 0 {
			if _, err := m.Write(part); err != nil {
				return err
			}
		}
	}
	return m.Close()
}

// WebSocket returns a handler that upgrades requests to connections of this server. They count
// and are drained like those of Serve. The handler returns once the connection has started.
func (s *Server) WebSocket() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		full := s.closed || len(s.conns) >= s.cfg.MaxConnections
		s.mu.Unlock()
		if full {
			s.env.count.refused.Add(1)
			http.Error(rw, "server full or closing, try another one", http.StatusServiceUnavailable)
			return
		}
		tap := &hijackTap{ResponseWriter: rw}
		ws, err := websocket.Accept(tap, r, &websocket.AcceptOptions{
			Subprotocols: []string{subprotocol}, OriginPatterns: s.cfg.OriginPatterns, CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			s.env.count.refused.Add(1)
			s.cfg.Logger.Debug("rsocket: WebSocket handshake failed", "peer", r.RemoteAddr, "error", err)
			return // the library has answered
		}
		ws.SetReadLimit(-1) // webSocketWire.next counts
		w := &webSocketWire{ws: ws, conn: tap.conn, budget: s.env.budget}
		if !s.start(newConn(w, &s.cfg.Limits, s.env, tap.conn.LocalAddr(), tap.conn.RemoteAddr(), false)) {
			s.env.count.refused.Add(1)
			w.close()
		}
	})
}

// hijackTap remembers the socket that the WebSocket library takes over.
type hijackTap struct {
	http.ResponseWriter
	conn *gatherConn
}

func (t *hijackTap) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Time{}) // the HTTP server's deadlines end here
	t.conn = &gatherConn{Conn: conn}
	return t.conn, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(t.conn, webSocketWriteBytes)), nil
}

func dialWebSocket(ctx context.Context, u *url.URL, cfg ClientConfig) (*webSocketWire, error) {
	var mu sync.Mutex // the HTTP client may dial on a goroutine of its own
	var last *gatherConn
	transport := &http.Transport{
		TLSClientConfig: cfg.TLS, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := cfg.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			last = &gatherConn{Conn: conn}
			return last, nil
		},
	}
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{}
	}
	ws, _, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: cfg.HTTPHeader,
		Subprotocols: []string{subprotocol}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // webSocketWire.next counts
	mu.Lock()
	defer mu.Unlock()
	return &webSocketWire{ws: ws, conn: last}, nil
}
