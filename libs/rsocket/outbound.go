package rsocket

import (
	"github.com/rsocket/rsocket-go/core"
)

// Outbound is the sending end of a request-stream of the peer, as its Source sees it. It is valid
// for as long as the Source is; after that its methods do nothing.
type Outbound struct {
	conn *Conn
	id   uint32

	// Protected by conn.mu.
	source Source
	next   *Outbound // in the ring of ready streams
	failed error
	done   bool // Complete was called
	credit uint32
	busy   uint8 // callbacks running: Next on the writer, Requested on the reader
	queued bool  // in the ring
	idle   bool  // the source said Wait
	woken  bool  // Wake came while Next was running
	asking bool  // Next is running
	over   bool
	told   bool // Closed was called or is about to be
}

// Conn is the connection the stream belongs to.
func (o *Outbound) Conn() *Conn { return o.conn }

// Wake says that a source which answered Wait may have something now. It is cheap, may come from
// anywhere and any number of times, and is never lost: a Wake during Next asks again.
func (o *Outbound) Wake() {
	c := o.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	o.idle = false
	o.woken = o.asking
	c.readyLocked(o)
}

// Fail ends the stream with an ERROR once what was taken from the source is written. A Source
// that has nothing to wait for any more uses it, from any goroutine; the first call counts. nil is
// an error without text.
func (o *Outbound) Fail(err error) {
	c := o.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	o.failLocked(err)
	c.readyLocked(o)
}

// Complete ends the stream without a payload and without credit, once what was taken from the
// source is written: for a source that learns of its end while its peer's credit is used up. It
// may come from any goroutine; a Fail before it wins.
func (o *Outbound) Complete() {
	c := o.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	o.done = true
	c.readyLocked(o)
}

func (o *Outbound) failLocked(err error) {
	if o.failed == nil && !o.over {
		o.failed = streamError(err)
	}
}

// startOutbound asks the responder for a source.
func (c *Conn) startOutbound(id uint32, credit uint32, req Payload) {
	c.mu.Lock()
	full := c.peerStreams >= c.limits.MaxStreams
	c.mu.Unlock()
	if full {
		c.reject(id, CodeRejected, "too many open streams on this connection")
		return
	}
	o := &Outbound{conn: c, id: id}
	var source Source
	var err error
	if c.guard("RequestStream", func() { source, err = c.responder.RequestStream(req, o) }) {
		err = Errorf(CodeApplication, "internal error")
	} else if err == nil && source == nil {
		err = Errorf(CodeApplication, "no such stream")
	}
	if err != nil {
		c.mu.Lock()
		o.over, o.told = true, true
		c.mu.Unlock()
		c.sendError(id, streamError(err))
		return
	}
	c.env.count.streams.Add(1)
	panicked := c.guard("Requested", func() { source.Requested(credit) })
	c.mu.Lock()
	o.source = source
	c.peerStreams++
	c.putLocked(id, o)
	o.credit = credit
	if panicked {
		o.failLocked(Errorf(CodeApplication, "internal error"))
	}
	c.readyLocked(o)
	c.mu.Unlock()
}

// readyLocked puts o into the ring if it may send.
func (c *Conn) readyLocked(o *Outbound) {
	if o.over || o.queued || o.asking || o.source == nil || c.ended {
		return
	}
	if o.failed == nil && !o.done && (o.credit == 0 || o.idle) {
		return
	}
	o.queued = true
	if c.ready == nil {
		c.ready = o
	} else {
		c.last.next = o
	}
	c.last = o
	c.kickLocked()
}

func (c *Conn) popReadyLocked() *Outbound {
	o := c.ready
	c.ready = o.next
	if c.ready == nil {
		c.last = nil
	}
	o.next, o.queued = nil, false
	return o
}

