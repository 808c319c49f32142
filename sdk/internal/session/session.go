package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

// Config of a connection.
type Config struct {
	// Gateways are addresses such as tcp://127.0.0.1:7410, tls://..., ws://.../rsocket; tried in turn.
	Gateways []string
	// ConsumerID is who the gateway is told we are; empty for an anonymous reader.
	ConsumerID string
	// Client names the program in the gateway's logs.
	Client string
	// Token, when set, is the bearer token of SETUP.
	Token string
	// TLS is used for tls:// and wss://; nil means the system's roots.
	TLS *tls.Config
	// DialContext replaces the network, for tests; nil means the real one.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// RequestTimeout bounds a request with one answer; 0 means 10 s.
	RequestTimeout time.Duration
	// KeepaliveInterval and Lifetime: how often the line is tried, and how long the gateway may be silent; 0 means 5 s and 15 s.
	KeepaliveInterval, Lifetime time.Duration
	Log                         *slog.Logger
}

// Session is one living connection. Safe for concurrent use.
type Session struct {
	conn    *rsocket.Conn
	timeout time.Duration
	gateway string
}

// Dial connects to the first gateway that answers, beginning with number `first` of them modulo their number. A refused SETUP shows in
// the first request.
func Dial(ctx context.Context, cfg Config, first int) (*Session, error) {
	if len(cfg.Gateways) == 0 {
		return nil, fault.New(fault.InvalidArgument, "no gateway address is given")
	}
	hello, err := proto.Marshal(&deliveryv1.Hello{Major: protocol.Current.Major, Minor: protocol.Current.Minor, Client: cfg.Client, ConsumerId: cfg.ConsumerID})
	if err != nil {
		return nil, fault.New(fault.Internal, "encode SETUP: %w", err)
	}
	var metadata []byte
	if cfg.Token != "" {
		if metadata, err = composite.AppendBearer(nil, cfg.Token); err != nil {
			return nil, fault.New(fault.InvalidArgument, "the token cannot be sent: %w", err)
		}
	}
	orDefault(&cfg.RequestTimeout, 10*time.Second)
	orDefault(&cfg.KeepaliveInterval, 5*time.Second)
	orDefault(&cfg.Lifetime, 15*time.Second)
	var failures []error
	for i := range cfg.Gateways {
		address := cfg.Gateways[(first+i)%len(cfg.Gateways)]
		conn, err := rsocket.Dial(ctx, address, rsocket.ClientConfig{
			KeepaliveInterval: cfg.KeepaliveInterval, Lifetime: cfg.Lifetime,
			MetadataMIME: protocol.MetadataMIME, DataMIME: protocol.DataMIME,
			Setup: rsocket.Payload{Metadata: metadata, Data: hello},
			TLS:   cfg.TLS, DialContext: cfg.DialContext, Logger: cfg.Log,
			Limits: rsocket.Limits{MaxFrameBytes: protocol.MaxDeliveryBytes + 64<<10, ReadBufferMaxBytes: 256 << 10},
		})
		if err == nil {
			return &Session{conn: conn, timeout: cfg.RequestTimeout, gateway: address}, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fault.New(fault.Unavailable, "no gateway can be reached: %w", errors.Join(failures...))
}

func orDefault(d *time.Duration, def time.Duration) {
	if *d <= 0 {
		*d = def
	}
}

// Gateway is the address connected to.
func (s *Session) Gateway() string { return s.gateway }

// Draining is closed when the gateway asks us to go elsewhere; running streams go on for a while.
func (s *Session) Draining() <-chan struct{} { return s.conn.Draining() }

// Close ends the connection and waits for it.
func (s *Session) Close() {
	_ = s.conn.Close() // it never fails
	<-s.conn.Done()
}

// Describe answers what the stream is and where its lanes stand.
func (s *Session) Describe(ctx context.Context, stream string) (*streamv1.Stream, error) {
	var answer deliveryv1.DescribeResponse
	if err := s.ask(ctx, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: stream}, &answer); err != nil {
		return nil, err
	}
	if _, err := protocol.Negotiate(protocol.Current, protocol.Version{Major: answer.GetMajor(), Minor: answer.GetMinor()}, "the gateway"); err != nil {
		return nil, err
	}
	if answer.GetStream().GetSpec() == nil {
		return nil, fault.New(fault.Malformed, "the gateway describes stream %q without saying what it is", stream)
	}
	return answer.GetStream(), nil
}

// Attach makes this the consumer's live incarnation.
func (s *Session) Attach(ctx context.Context, stream, consumerID string, kind consumerv1.ConsumerKind) (*deliveryv1.AttachResponse, error) {
	var answer deliveryv1.AttachResponse
	err := s.ask(ctx, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: stream, ConsumerId: consumerID, Kind: kind}, &answer)
	return &answer, err
}

