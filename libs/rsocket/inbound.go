package rsocket

import (
	"context"
	"io"
	"sync"

	"github.com/rsocket/rsocket-go/core"
)

// Inbound is the receiving end of a request-stream this side has opened. It holds what has
// arrived and was not yet received: never more payloads than were asked for (I1). One goroutine
// may call Recv at a time; Request and Cancel may come from any.
//
// Payloads are the receiver's own. Metadata and Data of one payload share one allocation, so
// keeping either keeps both.
type Inbound struct {
	conn *Conn
	id   uint32

	parts assembly // owned by the reader

	creditPending uint32 // protected by conn.mu: asked for, REQUEST_N not yet written
	creditQueued  bool   // protected by conn.mu

	mu     sync.Mutex // protects what follows
	queue  []Payload  // queue[head:] waits for Recv
	head   int
	credit uint32 // payloads the peer may still send
	over   error  // set once: nothing more will arrive
	wake   chan struct{}
}

// RequestStream opens a stream and asks for its first initialN payloads (1 to 2^31-1). ctx bounds
// the wait for room on a busy connection, not the stream: Cancel ends that.
func (c *Conn) RequestStream(ctx context.Context, req Payload, initialN uint32) (*Inbound, error) {
	if initialN == 0 || initialN > maxCredit {
		return nil, Errorf(CodeInvalid, "initial request N must be 1 to 2^31-1")
	}
	if !payloadFits(req, c.limits.MaxSendFrameBytes) {
		return nil, ErrPayloadTooLarge
	}
	in := &Inbound{conn: c, credit: initialN, wake: make(chan struct{}, 1)}
	err := c.request(ctx, in, func(id uint32) outFrame {
		in.id = id
		return newFrame(id, core.FrameTypeRequestStream, 0).withWord(initialN).withPayload(req).sealed()
	})
	if err != nil {
		return nil, err
	}
	return in, nil
}

// Recv returns the next payload. At the end of the stream it returns io.EOF, after a failure the
// peer's *Error, after Cancel ErrStreamCanceled, or why the connection ended; payloads that had
// arrived before come first, except after Cancel. An end of ctx leaves the stream as it is.
func (in *Inbound) Recv(ctx context.Context) (Payload, error) {
	for {
		in.mu.Lock()
		if in.head < len(in.queue) {
			p := in.queue[in.head]
			in.queue[in.head] = Payload{}
			in.head++
			if in.head == len(in.queue) {
				in.queue, in.head = in.queue[:0], 0
			}
			in.mu.Unlock()
			return p, nil
		}
		err := in.over
		in.mu.Unlock()
		if err != nil {
			return Payload{}, err
		}
		select {
		case <-in.wake:
		case <-ctx.Done():
			return Payload{}, ctx.Err()
		}
	}
}

// Buffered says how many payloads Recv would return without waiting.
func (in *Inbound) Buffered() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue) - in.head
}

// Request asks the peer for n more payloads. It does not wait; requests that wait for the socket
// become one. Credit stops at 2^31-1. On an ended stream it returns why
// that ended.
func (in *Inbound) Request(n uint32) error {
	if n == 0 || n > maxCredit {
		return Errorf(CodeInvalid, "request N must be 1 to 2^31-1")
	}
	in.mu.Lock()
	if in.over != nil {
		defer in.mu.Unlock()
		return in.over
	}
	in.credit = min(in.credit+n, maxCredit)
	in.mu.Unlock()
	c := in.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[in.id] != stream(in) {
		return nil // ended just now; Recv says how
	}
	in.creditPending = min(in.creditPending+n, maxCredit)
	if !in.creditQueued {
		in.creditQueued = true
		f := newFrame(in.id, core.FrameTypeRequestN, 0).withWord(n).sealed()
		f.credit = in
		c.pushLocked(f)
	}
	return nil
}

// takeCredit is called by the writer with conn.mu held.
func (in *Inbound) takeCredit() uint32 {
	n := in.creditPending
	in.creditPending, in.creditQueued = 0, false
	if in.conn.streams[in.id] != stream(in) {
		return 0
	}
	return n
}

// Cancel ends the stream: the peer is told, what has arrived is dropped. Calling it on an ended
// stream only drops.
func (in *Inbound) Cancel() {
	in.abort(ErrStreamCanceled)
	in.mu.Lock()
	in.queue, in.head = nil, 0
	in.mu.Unlock()
}

// abort ends the stream from this side.
func (in *Inbound) abort(err error) {
	c := in.conn
	c.mu.Lock()
	if c.streams[in.id] == stream(in) {
		// The frame first: when this was the last stream of a draining connection, closing it
		// parts the connection.
		c.pushLocked(newFrame(in.id, core.FrameTypeCancel, 0).sealed())
		c.closeRequestLocked(in.id, in)
	}
	c.mu.Unlock()
	in.finish(err)
}

// finish says that nothing more will arrive. The first call counts.
func (in *Inbound) finish(err error) {
	in.mu.Lock()
	if in.over == nil {
		in.over = err
	}
	in.mu.Unlock()
	in.signal()
}

func (in *Inbound) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

func (in *Inbound) onPayload(f *inFrame, exclusive bool) {
	c := in.conn
	var p Payload
	switch {
	case f.has(core.FlagFollow) || in.parts.size > 0 || in.parts.hasMetadata:
		if !c.assemble(&in.parts, f) {
			c.disassemble(&in.parts)
			in.abort(Errorf(CodeConnectionError, "fragments larger than this side accepts"))
			return
		}
		if f.has(core.FlagFollow) {
			return
		}
		p = in.parts.payload()
		c.disassemble(&in.parts)
		in.parts = assembly{}
	case f.has(core.FlagNext):
		p = f.owned(exclusive)
	}
	if f.has(core.FlagNext) {
		in.mu.Lock()
		if in.credit == 0 {
			in.mu.Unlock()
			in.abort(Errorf(CodeInvalid, "the peer sent more than was asked for"))
			return
		}
		in.credit--
		if in.head > 0 && len(in.queue) == cap(in.queue) { // move up instead of growing
			n := copy(in.queue, in.queue[in.head:])
			clear(in.queue[n:])
			in.queue, in.head = in.queue[:n], 0
		}
		in.queue = append(in.queue, p)
		in.mu.Unlock()
	}
	if f.has(core.FlagComplete) {
		c.closeRequest(in.id, in)
		in.finish(io.EOF)
		return
	}
	in.signal()
}

func (in *Inbound) onError(e *Error) {
	in.conn.disassemble(&in.parts)
	in.conn.closeRequest(in.id, in)
	in.finish(e)
}

func (in *Inbound) onEnd(err error) {
	in.conn.disassemble(&in.parts)
	in.finish(err)
}

func (in *Inbound) onRequestN(uint32) {}
func (in *Inbound) onCancel()         {}
