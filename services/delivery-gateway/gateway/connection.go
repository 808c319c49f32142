package gateway

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/envelope"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/reach"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/refusal"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

// connection is one consumer process, over whatever transport it came. It is an rsocket.Responder.
type connection struct {
	s       *Service
	pass    grants.Pass
	client  string
	peer    string
	version protocol.Version
	// reach is how far readings that name no incarnation (range, bootstrap, an anonymous subscription) took this process.
	reach reach.Marks

	ctx    context.Context // ends with the connection; openings of streams live under it
	cancel context.CancelFunc

	mu       sync.Mutex // protects what follows
	sessions map[session.Key]*session.Session
	closed   bool
	vouching int // tasks that ask storage about an ack

	sent sent
}

// accept decides about SETUP: the Hello, the versions, the credentials.
func (s *Service) accept(_ context.Context, setup rsocket.Setup, conn *rsocket.Conn) (rsocket.Responder, error) {
	c, err := s.greet(setup)
	if err != nil {
		return nil, refusal.OfSetup(s.metrics.refusal(err))
	}
	c.peer = conn.RemoteAddr().String()
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	return c, nil
}

func (s *Service) greet(setup rsocket.Setup) (*connection, error) {
	if setup.MetadataMIME != protocol.MetadataMIME {
		return nil, fault.New(fault.InvalidArgument, "SETUP names metadata of type %.100q: this gateway needs %q", setup.MetadataMIME, protocol.MetadataMIME)
	}
	hello := new(deliveryv1.Hello)
	if err := proto.Unmarshal(setup.Payload.Data, hello); err != nil {
		return nil, fault.New(fault.Malformed, "the data of SETUP is not a Hello message: %w", err)
	}
	who := "the consumer"
	if id := hello.GetConsumerId(); id != "" {
		if err := lane.CheckName("consumer", id); err != nil {
			return nil, err
		}
		who = "consumer " + id
	}
	version, err := protocol.Negotiate(protocol.Current, protocol.Version{Major: hello.GetMajor(), Minor: hello.GetMinor()}, who)
	if err != nil {
		return nil, err
	}
	token, err := envelope.Bearer(setup.Payload.Metadata)
	if err != nil {
		return nil, err
	}
	pass, err := s.book.Admit(token)
	if err != nil {
		return nil, err
	}
	return &connection{s: s, pass: pass, client: hello.GetClient(), version: version, sessions: make(map[session.Key]*session.Session)}, nil
}

// attached makes one the connection's.
func (c *connection) attached(one *session.Session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fault.New(fault.Unavailable, "the connection has ended")
	}
	if _, again := c.sessions[one.Key]; !again && len(c.sessions) >= c.s.cfg.MaxSessions {
		return fault.New(fault.Overloaded, "this connection has %d consumers attached already: use another connection", len(c.sessions)).With("retry_after_ms", "1000")
	}
	c.sessions[one.Key] = one
	return nil
}

func (c *connection) detached(one *session.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[one.Key] == one {
		delete(c.sessions, one.Key)
	}
}

// sessionOf finds the session a message names, by the stream's name: no storage is asked on the way of an ack.
func (c *connection) sessionOf(stream, consumer string, incarnation uint64) (*session.Session, error) {
	c.mu.Lock()
	var found *session.Session
	for _, one := range c.sessions {
		if string(one.Name) == stream && string(one.Key.Consumer) == consumer && uint64(one.Incarnation) == incarnation {
			found = one
			break
		}
	}
	c.mu.Unlock()
	if found == nil {
		return nil, session.Fenced(lane.ConsumerID(consumer), lane.Incarnation(incarnation))
	}
	return c.s.sessions.Get(found.Key, found.Incarnation, c)
}

// farewellTimeout bounds telling consumer-state that a consumer has gone.
const farewellTimeout = 3 * time.Second

// Closed says farewell for every consumer that was attached.
func (c *connection) Closed(error) {
	c.cancel()
	c.mu.Lock()
	c.closed = true
	var gone []*session.Session
	for _, one := range c.sessions {
		gone = append(gone, one)
	}
	clear(c.sessions)
	c.mu.Unlock()
	for _, one := range gone {
		if !c.s.sessions.Leave(one) {
			continue
		}
		c.s.resets.Forget(one.Key)
		c.s.task(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
			defer cancel()
			if _, err := c.s.consumers.Detach(ctx, detachOf(one)); err != nil {
				c.s.log.Debug("consumer-state was not told of a consumer that left", "consumer", string(one.Key.Consumer), "error", err)
			}
		})
	}
}

func detachOf(one *session.Session) *consumerv1.DetachRequest {
	return &consumerv1.DetachRequest{StreamId: uint64(one.Key.Stream), ConsumerId: string(one.Key.Consumer), Incarnation: uint64(one.Incarnation)}
}
