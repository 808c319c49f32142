package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

// consumer is what the provider remembers of one.
type consumer struct {
	id, stream  string
	incarnation uint64
	cursors     map[uint32]*streamv1.Position
	health      *consumerv1.Health
	kind        consumerv1.ConsumerKind
	commands    map[string]*deliveryv1.Reset // open ones; nil for those that have ended
	rewound     bool                         // until it attaches anew
}

func text(n uint64) string { return strconv.FormatUint(n, 10) }

// refusal makes err an ERROR frame that carries its fault.
func refusal(err error) error {
	f := fault.Of(err)
	data, jsonErr := json.Marshal(f)
	if jsonErr != nil {
		data = []byte(f.Error())
	}
	return &rsocket.Error{Code: rsocket.CodeApplication, Data: data}
}

func (p *Provider) accept(_ context.Context, setup rsocket.Setup, conn *rsocket.Conn) (rsocket.Responder, error) {
	var hello deliveryv1.Hello
	if err := proto.Unmarshal(setup.Payload.Data, &hello); err != nil {
		return nil, errors.New("SETUP does not carry a hello")
	}
	if _, err := protocol.Negotiate(protocol.Current, protocol.Version{Major: hello.GetMajor(), Minor: hello.GetMinor()}, "the consumer"); err != nil {
		data, jsonErr := json.Marshal(fault.Of(err))
		if jsonErr != nil {
			return nil, jsonErr
		}
		return nil, &rsocket.Error{Code: rsocket.CodeRejectedSetup, Data: data}
	}
	p.mu.Lock()
	p.conns[conn] = struct{}{}
	p.mu.Unlock()
	return &responder{p: p, conn: conn}, nil
}

// responder answers one connection.
type responder struct {
	p    *Provider
	conn *rsocket.Conn
}

// Closed forgets the connection.
func (r *responder) Closed(error) {
	r.p.mu.Lock()
	delete(r.p.conns, r.conn)
	r.p.mu.Unlock()
}

// RequestResponse answers describe, attach, detach and confirmed acknowledgements.
func (r *responder) RequestResponse(_ context.Context, req rsocket.Payload) (rsocket.Payload, error) {
	to, _ := composite.Route(req.Metadata) // none: an unknown route, refused below
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	var answer proto.Message
	var err error
	switch to {
	case protocol.RouteDescribe:
		answer, err = handle(req, r.p.describe)
	case protocol.RouteAttach:
		answer, err = handle(req, r.p.attach)
	case protocol.RouteDetach:
		answer, err = handle(req, r.p.detach)
	case protocol.RouteAck:
		answer, err = handle(req, r.p.ack)
	default:
		err = fault.New(fault.InvalidArgument, "there is no request-response route %q", to)
	}
	if err != nil {
		return rsocket.Payload{}, refusal(err)
	}
	data, err := proto.Marshal(answer)
	return rsocket.Payload{Data: data}, err
}

// handle decodes a request for the function that answers it.
func handle[Q any, P interface {
	*Q
	proto.Message
}, A proto.Message](req rsocket.Payload, answer func(P) (A, error)) (proto.Message, error) {
	q := P(new(Q))
	if err := decode(req, q); err != nil {
		return nil, err
	}
	return answer(q)
}

// FireAndForget takes acknowledgements and reports.
func (r *responder) FireAndForget(req rsocket.Payload) {
	to, _ := composite.Route(req.Metadata) // none: an unknown route, refused below
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	switch to { // what is refused here has nobody to tell
	case protocol.RouteAck:
		_, _ = handle(req, r.p.ack)
	case protocol.RouteStatus:
		_, _ = handle(req, r.p.report)
	}
}

func (p *Provider) describe(q *deliveryv1.DescribeRequest) (*deliveryv1.DescribeResponse, error) {
	s, err := p.streamLocked(q.GetStream())
	if err != nil {
		return nil, err
	}
	return &deliveryv1.DescribeResponse{Stream: s.wire(), Major: protocol.Current.Major, Minor: protocol.Current.Minor}, nil
}

