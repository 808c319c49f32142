package rsocket

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

// readLoop reads until the connection ends and returns why. It is the connection's one goroutine
// that lives as long as the connection.
func (c *Conn) readLoop() error {
	for {
		if !c.wire.buffered() {
			c.countIn()
			c.armRead()
		}
		raw, exclusive, err := c.wire.next(c.limits.MaxFrameBytes)
		if err != nil {
			return c.readFailed(err, ErrLifetime)
		}
		c.inFrames++
		c.inBytes += int64(len(raw))
		f, err := parseFrame(raw)
		if err == nil {
			if e := c.dispatch(&f, exclusive); e != nil {
				c.refuse(e)
			}
			err = c.waitForRoom()
		} else {
			c.refuse(Errorf(CodeConnectionError, "malformed frame"))
			err = nil
		}
		if err != nil {
			return err
		}
	}
}

// readFailed turns an error of the wire into why the connection ended. A frame that this side
// does not take is answered first; the peer's bytes after it cannot be read any more.
func (c *Conn) readFailed(err error, timedOut error) error {
	switch {
	case errors.Is(err, errFrameTooLarge):
		c.refuse(Errorf(CodeConnectionError, "frame larger than %d bytes", c.limits.MaxFrameBytes))
	case errors.Is(err, errMalformed):
		c.refuse(Errorf(CodeConnectionError, "malformed frame length"))
	case errors.Is(err, errBudgetSpent):
		c.refuse(Errorf(CodeConnectionError, "out of memory for large frames, try again later"))
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.mu.Lock()
		parting := c.parting
		c.mu.Unlock()
		if !parting {
			c.env.count.timeouts.Add(1)
			return timedOut
		}
		return err
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return err
	}
	c.linger()
	return err
}

