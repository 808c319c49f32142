package producer

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	callTimeout       = 10 * time.Second
	keepaliveInterval = 10 * time.Second
	keepaliveTimeout  = 3 * time.Second
	windowBytes       = 4 << 20
	maxMessageBytes   = 16 << 20
)

// dial makes the connection; gRPC keeps it up.
func dial(cfg Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
	}
	if cfg.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(cfg.Token)))
	}
	if cfg.DialContext != nil {
		options = append(options, grpc.WithContextDialer(cfg.DialContext))
	}
	conn, err := grpc.NewClient(cfg.Ingest, options...)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the ingest address %q cannot be used: %w", cfg.Ingest, err)
	}
	return conn, nil
}

// bearer is a token as gRPC wants it.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity: loopback and trusted networks are plain text.
func (b bearer) RequireTransportSecurity() bool { return false }

func closeOnce(c *grpc.ClientConn) error {
	if err := c.Close(); err != nil && !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // what Close answers the second time
		return err
	}
	return nil
}

// restore gives the fault a gRPC error carries, or the one it stands for.
func restore(err error) error {
	var f *fault.Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	if _, ok := status.FromError(err); !ok {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return fault.New(fault.Unavailable, "the connection to ingest failed: %w", err)
	}
	if err = faultstatus.FromPeer("ingest", err); errors.Is(err, context.Canceled) {
		return fault.New(fault.Unavailable, "the call to ingest was cancelled") // there, or with the stream: not by who publishes
	}
	return err
}

// transient tells what a retry can end. An internal failure of ingest is among it: its next process may do better.
func transient(err error) bool {
	reason := fault.ReasonOf(err)
	return reason.Temporary() || reason == fault.Internal
}
