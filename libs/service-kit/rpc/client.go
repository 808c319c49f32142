package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
)

// ClientConfig bounds a connection. The zero value is the default of every field.
type ClientConfig struct {
	// CallTimeout is the deadline of a unary call whose context has none; 0 means 10 s.
	CallTimeout time.Duration
	// MaxMessageBytes is the largest message taken or sent; 0 means 16 MiB.
	MaxMessageBytes int
	// TLS is nil for plain text.
	TLS credentials.TransportCredentials
	// Token, when set, goes with every call as `authorization: Bearer`. Over plain text it can be read on the way.
	Token string
	// Options come last, for tests that bring their own dialer.
	Options []grpc.DialOption
}

// Dial makes a connection to target; it connects by itself, again and again, with at most 2 s between tries. Errors of calls carry
// faults (package faultstatus).
func Dial(target string, cfg ClientConfig) (*grpc.ClientConn, error) {
	orDefault(&cfg.CallTimeout, 10*time.Second)
	orDefault(&cfg.MaxMessageBytes, defaultMaxMessageBytes)
	creds := cfg.TLS
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: KeepaliveInterval, Timeout: KeepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(cfg.MaxMessageBytes), grpc.MaxCallSendMsgSize(cfg.MaxMessageBytes)),
		grpc.WithInitialWindowSize(windowBytes),
		grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, answer any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if _, ok := ctx.Deadline(); !ok { // I1
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, cfg.CallTimeout)
				defer cancel()
			}
			return faultstatus.FromStatus(invoke(ctx, method, req, answer, cc, opts...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, faultstatus.FromStatus(err)
			}
			return faultStream{s}, nil
		}),
	}
	if cfg.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(cfg.Token)))
	}
	return grpc.NewClient(target, append(options, cfg.Options...)...)
}

// faultStream restores faults on a streaming call; io.EOF stays io.EOF.
type faultStream struct{ grpc.ClientStream }

func (s faultStream) RecvMsg(m any) error { return restore(s.ClientStream.RecvMsg(m)) }
func (s faultStream) SendMsg(m any) error { return restore(s.ClientStream.SendMsg(m)) }

func restore(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return faultstatus.FromStatus(err)
}
