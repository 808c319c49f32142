package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/intake"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// Deps is what an ingest works with.
type Deps struct {
	Log *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// Sequencer is the connection to sequencer-storage, made by rpc.Dial; its owner closes it after Run.
	Sequencer grpc.ClientConnInterface
}

// Service is one ingest. Make it with New, run it once.
type Service struct {
	cfg     Config
	log     *slog.Logger
	conn    grpc.ClientConnInterface
	out     *outbox.Outbox
	grpc    *grpc.Server
	known   *catalogue.Catalogue
	in      *intake.Intake
	metrics *metrics
	// stopping is closed by Run when its context ends.
	stopping chan struct{}
}

// New makes a Service; nothing runs and nothing listens before Run.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	if deps.Sequencer == nil || deps.Log == nil {
		return nil, errors.New("ingest: Deps.Sequencer and Deps.Log must be set")
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("ingest metrics: %w", err)
	}
	sequencer, source := sequencerv1.NewSequencerClient(deps.Sequencer), sequencerv1.NewCatalogueClient(deps.Sequencer)
	s := &Service{cfg: cfg, log: deps.Log, conn: deps.Sequencer, metrics: m, stopping: make(chan struct{})}
	s.known = catalogue.New(source, cfg.MaxStreamsKept)
	s.out = outbox.New(outbox.Config{
		LaneBytes: cfg.LaneBytes, TotalBytes: cfg.TotalBytes, BatchBytes: cfg.BatchBytes, BatchRecords: cfg.BatchRecords,
		AppendTimeout: cfg.AppendTimeout, RetryFor: cfg.RetryFor,
	}, appender{sequencer}, m)
	s.in = intake.New(s.known, s.out)
	s.grpc = rpc.NewServer(rpc.ServerConfig{MaxMessageBytes: cfg.MaxRequestBytes, TLS: cfg.TLS}, s.log, deps.Metrics)
	ingestv1.RegisterIngestServer(s.grpc, &server{cfg: cfg, in: s.in, sequencer: sequencer, metrics: m, stopping: s.stopping})
	ingestv1.RegisterStreamsServer(s.grpc, &streams{source: source, known: s.known})
	return s, nil
}

// Ready says whether records can be handed on: nil, or why not. It does not block.
func (s *Service) Ready() error {
	c, ok := s.conn.(interface{ GetState() connectivity.State })
	if !ok {
		return nil
	}
	switch state := c.GetState(); state {
	case connectivity.TransientFailure, connectivity.Shutdown:
		return fault.New(fault.Unavailable, "sequencer-storage cannot be reached (connection %v)", state)
	}
	return nil
}

// Run serves until ctx ends, then lets open calls end for Config.Grace.
//
//	start: outbox (at New), gRPC, HTTP        stop: HTTP, gRPC, outbox
func (s *Service) Run(ctx context.Context) error {
	defer s.out.Close()
	defer context.AfterFunc(ctx, func() { close(s.stopping) })()
	g, err := listen(s.cfg.GRPCListener, s.cfg.GRPCAddress, "gRPC")
	if err != nil {
		return err
	}
	h, err := listen(s.cfg.HTTPListener, s.cfg.HTTPAddress, "HTTP")
	if err != nil {
		return errors.Join(err, g.Close())
	}
	s.log.Info("ingest takes records", "grpc", g.Addr().String(), "http", h.Addr().String())
	return life.Run(ctx, s.log,
		life.Part{Name: "ingest gRPC", Run: func(ctx context.Context) error {
			return rpc.Serve(ctx, s.grpc, netutil.LimitListener(g, s.cfg.MaxConnections), s.cfg.Grace)
		}},
		life.Part{Name: "ingest HTTP", Run: func(ctx context.Context) error {
			return s.serveHTTP(ctx, netutil.LimitListener(h, s.cfg.MaxConnections))
		}},
	)
}

func listen(l net.Listener, address, what string) (net.Listener, error) {
	if l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fault.New(fault.InUse, "ingest cannot listen for %s on %s: choose another address, or stop what uses it: %w", what, address, err)
	}
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "ingest cannot listen for %s on %s: %w", what, address, err)
	}
	return l, nil
}
