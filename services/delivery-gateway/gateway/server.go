package gateway

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/acks"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/envelope"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/refusal"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

// RequestResponse answers describe, attach, detach and a confirmed ack.
func (c *connection) RequestResponse(ctx context.Context, req rsocket.Payload) (rsocket.Payload, error) {
	answer, err := c.respond(ctx, req)
	if err != nil {
		return rsocket.Payload{}, refusal.Of(c.s.metrics.refusal(err))
	}
	data, err := proto.Marshal(answer)
	if err != nil {
		return rsocket.Payload{}, refusal.Of(fault.New(fault.Internal, "encoding an answer: %w", err))
	}
	return rsocket.Payload{Data: data}, nil
}

func (c *connection) respond(ctx context.Context, req rsocket.Payload) (proto.Message, error) {
	route, err := c.route(req)
	if err != nil {
		return nil, err
	}
	switch route {
	case protocol.RouteDescribe:
		in := new(deliveryv1.DescribeRequest)
		if err := decode(req, in); err != nil {
			return nil, err
		}
		return c.describe(ctx, in)
	case protocol.RouteAttach:
		in := new(deliveryv1.AttachRequest)
		if err := decode(req, in); err != nil {
			return nil, err
		}
		return c.attach(ctx, in)
	case protocol.RouteDetach:
		in := new(deliveryv1.DetachRequest)
		if err := decode(req, in); err != nil {
			return nil, err
		}
		return c.detach(ctx, in)
	case protocol.RouteAck:
		in := new(deliveryv1.AckRequest)
		if err := decode(req, in); err != nil {
			return nil, err
		}
		return c.confirm(ctx, in)
	}
	return nil, unknownRoute(route, "request-response")
}

// FireAndForget takes acks and health. What cannot be taken is counted: there is nobody to answer.
func (c *connection) FireAndForget(req rsocket.Payload) {
	if err := c.take(req); err != nil {
		c.s.metrics.droppedAcks.Inc()
		c.s.log.Debug("a message without an answer was dropped", "peer", c.peer, "error", c.s.metrics.refusal(err))
	}
}

func (c *connection) take(req rsocket.Payload) error {
	route, err := c.route(req)
	if err != nil {
		return err
	}
	switch route {
	case protocol.RouteAck:
		in := new(deliveryv1.AckRequest)
		if err := decode(req, in); err != nil {
			return err
		}
		one, err := c.sessionOf(in.GetStream(), in.GetConsumerId(), in.GetIncarnation())
		if err != nil {
			return err
		}
		return c.passOn(acks.Ack{Session: one, Cursors: in.GetCursors()})
	case protocol.RouteStatus:
		in := new(deliveryv1.StatusRequest)
		if err := decode(req, in); err != nil {
			return err
		}
		one, err := c.sessionOf(in.GetStream(), in.GetConsumerId(), in.GetIncarnation())
		if err != nil || in.GetHealth() == nil {
			return err
		}
		if err := c.s.hear(one, in.GetHealth()); err != nil {
			return err
		}
		return c.s.acks.Send(acks.Ack{Session: one, Health: in.GetHealth()})
	}
	return unknownRoute(route, "fire-and-forget")
}

func (c *connection) describe(ctx context.Context, in *deliveryv1.DescribeRequest) (*deliveryv1.DescribeResponse, error) {
	name := lane.StreamName(in.GetStream())
	if err := c.pass.Check(grants.Read, name); err != nil {
		return nil, err
	}
	stream, err := c.known(c.s.streams.Fresh(ctx, name))
	if err != nil {
		return nil, err
	}
	return &deliveryv1.DescribeResponse{Stream: stream, Major: protocol.Current.Major, Minor: protocol.Current.Minor}, nil
}

