package gateway

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/feed"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/reach"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/refusal"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/streams"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/subscription"
)

// RequestStream opens subscribe, range and what resynchronises. It runs on the connection's reader, so whatever asks another service is done by
// a task of its own; the engine bounds the streams, and with them the tasks, of a connection.
func (c *connection) RequestStream(req rsocket.Payload, out *rsocket.Outbound) (rsocket.Source, error) {
	source, err := c.open(req, out)
	if err != nil {
		return nil, refusal.Of(c.s.metrics.refusal(err))
	}
	return source, nil
}

func (c *connection) open(req rsocket.Payload, out *rsocket.Outbound) (rsocket.Source, error) {
	route, err := c.route(req)
	if err != nil {
		return nil, err
	}
	switch route {
	case protocol.RouteSubscribe:
		return decoded(req, out, c.subscribe)
	case protocol.RouteRange:
		return decoded(req, out, c.rangeOf)
	case protocol.RouteSnapshot:
		return decoded(req, out, c.snapshot)
	case protocol.RouteChunks:
		return decoded(req, out, c.chunks)
	case protocol.RouteChanges:
		return decoded(req, out, c.changes)
	case protocol.RouteSketch:
		return decoded(req, out, c.sketch)
	case protocol.RouteRows:
		return decoded(req, out, c.rows)
	}
	return nil, unknownRoute(route, "request-stream")
}

// decoded answers a request by its message.
func decoded[T any, M interface {
	*T
	proto.Message
}](req rsocket.Payload, out *rsocket.Outbound, answer func(M, *rsocket.Outbound) (rsocket.Source, error)) (rsocket.Source, error) {
	in := M(new(T))
	if err := decode(req, in); err != nil {
		return nil, err
	}
	return answer(in, out)
}

func (c *connection) subscribe(in *deliveryv1.SubscribeRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	if err := c.pass.Check(grants.Read, lane.StreamName(in.GetStream())); err != nil {
		return nil, err
	}
	window := c.s.cfg.WindowBytes
	if in.GetWindowBytes() > 0 {
		window = int64(min(in.GetWindowBytes(), uint64(c.s.cfg.MaxWindowBytes)))
	}
	sub := subscription.New(out, window, func(records, bytes int) {
		c.s.delivered.Add(1)
		c.s.metrics.delivered(records, bytes)
	})
	mark := &c.reach
	said := lane.Position{Epoch: lane.Epoch(in.GetAfter().GetEpoch()), Sequence: lane.Sequence(in.GetAfter().GetSequence())}
	if in.GetIncarnation() != 0 {
		one, err := c.sessionOf(in.GetStream(), in.GetConsumerId(), in.GetIncarnation())
		if err != nil {
			return nil, err
		}
		leave, err := c.s.sessions.Join(one, &session.Member{Fail: sub.Fail, Tell: func(r *deliveryv1.Reset) {
			sub.Insert(r.GetCommandId(), inBand(in.GetPartition(), r))
		}})
		if err != nil {
			return nil, err
		}
		sub.OnClose(leave)
		mark = &one.Reach
		// At once, so that an ack behind this request finds it: what a connection before this one delivered may be acknowledged here.
		mark.Raise(lane.ID{Stream: one.Key.Stream, Partition: lane.Partition(in.GetPartition())}, said)
	}
	return sub, c.begin(sub, in.GetStream(), in.GetPartition(), func(ctx context.Context, f *feed.Feed) (subscription.Reading, error) {
		after := said
		if in.GetFromTail() {
			at, err := c.s.feeds.Refresh(ctx, f)
			if err != nil {
				return subscription.Reading{}, err
			}
			after = lane.Position{Epoch: at.Epoch, Sequence: at.Tail}
		}
		after, err := c.settle(ctx, f, after)
		if err == nil {
			mark.Raise(f.Lane(), after)
		}
		return subscription.Reading{After: after, Sent: raise(mark, f.Lane(), after.Epoch)}, err
	})
}

