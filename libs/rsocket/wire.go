package rsocket

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// wire carries whole frames over one kind of socket. next is called by the reader alone, write by
// the writer alone, the rest by anyone.
type wire interface {
	// next returns the next frame without its length prefix, at most limit bytes of it. With
	// exclusive the memory is the frame's own; without, it is valid until the next call.
	next(limit int) (raw []byte, exclusive bool, err error)
	// buffered says that next would return without reading from the socket.
	buffered() bool
	// write hands frames to the socket and returns the bytes written.
	write(frames []outFrame) (int64, error)
	setReadDeadline(t time.Time)
	setWriteDeadline(t time.Time)
	// closeWrite says goodbye but lets the peer's last bytes arrive; false if the socket cannot.
	closeWrite() bool
	close()
	// socket is what lies below, for reading what nobody wants any more.
	socket() net.Conn
}

var errFrameTooLarge = errors.New("rsocket: frame larger than this side accepts")
var errBudgetSpent = errors.New("rsocket: inbound memory budget spent")

const (
	readBufferIdleBytes  = 512
	readBufferGrowFactor = 8
	// directReadBytes: a frame above it that is not yet buffered is read into memory of its own.
	directReadBytes = 4 << 10
	// firstReadBytes is what a frame gets before any of it has arrived; it grows as bytes come,
	// so that announcing a large frame costs the peer as much as us (I7).
	firstReadBytes = 16 << 10
)

// streamWire is TCP, TLS or any net.Conn: each frame behind its 24-bit length.
type streamWire struct {
	conn   net.Conn
	budget *budget
	// trusting allocates announced frames at once: the client's end, which chose its server.
	trusting bool
	bufMax   int

	small    [readBufferIdleBytes]byte
	buf      []byte
	r, n     int // buf[r:n] is unread
	lastRead int // bytes of the last Read
	lastRoom int // room it had
}

func newStreamWire(conn net.Conn, bufMax int, b *budget, trusting bool) *streamWire {
	w := &streamWire{conn: conn, budget: b, bufMax: bufMax, trusting: trusting}
	w.buf = w.small[:]
	return w
}

func (w *streamWire) buffered() bool {
	have := w.n - w.r
	return have >= lengthBytes && have >= lengthBytes+uint24(w.buf[w.r:])
}

func (w *streamWire) next(limit int) ([]byte, bool, error) {
	if err := w.fill(lengthBytes); err != nil {
		return nil, false, err
	}
	size := uint24(w.buf[w.r:])
	if size < core.FrameHeaderLen {
		return nil, false, errMalformed
	}
	if size > limit {
		return nil, false, errFrameTooLarge
	}
	if have := w.n - w.r - lengthBytes; size > directReadBytes && have < size {
		w.r += lengthBytes
		raw, err := w.readDirect(size)
		return raw, true, err
	}
	if err := w.fill(lengthBytes + size); err != nil {
		return nil, false, err
	}
	raw := w.buf[w.r+lengthBytes : w.r+lengthBytes+size : w.r+lengthBytes+size]
	w.r += lengthBytes + size
	return raw, false, nil
}

// readDirect reads the rest of a large frame into memory of its own.
func (w *streamWire) readDirect(size int) ([]byte, error) {
	if !w.budget.take(size) {
		return nil, errBudgetSpent
	}
	defer w.budget.give(size)
	first := size
	if !w.trusting {
		first = min(size, max(firstReadBytes, w.n-w.r))
	}
	raw := make([]byte, first)
	got := copy(raw, w.buf[w.r:w.n])
	w.r += got
	for {
		k, err := io.ReadFull(w.conn, raw[got:])
		got += k
		if err != nil {
			return nil, err
		}
		if got == size {
			return raw, nil
		}
		grown := make([]byte, min(size, 2*len(raw)))
		copy(grown, raw)
		raw = grown
	}
}

// fill makes need unread bytes available in buf.
func (w *streamWire) fill(need int) error {
	for w.n-w.r < need {
		w.fit(need)
		k, err := w.conn.Read(w.buf[w.n:])
		w.lastRead, w.lastRoom = k, len(w.buf)-w.n
		w.n += k
		if err != nil && w.n-w.r < need {
			if errors.Is(err, io.EOF) && w.n > w.r {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// fit gives buf a size that suits the traffic and makes room for need bytes (I9).
func (w *streamWire) fit(need int) {
	unread := w.n - w.r
	want := len(w.buf)
	switch {
	case unread == 0 && w.lastRead <= readBufferIdleBytes && w.lastRead < w.lastRoom:
		want = readBufferIdleBytes
	case unread == 0 && w.lastRead == w.lastRoom && w.lastRead > 0:
		want = min(want*readBufferGrowFactor, w.bufMax)
	}
	want = max(want, need)
	if want != len(w.buf) {
		old := w.buf
		if want <= readBufferIdleBytes {
			w.buf = w.small[:]
		} else {
			w.buf = takeBuffer(want)
		}
		copy(w.buf, old[w.r:w.n])
		if len(old) > readBufferIdleBytes {
			giveBuffer(old)
		}
		w.r, w.n = 0, unread
		return
	}
	if w.r > 0 {
		copy(w.buf, w.buf[w.r:w.n])
		w.r, w.n = 0, unread
	}
}

func (w *streamWire) write(frames []outFrame) (int64, error) { return writeRuns(w.conn, frames) }

func (w *streamWire) setReadDeadline(t time.Time)  { _ = w.conn.SetReadDeadline(t) }
func (w *streamWire) setWriteDeadline(t time.Time) { _ = w.conn.SetWriteDeadline(t) }

func (w *streamWire) closeWrite() bool { return closeWrite(w.conn) }
func (w *streamWire) socket() net.Conn { return w.conn }

func closeWrite(conn net.Conn) bool {
	half, ok := conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

func (w *streamWire) close() { _ = w.conn.Close() }
