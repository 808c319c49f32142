package rsocket

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rsocket/rsocket-go/core"
)

const (
	// roundFrames and roundBytes bound what is taken from the streams before the socket has
	// taken it (I2).
	roundFrames = 256
	roundBytes  = 256 << 10
	// slowestPeerBytesPerSecond: a round gets at least the time it needs at this rate.
	slowestPeerBytesPerSecond = 64 << 10
)

// round is the memory of one writer while it runs.
type round struct{ frames, spare []outFrame }

var roundPool = sync.Pool{New: func() any { return &round{} }}

// dueLocked reports whether there is something to write, or a stream to ask.
func (c *Conn) dueLocked() bool {
	return len(c.queue) > 0 || c.echoDue || c.pingDue || c.ready != nil && !c.parting
}

// kickLocked starts the writer if there is something to do for it and none runs.
func (c *Conn) kickLocked() {
	if c.writing || c.ended || !c.dueLocked() && !c.parting {
		return
	}
	c.writing = true
	c.env.tasks.Add(1)
	go c.writeLoop()
}

// writeLoop writes rounds until there is nothing left. One runs at a time per connection.
func (c *Conn) writeLoop() {
	defer c.env.tasks.Done()
	r := roundPool.Get().(*round)
	for {
		bytes := c.gather(r)
		if len(r.frames) == 0 {
			break
		}
		c.armWrite(bytes)
		n, err := c.wire.write(r.frames)
		c.env.count.bytesOut.Add(n)
		c.env.count.framesOut.Add(int64(len(r.frames)))
		c.written(r, err)
	}
	r.frames, r.spare = r.frames[:0], r.spare[:0]
	roundPool.Put(r)
}

// gather fills r with the next round: the control queue, then the ready streams in turn. An empty
// round means that the writer has been stopped.
func (c *Conn) gather(r *round) (bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.frames = r.frames[:0]
	for !c.ended && !c.broken {
		if c.echoDue {
			r.frames = append(r.frames, keepaliveFrame(0, c.echo))
			c.echoDue, c.echo = false, nil
		}
		if c.pingDue {
			r.frames = append(r.frames, keepaliveFrame(core.FlagRespond, nil))
			c.pingDue = false
		}
		bytes = c.takeQueueLocked(r)
		// Turns that were answered Wait do not end a round that has nothing yet.
		for turn := 0; c.ready != nil && (turn < roundFrames || len(r.frames) == 0) && bytes < roundBytes && !c.parting && !c.ended; turn++ {
			if f, ok := c.pullLocked(c.popReadyLocked()); ok {
				r.frames = append(r.frames, f)
				bytes += f.size()
			}
		}
		// Asking the streams lets the lock go: what was queued meanwhile found a writer running, so it is this writer's to send.
		if len(r.frames) > 0 || !c.dueLocked() {
			break
		}
	}
	if len(r.frames) > 0 {
		return bytes
	}
	c.writing = false
	c.queue, c.queueBytes = nil, 0
	if c.writerGone != nil {
		close(c.writerGone)
		c.writerGone = nil
	}
	if c.parting && !c.ended && !c.wire.closeWrite() {
		c.ended = true
		close(c.quit)
		c.wire.close()
	}
	return 0
}

// takeQueueLocked moves the control queue into the round and leaves the round's spare slice.
func (c *Conn) takeQueueLocked(r *round) (bytes int) {
	q := c.queue
	c.queue, c.queueBytes = r.spare[:0], 0
	c.freeRoomLocked()
	for i := range q {
		f := &q[i]
		if in := f.credit; in != nil {
			n := in.takeCredit()
			if n == 0 {
				continue
			}
			*f = newFrame(in.id, core.FrameTypeRequestN, 0).withWord(n).sealed()
		}
		r.frames = append(r.frames, *f)
		bytes += f.size()
	}
	clear(q)
	r.spare = q[:0]
	return bytes
}

// armWrite sets the write deadline for a round, a quarter of the time-out at a time.
func (c *Conn) armWrite(bytes int) {
	now := time.Now()
	timeout := c.limits.WriteTimeout
	if bytes > roundBytes {
		timeout += time.Duration(bytes) * time.Second / slowestPeerBytesPerSecond
	}
	if c.armedUntil.Sub(now) >= timeout {
		return
	}
	c.armedUntil = now.Add(timeout + timeout/4)
	c.wire.setWriteDeadline(c.armedUntil)
}

// written ends a round: places of answered requests become free, references are dropped.
func (c *Conn) written(r *round, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range r.frames {
		if a := r.frames[i].answer; a != nil {
			c.releaseCallLocked(a)
		}
	}
	clear(r.frames)
	if err == nil {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrWriteTimeout
		c.env.count.timeouts.Add(1)
	}
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe) {
		err = io.EOF // the peer hung up; which side noticed first is no difference
	}
	// The peer may have said why it hung up: the reader looks for that before the end.
	c.broken = true
	if errors.Is(err, ErrWriteTimeout) && !c.ended {
		if c.err == nil {
			c.err = err
		}
		c.ended = true
		c.setDrainingLocked()
		c.freeRoomLocked()
		close(c.quit)
		c.wire.close()
		return
	}
	c.partLocked(err)
}
