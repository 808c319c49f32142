package rsocket

import (
	"context"

	"github.com/rsocket/rsocket-go/core"
)

// answer is an own request-response that waits.
type answer struct {
	conn  *Conn
	id    uint32
	parts assembly // owned by the reader
	done  chan result
}

type result struct {
	payload Payload
	err     error
}

// RequestResponse sends a request and waits for its answer. A refusal or failure told by the peer
// is an *Error. When ctx ends first the peer is told to stop and ctx's error is returned: whether
// the request was carried out is then unknown, as it is when the connection is lost.
func (c *Conn) RequestResponse(ctx context.Context, req Payload) (Payload, error) {
	if !payloadFits(req, c.limits.MaxSendFrameBytes) {
		return Payload{}, ErrPayloadTooLarge
	}
	a := &answer{conn: c, done: make(chan result, 1)}
	err := c.request(ctx, a, func(id uint32) outFrame {
		a.id = id
		return newFrame(id, core.FrameTypeRequestResponse, 0).withPayload(req).sealed()
	})
	if err != nil {
		return Payload{}, err
	}
	select {
	case r := <-a.done:
		return r.payload, r.err
	case <-ctx.Done():
		a.abort()
		select {
		case r := <-a.done: // it came in the same moment
			return r.payload, r.err
		default:
			return Payload{}, ctx.Err()
		}
	}
}

// FireAndForget sends a message without an answer. It waits only for room on a busy connection;
// nil means queued, not received.
func (c *Conn) FireAndForget(ctx context.Context, req Payload) error {
	if !payloadFits(req, c.limits.MaxSendFrameBytes) {
		return ErrPayloadTooLarge
	}
	return c.request(ctx, nil, func(id uint32) outFrame {
		return newFrame(id, core.FrameTypeRequestFNF, 0).withPayload(req).sealed()
	})
}

// abort tells the peer to stop, if it has not answered yet.
func (a *answer) abort() {
	c := a.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[a.id] == stream(a) {
		c.pushLocked(newFrame(a.id, core.FrameTypeCancel, 0).sealed())
		c.closeRequestLocked(a.id, a)
	}
}

// finish is called by the reader, once: the stream is off the table then.
func (a *answer) finish(r result) {
	a.conn.disassemble(&a.parts)
	a.conn.closeRequest(a.id, a)
	a.done <- r
}

func (a *answer) onPayload(f *inFrame, exclusive bool) {
	if !f.has(core.FlagFollow) && a.parts.size == 0 && !a.parts.hasMetadata {
		var p Payload // COMPLETE without NEXT is an empty answer
		if f.has(core.FlagNext) {
			p = f.owned(exclusive)
		}
		a.finish(result{payload: p})
		return
	}
	if !a.conn.assemble(&a.parts, f) {
		a.conn.disassemble(&a.parts)
		a.abort()
		a.done <- result{err: Errorf(CodeConnectionError, "fragments larger than this side accepts")}
		return
	}
	if !f.has(core.FlagFollow) {
		a.finish(result{payload: a.parts.payload()})
	}
}

func (a *answer) onError(e *Error) { a.finish(result{err: e}) }

func (a *answer) onEnd(err error) {
	a.conn.disassemble(&a.parts)
	a.done <- result{err: err}
}

func (a *answer) onRequestN(uint32) {}
func (a *answer) onCancel()         {}