func (c *connection) attach(ctx context.Context, in *deliveryv1.AttachRequest) (*deliveryv1.AttachResponse, error) {
	name := lane.StreamName(in.GetStream())
	if err := c.pass.Check(grants.Read, name); err != nil {
		return nil, err
	}
	if err := lane.CheckName("consumer", in.GetConsumerId()); err != nil {
		return nil, err
	}
	stream, err := c.known(c.s.streams.Fresh(ctx, name))
	if err != nil {
		return nil, err
	}
	answer, err := c.s.consumers.Attach(ctx, &consumerv1.AttachRequest{
		Stream: in.GetStream(), StreamId: stream.GetId(), ConsumerId: in.GetConsumerId(), Kind: in.GetKind(),
		Client: c.client + " " + c.peer, Gateway: c.s.cfg.Name,
	})
	if err != nil {
		return nil, err
	}
	one := &session.Session{
		Key:  session.Key{Stream: lane.StreamID(stream.GetId()), Consumer: lane.ConsumerID(in.GetConsumerId())},
		Name: name, Incarnation: lane.Incarnation(answer.GetIncarnation()), Owner: c,
	}
	for _, kept := range answer.GetCursors() {
		one.Reach.Raise(lane.ID{Stream: one.Key.Stream, Partition: lane.Partition(kept.GetPartition())}, positionOf(kept))
	}
	if err := c.s.sessions.Attach(one); err != nil {
		return nil, err
	}
	if err := c.attached(one); err != nil {
		c.s.sessions.Leave(one)
		return nil, err
	}
	for _, o := range c.s.resets.Open(one.Key) {
		c.s.command(o)
	}
	return &deliveryv1.AttachResponse{Incarnation: answer.GetIncarnation(), Cursors: answer.GetCursors(), Stream: stream}, nil
}

func (c *connection) detach(ctx context.Context, in *deliveryv1.DetachRequest) (*deliveryv1.DetachResponse, error) {
	one, err := c.sessionOf(in.GetStream(), in.GetConsumerId(), in.GetIncarnation())
	if err != nil {
		return nil, err
	}
	c.detached(one)
	if c.s.sessions.Leave(one) {
		c.s.resets.Forget(one.Key)
	}
	if _, err := c.s.consumers.Detach(ctx, detachOf(one)); err != nil {
		return nil, err
	}
	return &deliveryv1.DetachResponse{}, nil
}

func (c *connection) confirm(ctx context.Context, in *deliveryv1.AckRequest) (*deliveryv1.AckResponse, error) {
	one, err := c.sessionOf(in.GetStream(), in.GetConsumerId(), in.GetIncarnation())
	if err != nil {
		return nil, err
	}
	if err := c.vouch(ctx, one, in.GetCursors()); err != nil {
		return nil, err
	}
	kept, err := c.s.acks.Confirm(ctx, acks.Ack{Session: one, Cursors: in.GetCursors()})
	if err != nil {
		return nil, err
	}
	return &deliveryv1.AckResponse{Cursors: kept}, nil
}

// route finds and counts the route of a request.
func (c *connection) route(req rsocket.Payload) (string, error) {
	route, err := envelope.Route(req.Metadata)
	if err != nil {
		return "", err
	}
	if slices.Contains(routes, route) {
		c.s.metrics.requests.WithLabelValues(route).Inc()
	}
	return route, nil
}

// routes are all there are.
var routes = []string{
	protocol.RouteDescribe, protocol.RouteAttach, protocol.RouteDetach, protocol.RouteSubscribe, protocol.RouteRange,
	protocol.RouteSnapshot, protocol.RouteChunks, protocol.RouteChanges, protocol.RouteSketch, protocol.RouteRows, protocol.RouteAck, protocol.RouteStatus,
}

func decode(req rsocket.Payload, into proto.Message) error {
	if err := proto.Unmarshal(req.Data, into); err != nil {
		return fault.New(fault.Malformed, "the request does not decode as %s: %w", into.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

func unknownRoute(route, kind string) error {
	return fault.New(fault.InvalidArgument, "there is no route %.100q for %s; protocol %v has %s", route, kind, protocol.Current, strings.Join(routes, ", "))
}