func (p *Provider) attach(q *deliveryv1.AttachRequest) (*deliveryv1.AttachResponse, error) {
	s, err := p.streamLocked(q.GetStream())
	if err != nil {
		return nil, err
	}
	if err := lane.CheckName("consumer", q.GetConsumerId()); err != nil {
		return nil, err
	}
	name := q.GetStream() + "/" + q.GetConsumerId()
	c := p.consumers[name]
	if c == nil {
		c = &consumer{id: q.GetConsumerId(), stream: q.GetStream(), cursors: map[uint32]*streamv1.Position{}, commands: map[string]*deliveryv1.Reset{}}
		p.consumers[name] = c
	}
	c.incarnation++
	c.kind, c.rewound = q.GetKind(), false
	for _, l := range s.lanes { // the older incarnation is fenced
		for f := range l.followers {
			if f.consumer == name {
				f.out.Fail(refusal(fault.New(fault.ConsumerFenced, "consumer %q was attached by another process", c.id)))
			}
		}
	}
	return &deliveryv1.AttachResponse{Incarnation: c.incarnation, Cursors: c.wire(), Stream: s.wire()}, nil
}

func (c *consumer) wire() []*consumerv1.Cursor {
	var cursors []*consumerv1.Cursor
	for partition, at := range c.cursors {
		cursors = append(cursors, &consumerv1.Cursor{Partition: partition, Position: at})
	}
	return cursors
}

func (p *Provider) living(stream, id string, incarnation uint64) (*consumer, error) {
	c := p.consumers[stream+"/"+id]
	if c == nil {
		return nil, fault.New(fault.UnknownConsumer, "there is no consumer %q of stream %q", id, stream)
	}
	if c.incarnation != incarnation {
		return nil, fault.New(fault.ConsumerFenced, "consumer %q is in its life %d, this is %d", id, c.incarnation, incarnation)
	}
	return c, nil
}

func (p *Provider) detach(q *deliveryv1.DetachRequest) (*deliveryv1.DetachResponse, error) {
	_, err := p.living(q.GetStream(), q.GetConsumerId(), q.GetIncarnation())
	return &deliveryv1.DetachResponse{}, err
}

func (p *Provider) ack(q *deliveryv1.AckRequest) (*deliveryv1.AckResponse, error) {
	c, err := p.living(q.GetStream(), q.GetConsumerId(), q.GetIncarnation())
	if err != nil {
		return nil, err
	}
	for _, cursor := range q.GetCursors() {
		have := c.cursors[cursor.GetPartition()]
		at := cursor.GetPosition()
		if c.rewound {
			break
		}
		if have == nil || at.GetEpoch() > have.GetEpoch() || at.GetEpoch() == have.GetEpoch() && at.GetSequence() > have.GetSequence() {
			c.cursors[cursor.GetPartition()] = at
		}
	}
	return &deliveryv1.AckResponse{Cursors: c.wire()}, nil
}

func (p *Provider) report(q *deliveryv1.StatusRequest) (*deliveryv1.DetachResponse, error) {
	c, err := p.living(q.GetStream(), q.GetConsumerId(), q.GetIncarnation())
	if err == nil {
		c.health = q.GetHealth()
		for _, p := range c.health.GetResets() {
			c.ended(p)
		}
	}
	return &deliveryv1.DetachResponse{}, err
}

// ended forgets a command that has ended, and moves the cursors of a log consumer back that has done one.
func (c *consumer) ended(p *consumerv1.ResetProgress) {
	reset := c.commands[p.GetCommandId()]
	if reset == nil || p.GetState() < consumerv1.ResetState_RESET_STATE_DONE {
		return
	}
	c.commands[p.GetCommandId()] = nil
	if p.GetState() != consumerv1.ResetState_RESET_STATE_DONE || reset.GetDryRun() || c.kind != consumerv1.ConsumerKind_CONSUMER_KIND_LOG {
		return
	}
	for _, from := range p.GetFrom() {
		if have := c.cursors[from.GetPartition()]; have.GetSequence() >= from.GetPosition().GetSequence() {
			c.cursors[from.GetPartition()] = &streamv1.Position{Epoch: have.GetEpoch(), Sequence: from.GetPosition().GetSequence() - 1}
			c.rewound = true
		}
	}
}