// linger throws away what the peer still sends, until it hangs up or lingerTimeout has passed:
// closing with unread bytes would reset the connection and with it our last words.
func (c *Conn) linger() {
	buf := takeBuffer(readBufferIdleBytes)
	defer giveBuffer(buf)
	for left := lingerMaxBytes; left > 0; {
		n, err := c.wire.socket().Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// armRead moves the read deadline, an eighth of the lifetime at a time so that a busy connection
// does not pay for it. It is called only between frames: a peer that sends one byte now and then
// does not gain time (I6).
func (c *Conn) armRead() {
	now := time.Now()
	if now.Before(c.nextArm) {
		return
	}
	c.mu.Lock()
	if !c.parting {
		c.wire.setReadDeadline(now.Add(c.lifetime + c.lifetime/8))
	}
	c.mu.Unlock()
	c.nextArm = now.Add(c.lifetime / 8)
}

func (c *Conn) countIn() {
	if c.inFrames > 0 {
		c.env.count.framesIn.Add(c.inFrames)
		c.env.count.bytesIn.Add(c.inBytes + c.inFrames*lengthBytes)
		c.inFrames, c.inBytes = 0, 0
	}
}

// dispatch acts on one frame. An *Error ends the connection with it.
func (c *Conn) dispatch(f *inFrame, exclusive bool) *Error {
	c.mu.Lock()
	parting := c.parting
	s := c.streams[f.id] // nil for stream 0
	c.mu.Unlock()
	if parting && (f.id != 0 || f.typ != core.FrameTypeError) {
		return nil
	}
	switch f.typ {
	case core.FrameTypeKeepalive:
		if f.id != 0 {
			return Errorf(CodeConnectionError, "KEEPALIVE on stream %d", f.id)
		}
		if f.has(core.FlagRespond) {
			c.sendEcho(f.body[keepaliveFixedBytes:])
		}
		return nil
	case core.FrameTypeRequestResponse, core.FrameTypeRequestFNF, core.FrameTypeRequestStream, core.FrameTypeRequestChannel:
		return c.onRequest(f, s, exclusive)
	case core.FrameTypePayload, core.FrameTypeRequestN, core.FrameTypeCancel, core.FrameTypeError:
		if f.id == 0 {
			if f.typ == core.FrameTypeError {
				c.onConnectionError(&Error{Code: ErrorCode(f.word), Data: append([]byte(nil), f.data...)})
				return nil
			}
			return Errorf(CodeConnectionError, "%s on stream 0", f.typ)
		}
		if s == nil {
			return nil // the stream has ended here and its last frames crossed: legal, and all there is to it
		}
		switch f.typ {
		case core.FrameTypePayload:
			s.onPayload(f, exclusive)
		case core.FrameTypeRequestN:
			s.onRequestN(f.word)
		case core.FrameTypeCancel:
			s.onCancel()
		case core.FrameTypeError:
			s.onError(&Error{Code: ErrorCode(f.word), Data: append([]byte(nil), f.data...)})
		}
		return nil
	case core.FrameTypeMetadataPush, core.FrameTypeLease:
		c.env.count.ignored.Add(1)
		return nil
	case core.FrameTypeSetup:
		return Errorf(CodeInvalidSetup, "SETUP may come only once and only first")
	case core.FrameTypeResume:
		return Errorf(CodeRejectedResume, "resuming a connection is not supported")
	}
	if f.has(core.FlagIgnore) {
		c.env.count.ignored.Add(1)
		return nil
	}
	return Errorf(CodeConnectionError, "frame type 0x%02x is not supported", uint8(f.typ))
}

// onConnectionError: the peer ends the connection, at once or after the running streams.
func (c *Conn) onConnectionError(e *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Code == CodeConnectionClose {
		c.setDrainingLocked()
		c.restLocked()
		return
	}
	if !c.ended {
		c.err = e // what the peer says is a better reason than what the socket says
	}
	c.broken = true // it will not read any more
	c.partLocked(e)
}

// onRequest opens what the peer asks for, or refuses it on its stream.
func (c *Conn) onRequest(f *inFrame, open stream, exclusive bool) *Error {
	if f.id == 0 || f.id&1 == 0 != c.client {
		return Errorf(CodeConnectionError, "stream id %d is not the peer's to open", f.id)
	}
	if open != nil {
		return Errorf(CodeConnectionError, "stream %d is already open", f.id)
	}
	c.env.count.requests.Add(1)
	if f.typ == core.FrameTypeRequestChannel {
		c.reject(f.id, CodeRejected, "request-channel is not supported: use request-stream and fire-and-forget")
		return nil
	}
	if f.typ == core.FrameTypeRequestStream && (f.word == 0 || f.word > maxCredit) {
		c.reject(f.id, CodeInvalid, "initial request N must be 1 to 2^31-1")
		return nil
	}
	if f.has(core.FlagFollow) {
		c.startPartial(f)
		return nil
	}
	c.open(f.id, f.typ, f.word, f.owned(exclusive))
	return nil
}

// open starts a whole request. req is the application's.
func (c *Conn) open(id uint32, typ core.FrameType, credit uint32, req Payload) {
	c.mu.Lock()
	draining := c.draining
	c.mu.Unlock()
	switch {
	case c.responder == nil:
		c.rejectUnless(typ, id, "this side answers no requests")
	case draining:
		c.rejectUnless(typ, id, "the connection is closing; connect again")
	case typ == core.FrameTypeRequestFNF:
		c.guard("FireAndForget", func() { c.responder.FireAndForget(req) })
	case typ == core.FrameTypeRequestResponse:
		c.startCall(id, req)
	default:
		c.startOutbound(id, credit, req)
	}
}

// rejectUnless refuses a request that has an answer.
func (c *Conn) rejectUnless(typ core.FrameType, id uint32, why string) {
	if typ != core.FrameTypeRequestFNF {
		c.reject(id, CodeRejected, why)
	}
}

func (c *Conn) reject(id uint32, code ErrorCode, why string) {
	c.env.count.rejected.Add(1)
	c.sendError(id, &Error{Code: code, Data: []byte(why)})
}

// waitForRoom holds the reader while the control queue is full: a peer that asks without reading
// answers stops being read (I2, I7). The write deadline ends it if the peer never reads.
func (c *Conn) waitForRoom() error {
	for {
		c.mu.Lock()
		if c.ended {
			err := c.err
			c.mu.Unlock()
			return err
		}
		if c.hasRoomLocked() || c.parting {
			c.mu.Unlock()
			return nil
		}
		room := c.roomLocked()
		c.mu.Unlock()
		<-room
	}
}
