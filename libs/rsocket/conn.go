package rsocket

import (
	"context"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// lingerTimeout is how long a connection that has said its last words waits for the peer to hang
// up, so that the words are not lost to a reset.
const lingerTimeout = time.Second

// lingerMaxBytes is how much of a refused peer's bytes is thrown away meanwhile.
const lingerMaxBytes = 4 << 20

// Conn is one RSocket connection, the same on both ends: it makes requests and answers the
// peer's. All methods may be called from any goroutine and from inside any callback.
type Conn struct {
	wire      wire
	limits    *Limits
	env       *environment
	remote    net.Addr
	local     net.Addr
	responder Responder // set before the first request is read
	lifetime  time.Duration
	client    bool

	quit chan struct{} // closed by end: the socket is closed
	done chan struct{} // closed by the reader when all callbacks have been made

	// Owned by the reader.
	nextArm        time.Time // when the read deadline is moved next
	inFrames       int64     // counted here, added to the shared counters before a blocking read
	inBytes        int64
	partials       int // unfinished fragmented requests
	assemblingSize int // bytes of unfinished fragments

	mu sync.Mutex // protects what follows
	// streams holds every open stream of both sides by id.
	streams          map[uint32]stream
	nextID           uint32 // the next own request
	peerStreams      int
	outstanding      int // peer's request-responses whose handler runs or whose answer is unwritten
	outstandingBytes int
	requests         int // own requests open

	queue        []outFrame // control queue
	queueBytes   int
	ready, last  *Outbound // ring of ready streams, a linked list with its last element
	echo         []byte    // KEEPALIVE data to send back
	echoDue      bool
	pingDue      bool
	writing      bool          // the writer goroutine runs
	writerGone   chan struct{} // closed by the writer when it ends, if someone waits
	room         chan struct{} // closed when the queue has room again, if someone waits
	armedUntil   time.Time     // write deadline, owned by the writer
	drainingC    chan struct{} // closed when draining begins, if someone asked
	draining     bool          // no new requests
	parting      bool          // write the queue, then say goodbye; read nothing but a last ERROR
	broken       bool          // writing has failed; nothing more goes out
	ended        bool
	err          error
	pingTimer    *time.Timer
	drainTimer   *time.Timer
	pingInterval time.Duration
}

// environment is what the connections of one server share; a client has its own.
type environment struct {
	log    *slog.Logger
	count  counters
	budget *budget
	tasks  sync.WaitGroup // goroutines of connections: readers, writers, handlers
}

// stream is an open stream, own or the peer's. All calls come from the reader.
type stream interface {
	onPayload(f *inFrame, exclusive bool)
	onRequestN(n uint32)
	onCancel()
	onError(e *Error)
	// onEnd: the connection is gone. The stream has been removed already.
	onEnd(err error)
}

func newConn(w wire, limits *Limits, env *environment, local, remote net.Addr, client bool) *Conn {
	c := &Conn{wire: w, limits: limits, env: env, local: local, remote: remote, client: client,
		quit: make(chan struct{}), done: make(chan struct{}), nextID: 2}
	if client {
		c.nextID = 1
	}
	return c
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr is this side's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// Done is closed when the connection has ended and Responder.Closed has returned.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended: nil while it lives, then never nil. A refusal by the peer is
// an *Error, ErrClosed follows Close, io.EOF means that the peer hung up.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Draining is closed when either side has said CONNECTION_CLOSE: running streams go on for a
// while, new requests belong elsewhere.
func (c *Conn) Draining() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drainingC == nil {
		c.drainingC = make(chan struct{})
		if c.draining {
			close(c.drainingC)
		}
	}
	return c.drainingC
}

// Close writes what is queued, says goodbye and ends the connection, within about a second. It
// does not wait: Done does. Calling it again does nothing. It never fails.
func (c *Conn) Close() error {
	c.part(ErrClosed)
	return nil
}

// part begins a polite end: own output is flushed, the peer's is dropped.
func (c *Conn) part(err error) {
	c.mu.Lock()
	c.partLocked(err)
	c.mu.Unlock()
}

func (c *Conn) partLocked(err error) {
	if c.ended || c.parting {
		return
	}
	c.parting = true
	c.setDrainingLocked()
	if c.err == nil {
		c.err = err
	}
	c.wire.setReadDeadline(time.Now().Add(lingerTimeout))
	c.freeRoomLocked()
	c.kickLocked()
}

// refuse says e on stream 0 and parts.
func (c *Conn) refuse(e *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.parting {
		return
	}
	c.pushLocked(errorFrame(0, e))
	c.partLocked(e)
}

// goAway says CONNECTION_CLOSE; streams that run may go on until grace has passed.
func (c *Conn) goAway(reason string, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.parting || c.draining {
		return
	}
	c.pushLocked(errorFrame(0, Errorf(CodeConnectionClose, "%s", reason)))
	c.setDrainingLocked()
	if len(c.streams) == 0 && c.outstanding == 0 {
		c.partLocked(ErrServerClosed)
		return
	}
	c.drainTimer = time.AfterFunc(grace, func() { c.part(ErrServerClosed) })
	c.kickLocked()
}

func (c *Conn) setDrainingLocked() {
	if c.draining {
		return
	}
	c.draining = true
	if c.drainingC != nil {
		close(c.drainingC)
	}
}

// end closes the socket at once. The reader does the rest.
func (c *Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	if c.err == nil {
		c.err = err
	}
	c.setDrainingLocked()
	c.freeRoomLocked()
	close(c.quit)
	c.wire.close()
}

// removeLocked takes a stream off the table; the last one of a draining connection ends it.
func (c *Conn) removeLocked(id uint32) {
	delete(c.streams, id)
	c.restLocked()
}

func (c *Conn) restLocked() {
	if c.draining && len(c.streams) == 0 && c.outstanding == 0 {
		c.partLocked(ErrDraining)
	}
}

func (c *Conn) putLocked(id uint32, s stream) {
	if c.streams == nil {
		c.streams = make(map[uint32]stream)
	}
	c.streams[id] = s
}

// teardown runs on the reader once the socket is closed. After it nothing of the connection runs
// but handlers that have not yet returned.
func (c *Conn) teardown() {
	c.end(io.EOF)
	c.mu.Lock()
	streams, err := c.streams, c.err
	c.streams, c.queue, c.echo = nil, nil, nil
	if c.pingTimer != nil {
		c.pingTimer.Stop()
	}
	if c.drainTimer != nil {
		c.drainTimer.Stop()
	}
	c.mu.Unlock()
	for _, s := range streams {
		s.onEnd(err)
	}
	c.mu.Lock()
	var gone chan struct{}
	if c.writing {
		gone = make(chan struct{})
		c.writerGone = gone
	}
	c.mu.Unlock()
	if gone != nil {
		<-gone // the socket is closed and Next does not block, so this is short
	}
	if c.responder != nil {
		c.guard("Closed", func() { c.responder.Closed(err) })
	}
	c.countIn()
	close(c.done)
}

// guard keeps a panic of the application from ending the process (I8). It reports one.
func (c *Conn) guard(what string, call func()) (panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			panicked = true
			c.env.count.panics.Add(1)
			c.env.log.LogAttrs(context.Background(), slog.LevelError, "rsocket: handler panicked", slog.String("handler", what),
				slog.Any("panic", v), slog.String("peer", addrText(c.remote)), slog.String("stack", string(debug.Stack())))
		}
	}()
	call()
	return false
}

func addrText(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// ping queues a KEEPALIVE every interval for as long as the connection lives. One that could not
// be written yet is not queued twice.
func (c *Conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.parting {
		return
	}
	c.pingDue = true
	c.kickLocked()
	c.pingTimer.Reset(c.pingInterval)
}

func keepaliveFrame(flags core.FrameFlag, data []byte) outFrame {
	f := newFrame(0, core.FrameTypeKeepalive, flags)
	f.headN += keepaliveFixedBytes // last received position: always 0, resume is not supported
	f.data = data
	return f.sealed()
}
