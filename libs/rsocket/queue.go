package rsocket

import "context"

// pushLocked puts a frame on the control queue whatever its length: the caller is bounded by
// something else (outstanding calls, open streams) or has waited for room.
func (c *Conn) pushLocked(f outFrame) {
	if c.ended || c.broken {
		if f.answer != nil {
			c.releaseCallLocked(f.answer)
		}
		return
	}
	c.queue = append(c.queue, f)
	c.queueBytes += f.size()
	c.kickLocked()
}

func (c *Conn) hasRoomLocked() bool {
	return len(c.queue) < c.limits.MaxQueuedFrames && c.queueBytes < c.limits.MaxQueuedBytes
}

// roomLocked returns a channel that is closed when the queue was taken or the connection ends.
func (c *Conn) roomLocked() <-chan struct{} {
	if c.room == nil {
		c.room = make(chan struct{})
	}
	return c.room
}

func (c *Conn) freeRoomLocked() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

func (c *Conn) sendError(id uint32, e *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.parting {
		c.pushLocked(errorFrame(id, e))
	}
}

// sendEcho answers a KEEPALIVE. Answers that wait become one, so that a flood cannot queue up.
func (c *Conn) sendEcho(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.echo, c.echoDue = append([]byte(nil), data...), true
	c.kickLocked()
}

// request waits for room, then gives the next stream id to build and queues what it returns. When
// s is not nil it becomes that stream. Ids therefore rise on the wire.
func (c *Conn) request(ctx context.Context, s stream, build func(id uint32) outFrame) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	for {
		switch {
		case c.ended || c.parting:
			err := c.err
			c.mu.Unlock()
			return err
		case c.draining:
			c.mu.Unlock()
			return ErrDraining
		case c.nextID > maxStreamID:
			c.mu.Unlock()
			return ErrStreamIDsUsedUp
		case s != nil && c.requests >= c.limits.MaxRequests:
			c.mu.Unlock()
			return ErrTooManyRequests
		}
		if c.hasRoomLocked() {
			break
		}
		room := c.roomLocked()
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
	}
	id := c.nextID
	c.nextID += 2
	f := build(id)
	if s != nil {
		c.requests++
		c.putLocked(id, s)
	}
	c.pushLocked(f)
	c.mu.Unlock()
	return nil
}

// closeRequest takes an own request off the table; false if it was gone already.
func (c *Conn) closeRequest(id uint32, s stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeRequestLocked(id, s)
}

func (c *Conn) closeRequestLocked(id uint32, s stream) bool {
	if c.streams[id] != s {
		return false
	}
	c.requests--
	c.removeLocked(id)
	return true
}
