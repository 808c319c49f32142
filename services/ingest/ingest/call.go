package ingest

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/intake"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// maxUnanswered bounds the requests of one call that were read and not answered, beside their bytes.
const maxUnanswered = 1024

// publishCall is one PublishStream call: the handler answers, beside it a goroutine reads.
type publishCall struct {
	server  *server
	call    grpc.BidiStreamingServer[ingestv1.PublishRequest, ingestv1.PublishResponse]
	ctx     context.Context // the call's; ends when the handler returns
	pass    grants.Pass
	session outbox.Session
	// window is what may still be read ahead, in bytes.
	window     *semaphore.Weighted
	unanswered chan flight
	// taking is held from the reading of a request until it is among the unanswered.
	taking sync.Mutex
	// readErr says why reading ended; it may be looked at when unanswered is closed.
	readErr error
}

// flight is a request on its way, and what it holds of the window.
type flight struct {
	request *intake.Request
	bytes   int64
}

// read takes requests until the producer has no more, the call ends, or its session is broken.
func (c *publishCall) read() {
	defer close(c.unanswered)
	for !c.session.Broken() { // I3
		r, err := c.call.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.readErr = err
			}
			return
		}
		if c.take(r) != nil {
			return
		}
	}
}

// take hands a request on. It waits while there is no room, so that nothing is read meanwhile (I4); an error says that the call ended.
func (c *publishCall) take(r *ingestv1.PublishRequest) error {
	c.taking.Lock()
	defer c.taking.Unlock()
	q := c.server.in.Take(c.ctx, intake.FromProto(r, c.pass, &c.session), outbox.Endless)
	if err := q.Err(); err != nil && fault.ReasonOf(err).Temporary() {
		c.session.Break()
	}
	f := flight{request: q, bytes: min(q.CostBytes(), c.server.cfg.StreamReadAheadBytes)}
	if err := c.window.Acquire(c.ctx, f.bytes); err != nil {
		return err
	}
	select {
	case c.unanswered <- f:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// drained reports whether every request read was answered. Only answer calls it, between two answers: the window is free then, so
// take does not wait for the caller.
func (c *publishCall) drained() bool {
	if len(c.unanswered) > 0 {
		return false
	}
	c.taking.Lock()
	defer c.taking.Unlock()
	return len(c.unanswered) == 0
}

// answer sends the answers, in order. After a temporary failure (I3), and when the service stops, it answers what was read and ends
// the call.
func (c *publishCall) answer() error {
	for {
		select {
		case f, more := <-c.unanswered:
			if !more {
				if c.session.Broken() {
					return errBroken()
				}
				return c.readErr
			}
			select {
			case <-f.request.Done():
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
			if err := c.call.Send(c.server.respond(f.request)); err != nil {
				return err
			}
			c.window.Release(f.bytes)
			if c.session.Broken() && c.drained() {
				return errBroken()
			}
		case <-c.server.stopping:
			if c.drained() {
				return fault.New(fault.Unavailable, "the service is stopping; open another call and send again from the first record without an answer")
			}
		}
	}
}

func errBroken() error {
	return fault.New(fault.Unavailable, "a record of this call failed for a temporary reason, so what was behind it was not sent; open another call and send again from the first record without a sequence")
}
