package gateway

import (
	"context"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/acks"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/feed"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

// maxVouching bounds the acks of one connection that storage is being asked about; acks are cumulative, so a dropped one is made
// good by the next.
const maxVouching = 4

// passOn forwards an ack nobody waits for. It must not block: what cannot be vouched for at once is done by a task.
func (c *connection) passOn(a acks.Ack) error {
	if err := c.delivered(a.Session, a.Cursors); err != nil {
		return err
	}
	if c.s.committed(a.Session.Key.Stream, a.Cursors) {
		return c.s.acks.Send(a)
	}
	c.mu.Lock()
	if c.closed || c.vouching >= maxVouching {
		c.mu.Unlock()
		return fault.New(fault.Overloaded, "%d acknowledgements of this connection are being checked; this one was dropped", maxVouching)
	}
	c.vouching++
	c.mu.Unlock()
	c.s.task(func(context.Context) {
		ctx, cancel := context.WithTimeout(c.ctx, openTimeout)
		defer cancel()
		err := c.vouch(ctx, a.Session, a.Cursors)
		if err == nil {
			err = c.s.acks.Send(a)
		}
		if err != nil {
			c.s.metrics.droppedAcks.Inc()
			c.s.log.Debug("an acknowledgement was dropped", "peer", c.peer, "error", c.s.metrics.refusal(err))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.vouching--
	})
	return nil
}

// vouch refuses cursors that were never committed, or not delivered (I4). Storage is asked only about what this gateway has not seen itself.
func (c *connection) vouch(ctx context.Context, one *session.Session, cursors []*consumerv1.Cursor) error {
	for _, cursor := range cursors {
		if c.s.committed(one.Key.Stream, []*consumerv1.Cursor{cursor}) {
			continue
		}
		f, release, err := c.s.feeds.Open(ctx, lane.ID{Stream: one.Key.Stream, Partition: lane.Partition(cursor.GetPartition())})
		if err != nil {
			return err
		}
		at, err := c.s.feeds.Refresh(ctx, f)
		release()
		if err != nil {
			return err
		}
		at.Tail = max(at.Tail, f.Held().Sequence) // what came in since then
		switch p := cursor.GetPosition(); {
		case lane.Epoch(p.GetEpoch()) != at.Epoch:
			return feed.EpochMismatch(at.Lane, lane.Epoch(p.GetEpoch()), at.Epoch)
		case lane.Sequence(p.GetSequence()) > at.Tail:
			return fault.New(fault.AheadOfTail, "the acknowledged sequence %d is ahead of the tail %d of stream %q, partition %d; nothing was stored: it belongs to another stream, or acknowledged records were lost",
				p.GetSequence(), at.Tail, one.Name, at.Lane.Partition).With("tail", feed.Text(at.Tail))
		}
	}
	return c.delivered(one, cursors)
}

// delivered refuses cursors above what this incarnation was sent here, or said it has when it subscribed (I4).
func (c *connection) delivered(one *session.Session, cursors []*consumerv1.Cursor) error {
	for _, cursor := range cursors {
		id, at := lane.ID{Stream: one.Key.Stream, Partition: lane.Partition(cursor.GetPartition())}, positionOf(cursor)
		if at.Sequence == 0 || one.Reach.Covers(id, at) || c.reach.Covers(id, at) {
			continue
		}
		return fault.New(fault.InvalidArgument, "the acknowledged position %v of stream %q, partition %d is beyond %v, up to which incarnation %d of consumer %q was taken on this connection; nothing was stored: subscribe after what you have, then acknowledge",
			at, one.Name, id.Partition, furthest(one.Reach.At(id), c.reach.At(id)), one.Incarnation, one.Key.Consumer)
	}
	return nil
}

func furthest(a, b lane.Position) lane.Position {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

func positionOf(c *consumerv1.Cursor) lane.Position {
	return lane.Position{Epoch: lane.Epoch(c.GetPosition().GetEpoch()), Sequence: lane.Sequence(c.GetPosition().GetSequence())}
}

// committed reports whether every cursor is known here to be within its lane.
func (s *Service) committed(stream lane.StreamID, cursors []*consumerv1.Cursor) bool {
	for _, c := range cursors {
		p := c.GetPosition()
		if p.GetSequence() == 0 {
			continue
		}
		f, ok := s.feeds.Followed(lane.ID{Stream: stream, Partition: lane.Partition(c.GetPartition())})
		if !ok {
			return false
		}
		if held := f.Held(); lane.Epoch(p.GetEpoch()) != held.Epoch || lane.Sequence(p.GetSequence()) > held.Sequence {
			return false
		}
	}
	return true
}