func (c *connection) rangeOf(in *deliveryv1.RangeRequest, out *rsocket.Outbound) (rsocket.Source, error) {
	if err := c.pass.Check(grants.Read, lane.StreamName(in.GetStream())); err != nil {
		return nil, err
	}
	if in.GetFrom() == 0 || in.GetUntil() != 0 && in.GetUntil() < in.GetFrom() {
		return nil, fault.New(fault.InvalidArgument, "[%d, %d) is not a range: sequences begin at 1, and until is exclusive", in.GetFrom(), in.GetUntil())
	}
	sub := subscription.New(out, c.s.cfg.WindowBytes, c.s.metrics.delivered)
	return sub, c.begin(sub, in.GetStream(), in.GetPartition(), func(ctx context.Context, f *feed.Feed) (subscription.Reading, error) {
		if in.GetUntil() == 0 || lane.Sequence(in.GetUntil()) > f.Standing().Tail+1 {
			if _, err := c.s.feeds.Refresh(ctx, f); err != nil {
				return subscription.Reading{}, err
			}
		}
		after, err := c.settle(ctx, f, lane.Position{Epoch: lane.Epoch(in.GetEpoch()), Sequence: lane.Sequence(in.GetFrom() - 1)})
		until := f.Standing().Tail + 1
		if in.GetUntil() != 0 {
			until = min(until, lane.Sequence(in.GetUntil()))
		}
		return subscription.Reading{After: after, Until: until, Sent: raise(&c.reach, f.Lane(), after.Epoch)}, err
	})
}

// known keeps the names of streams that the caller has no right to out of an answer about an unknown one (I5).
func (c *connection) known(stream *streamv1.Stream, err error) (*streamv1.Stream, error) {
	if errors.Is(err, fault.UnknownStream) && !c.pass.Sees(lane.StreamName(fault.Of(err).Detail("near"))) {
		return nil, fault.New(fault.UnknownStream, "the stream is not found; `lockstep stream list` shows those that are")
	}
	return stream, err
}

// raise makes what a reading tells of everything it sends.
func raise(mark *reach.Marks, id lane.ID, epoch lane.Epoch) func(lane.Sequence) {
	return func(last lane.Sequence) { mark.Raise(id, lane.Position{Epoch: epoch, Sequence: last}) }
}

// begin opens the lane in a task, asks where to read, and starts sub.
func (c *connection) begin(sub *subscription.Subscription, stream string, partition uint32, where func(context.Context, *feed.Feed) (subscription.Reading, error)) error {
	sub.OnClose(c.s.book.Watch(c.pass, grants.Read, lane.StreamName(stream), sub.Fail)) // I5
	started := c.s.task(func(context.Context) {
		ctx, cancel := context.WithTimeout(c.ctx, openTimeout)
		defer cancel()
		f, release, err := c.lane(ctx, stream, partition)
		if err != nil {
			sub.Fail(c.s.metrics.refusal(err))
			return
		}
		r, err := where(ctx, f)
		if err != nil {
			release()
			sub.Fail(c.s.metrics.refusal(err))
			return
		}
		r.Feed, r.Release, r.Older = f, release, c.s.older
		sub.Begin(r)
	})
	if !started {
		sub.Closed()
		return stopping()
	}
	return nil
}

func (c *connection) lane(ctx context.Context, name string, partition uint32) (*feed.Feed, func(), error) {
	stream, err := c.known(c.s.streams.Get(ctx, lane.StreamName(name)))
	if err != nil {
		return nil, nil, err
	}
	id, err := streams.Lane(stream, partition)
	if err != nil {
		return nil, nil, err
	}
	return c.s.feeds.Open(ctx, id)
}

// settle checks a position against the lane. What this gateway has not heard of yet may be true all the same: storage is asked before
// a position is refused. Epoch 0, and sequence 0 of any epoch, take the lane's.
func (c *connection) settle(ctx context.Context, f *feed.Feed, after lane.Position) (lane.Position, error) {
	at := f.Standing()
	if after.Epoch > at.Epoch || after.Sequence > at.Tail {
		if _, err := c.s.feeds.Refresh(ctx, f); err != nil {
			return after, err
		}
		at = f.Standing()
	}
	if after.Epoch == 0 || after.Sequence == 0 {
		after.Epoch = at.Epoch
	}
	switch {
	case after.Epoch != at.Epoch:
		return after, feed.EpochMismatch(f.Lane(), after.Epoch, at.Epoch)
	case after.Sequence > at.Tail:
		return after, fault.New(fault.AheadOfTail, "the position %v is ahead of the tail %d of stream %q, partition %d: it belongs to another stream, or acknowledged records were lost",
			after, at.Tail, f.Stream(), f.Lane().Partition).With("tail", feed.Text(at.Tail))
	}
	return after, nil
}

func stopping() error {
	return fault.New(fault.Unavailable, "the gateway is stopping: connect to another")
}