// pullLocked gives o its turn: at most one frame. It is called by the writer with conn.mu held and
// lets it go while the source is asked (I4).
func (c *Conn) pullLocked(o *Outbound) (outFrame, bool) {
	if o.over {
		return outFrame{}, false
	}
	if o.failed != nil {
		f := errorFrame(o.id, streamError(o.failed))
		c.finishLocked(o)
		return f, true
	}
	if o.done {
		f := newFrame(o.id, core.FrameTypePayload, core.FlagComplete).sealed()
		c.finishLocked(o)
		return f, true
	}
	o.asking, o.woken = true, false
	o.busy++
	var p Payload
	signal := Fail
	source := o.source
	c.mu.Unlock()
	panicked := c.guard("Next", func() { p, signal = source.Next() })
	c.mu.Lock()
	o.asking = false
	o.busy--
	if o.over { // cancelled meanwhile: what was taken is dropped
		c.settleLocked(o)
		return outFrame{}, false
	}
	if panicked {
		o.failLocked(Errorf(CodeApplication, "internal error"))
	}
	switch signal {
	case Wait:
		o.idle = !o.woken
		c.readyLocked(o)
		return outFrame{}, false
	case Emit, EmitAndComplete:
		if !payloadFits(p, c.limits.MaxSendFrameBytes) {
			o.failLocked(ErrPayloadTooLarge)
			break
		}
		o.credit--
		flags := core.FlagNext
		if signal == EmitAndComplete {
			flags |= core.FlagComplete
			c.finishLocked(o)
		} else {
			c.readyLocked(o)
		}
		return newFrame(o.id, core.FrameTypePayload, flags).withPayload(p).sealed(), true
	case Complete:
		c.finishLocked(o)
		return newFrame(o.id, core.FrameTypePayload, core.FlagComplete).sealed(), true
	default:
		o.failLocked(nil)
	}
	f := errorFrame(o.id, streamError(o.failed))
	c.finishLocked(o)
	return f, true
}

// finishLocked ends o and tells its source, unless a callback still runs: then that one does.
func (c *Conn) finishLocked(o *Outbound) {
	if o.over {
		return
	}
	o.over = true
	if c.streams[o.id] == stream(o) {
		c.peerStreams--
		c.env.count.streams.Add(-1)
		c.removeLocked(o.id)
	}
	c.settleLocked(o)
}

// settleLocked calls Source.Closed exactly once, when the stream is over and no other callback of
// it runs (I5). It lets conn.mu go meanwhile (I4).
func (c *Conn) settleLocked(o *Outbound) {
	if !o.over || o.busy > 0 || o.told || o.source == nil {
		return
	}
	o.told = true
	source := o.source
	c.mu.Unlock()
	c.guard("Source.Closed", source.Closed)
	c.mu.Lock()
}

func (o *Outbound) onRequestN(n uint32) {
	c := o.conn
	if n == 0 || n > maxCredit {
		o.Fail(Errorf(CodeInvalid, "request N must be 1 to 2^31-1"))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.over {
		return
	}
	o.busy++
	c.mu.Unlock()
	// The source learns of the credit before it can be asked for a payload on it.
	panicked := c.guard("Requested", func() { o.source.Requested(n) })
	c.mu.Lock()
	o.busy--
	if panicked {
		o.failLocked(Errorf(CodeApplication, "internal error"))
	}
	o.credit = min(o.credit+n, maxCredit) // both below 2^31: no overflow
	c.settleLocked(o)
	c.readyLocked(o)
}

// onPayload: a request-stream has no payloads from its requester; the protocol says ignore.
func (o *Outbound) onPayload(*inFrame, bool) {}

// onError: not the requester's to send on this stream either; it cannot want more of it.
func (o *Outbound) onError(*Error) { o.onCancel() }

func (o *Outbound) onCancel() {
	o.conn.mu.Lock()
	defer o.conn.mu.Unlock()
	o.conn.finishLocked(o)
}

func (o *Outbound) onEnd(error) {
	c := o.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !o.over {
		o.over = true
		c.env.count.streams.Add(-1)
	}
	c.settleLocked(o)
}
