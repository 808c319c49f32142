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

// vouch refuses cursors that were never committed (I4). Storage is asked only about what this gateway has not seen itself.
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
	return nil
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
