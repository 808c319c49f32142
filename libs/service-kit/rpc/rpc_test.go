package rpc_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
)

type streams struct {
	ingestv1.UnimplementedStreamsServer
	ingestv1.UnimplementedIngestServer
	answer   error
	deadline chan bool
}

func (s *streams) GetStream(ctx context.Context, _ *ingestv1.GetStreamRequest) (*ingestv1.GetStreamResponse, error) {
	_, has := ctx.Deadline()
	s.deadline <- has
	return nil, s.answer
}

func (s *streams) PublishStream(grpc.BidiStreamingServer[ingestv1.PublishRequest, ingestv1.PublishResponse]) error {
	return s.answer
}

func (s *streams) ListStreams(context.Context, *ingestv1.ListStreamsRequest) (*ingestv1.ListStreamsResponse, error) {
	panic("boom")
}

func serve(t *testing.T, answer error) (*grpc.ClientConn, *streams) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.ServerConfig{}, log, prometheus.NewRegistry())
	svc := &streams{answer: answer, deadline: make(chan bool, 1)}
	ingestv1.RegisterStreamsServer(server, svc)
	ingestv1.RegisterIngestServer(server, svc)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rpc.Serve(ctx, server, l, time.Second) }()
	cc, err := rpc.Dial(l.Addr().String(), rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return cc, svc
}

func TestFaultsSurviveTheWay(t *testing.T) {
	sent := fault.New(fault.Expired, "records [1, 9) are gone").With("head", "9")
	cc, svc := serve(t, sent)

	_, err := ingestv1.NewStreamsClient(cc).GetStream(t.Context(), &ingestv1.GetStreamRequest{})
	if !<-svc.deadline {
		t.Error("a unary call without a deadline was sent without one")
	}
	if !errors.Is(err, fault.Expired) || err.Error() != sent.Error() || fault.Of(err).Detail("head") != "9" {
		t.Errorf("unary: got %v (%v)", err, fault.Of(err).Details())
	}
	stream, err := ingestv1.NewIngestClient(cc).PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); !errors.Is(err, fault.Expired) {
		t.Errorf("stream: got %v", err)
	}
}

func TestPanicIsAnsweredAndServiceGoesOn(t *testing.T) {
	cc, _ := serve(t, nil)
	if _, err := ingestv1.NewStreamsClient(cc).ListStreams(t.Context(), &ingestv1.ListStreamsRequest{}); !errors.Is(err, fault.Internal) {
		t.Fatalf("got %v", err)
	}
	if _, err := grpc_health_v1.NewHealthClient(cc).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatalf("after the panic: %v", err)
	}
}

func TestUnreachablePeerIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cc, err := rpc.Dial(address, rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	_, err = ingestv1.NewStreamsClient(cc).GetStream(t.Context(), &ingestv1.GetStreamRequest{})
	if !errors.Is(err, fault.Unavailable) || !fault.ReasonOf(err).Temporary() {
		t.Fatalf("got %v", err)
	}
}
