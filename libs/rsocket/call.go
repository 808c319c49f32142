package rsocket

import (
	"context"

	"github.com/rsocket/rsocket-go/core"
)

// call is a request-response of the peer being answered.
type call struct {
	conn   *Conn
	id     uint32
	size   int // of the request, counted in outstandingBytes
	cancel context.CancelFunc
}

func (c *Conn) startCall(id uint32, req Payload) {
	size := req.size()
	ctx, cancel := context.WithCancel(context.Background())
	a := &call{conn: c, id: id, size: size, cancel: cancel}
	c.mu.Lock()
	if c.outstanding >= c.limits.MaxOutstanding || c.outstandingBytes+size > c.limits.MaxOutstandingBytes {
		c.mu.Unlock()
		cancel()
		c.reject(id, CodeRejected, "too many unanswered requests on this connection")
		return
	}
	c.outstanding++
	c.outstandingBytes += size
	c.putLocked(id, a)
	c.mu.Unlock()
	c.env.tasks.Add(1)
	go a.run(ctx, req)
}

// run answers on a goroutine of its own. The place of the call stays taken until the handler has
// returned and the answer is written, whether or not the peer still waits.
func (a *call) run(ctx context.Context, req Payload) {
	c := a.conn
	defer c.env.tasks.Done()
	defer a.cancel()
	var p Payload
	var err error
	if c.guard("RequestResponse", func() { p, err = c.responder.RequestResponse(ctx, req) }) {
		err = Errorf(CodeApplication, "internal error")
	}
	if err == nil && !payloadFits(p, c.limits.MaxSendFrameBytes) {
		err = ErrPayloadTooLarge
	}
	f := newFrame(a.id, core.FrameTypePayload, core.FlagNext|core.FlagComplete)
	if err != nil {
		f = errorFrame(a.id, streamError(err))
	} else {
		f = f.withPayload(p).sealed()
	}
	f.answer = a
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[a.id] != stream(a) || c.parting { // cancelled, or nobody there
		c.releaseCallLocked(a)
		return
	}
	delete(c.streams, a.id)
	c.pushLocked(f)
}

// releaseCallLocked gives the call's place free.
func (c *Conn) releaseCallLocked(a *call) {
	c.outstanding--
	c.outstandingBytes -= a.size
	c.restLocked()
}

func (a *call) onCancel() {
	a.conn.mu.Lock()
	if a.conn.streams[a.id] == stream(a) {
		delete(a.conn.streams, a.id)
	}
	a.conn.mu.Unlock()
	a.cancel()
}

func (a *call) onPayload(*inFrame, bool) {}
func (a *call) onRequestN(uint32)        {}
func (a *call) onError(*Error)           { a.onCancel() }
func (a *call) onEnd(error)              { a.cancel() }
