package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// ServerConfig bounds a server. The zero value is the default of every field.
type ServerConfig struct {
	// MaxMessageBytes is the largest message taken or sent; 0 means 16 MiB.
	MaxMessageBytes int
	// MaxStreams bounds the calls open on one connection; 0 means 256.
	MaxStreams uint32
	// MaxConnectionAge ends connections so that callers spread over new servers; 0 means 30 minutes. Calls get as long again to end.
	MaxConnectionAge time.Duration
	// TLS is nil for plain text.
	TLS credentials.TransportCredentials
}

const (
	defaultMaxMessageBytes = 16 << 20
	defaultMaxStreams      = 256
	defaultConnectionAge   = 30 * time.Minute
	// KeepaliveInterval and KeepaliveTimeout find a silent peer (I2).
	KeepaliveInterval = 10 * time.Second
	KeepaliveTimeout  = 3 * time.Second
	// windowBytes keeps a fast local stream from waiting for window updates.
	windowBytes = 4 << 20
)

// NewServer makes a server with our limits, the health service, and metrics in reg (nil: none). Register services, then Serve.
func NewServer(cfg ServerConfig, log *slog.Logger, reg prometheus.Registerer) *grpc.Server {
	orDefault(&cfg.MaxMessageBytes, defaultMaxMessageBytes)
	orDefault(&cfg.MaxStreams, defaultMaxStreams)
	orDefault(&cfg.MaxConnectionAge, defaultConnectionAge)
	m := newServerMetrics(reg)
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(cfg.MaxMessageBytes),
		grpc.MaxSendMsgSize(cfg.MaxMessageBytes),
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(windowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: KeepaliveInterval, Timeout: KeepaliveTimeout,
			MaxConnectionAge: cfg.MaxConnectionAge, MaxConnectionAgeGrace: cfg.MaxConnectionAge,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: KeepaliveInterval / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
			defer func() { // I3
				err = faultstatus.ToStatus(recovered(recover(), err, log, info.FullMethod))
				m.count(info.FullMethod, err)
			}()
			return handler(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer func() { // I3
				err = faultstatus.ToStatus(recovered(recover(), err, log, info.FullMethod))
				m.count(info.FullMethod, err)
			}()
			return handler(srv, ss)
		}),
	}
	if cfg.TLS != nil {
		options = append(options, grpc.Creds(cfg.TLS))
	}
	s := grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	return s
}

func recovered(panicked any, err error, log *slog.Logger, method string) error {
	if panicked == nil {
		return err
	}
	log.Error("a handler panicked; the call was refused and the service goes on", "method", method, "panic", panicked, "stack", string(debug.Stack()))
	return fault.New(fault.Internal, "the service failed on this call; it was logged")
}

// Serve runs s on l until ctx ends, then lets open calls end for at most grace, then cuts them. It owns l.
func Serve(ctx context.Context, s *grpc.Server, l net.Listener, grace time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }() // ends when s stops
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopped := make(chan struct{})
	go func() { s.GracefulStop(); close(stopped) }() // ends when calls have, or at s.Stop
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		s.Stop()
		<-stopped
	}
	if err := <-failed; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