// Detach says that the incarnation leaves on purpose.
func (s *Session) Detach(ctx context.Context, request *deliveryv1.DetachRequest) error {
	return s.ask(ctx, protocol.RouteDetach, request, &deliveryv1.DetachResponse{})
}

// AckConfirmed acknowledges and answers what the provider has stored.
func (s *Session) AckConfirmed(ctx context.Context, request *deliveryv1.AckRequest) ([]*consumerv1.Cursor, error) {
	var answer deliveryv1.AckResponse
	err := s.ask(ctx, protocol.RouteAck, request, &answer)
	return answer.GetCursors(), err
}

// Ack acknowledges without waiting; the next one says it again if this one is lost.
func (s *Session) Ack(ctx context.Context, request *deliveryv1.AckRequest) error {
	return s.tell(ctx, protocol.RouteAck, request)
}

// Report tells how we feel, without waiting.
func (s *Session) Report(ctx context.Context, request *deliveryv1.StatusRequest) error {
	return s.tell(ctx, protocol.RouteStatus, request)
}

func (s *Session) ask(ctx context.Context, to string, request, answer proto.Message) error {
	routed, err := routedTo(to, request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // I2
	defer cancel()
	p, err := s.conn.RequestResponse(ctx, routed)
	if err != nil {
		return restore(err, to)
	}
	if err := proto.Unmarshal(p.Data, answer); err != nil {
		return fault.New(fault.Malformed, "the gateway's answer to %s does not decode: %w", to, err)
	}
	return nil
}

func (s *Session) tell(ctx context.Context, to string, request proto.Message) error {
	routed, err := routedTo(to, request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout) // I2
	defer cancel()
	return restore(s.conn.FireAndForget(ctx, routed), to)
}

// routedTo encodes a request with its route.
func routedTo(to string, request proto.Message) (rsocket.Payload, error) {
	data, err := proto.Marshal(request)
	if err != nil {
		return rsocket.Payload{}, fault.New(fault.Internal, "encode a request to %s: %w", to, err)
	}
	metadata, err := composite.AppendRoute(nil, to)
	if err != nil {
		return rsocket.Payload{}, fault.New(fault.Internal, "encode the route %s: %w", to, err)
	}
	return rsocket.Payload{Metadata: metadata, Data: data}, nil
}

// restore gives the fault an error of the engine stands for. io.EOF from a stream is handled before.
func restore(err error, doing string) error {
	var e *rsocket.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		switch e.Code {
		case rsocket.CodeConnectionClose, rsocket.CodeConnectionError, rsocket.CodeCanceled:
			return fault.New(fault.Unavailable, "%s: the gateway ended the connection: %w", doing, err)
		case rsocket.CodeRejected:
			f := fault.Parse(e.Data)
			if f.Reason() != fault.Internal {
				return f
			}
			return fault.New(fault.Overloaded, "%s: the gateway refused the request: %w", doing, err)
		}
		return fault.Parse(e.Data)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "%s: the gateway did not answer in time: %w", doing, err)
	case errors.Is(err, rsocket.ErrPayloadTooLarge):
		return fault.New(fault.InvalidArgument, "%s: %w", doing, err)
	case errors.Is(err, io.EOF):
		return fault.New(fault.Unavailable, "%s: the gateway hung up", doing)
	}
	return fault.New(fault.Unavailable, "%s: the connection failed: %w", doing, err)
}
