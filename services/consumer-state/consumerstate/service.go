package consumerstate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/committer"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/lag"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/store"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/watch"
)

// Service is consumer-state. New takes everything it needs; then Run is called once, or Close.
type Service struct {
	cfg       Config
	deps      Deps
	listener  net.Listener
	store     *store.Store
	roster    *roster.Roster
	committer *committer.Committer
	tails     *lag.Book
	watches   *watch.Board
	metrics   *metrics
	book      *grants.Book
	running   atomic.Bool
}

// New opens the database and the ports, so that whatever is wrong with them is said before anything runs.
func New(cfg Config, deps Deps) (_ *Service, err error) {
	s := &Service{deps: deps, listener: cfg.Listener}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		s.deps.Now = time.Now
	}
	s.cfg, s.tails = cfg, lag.NewBook(cfg.MaxLanes, cfg.TailStaleAfter)
	if s.book, err = grants.Open(cfg.TokensFile, deps.Log); err != nil {
		return nil, err
	}
	if s.listener == nil {
		if s.listener, err = listen(cfg.Address); err != nil {
			return nil, err
		}
	}
	if s.store, err = store.Open(context.Background(), cfg.DataDir); err != nil {
		return nil, err
	}
	kept, err := s.store.Load(context.Background())
	if err != nil {
		return nil, err
	}
	s.roster = roster.New(kept, roster.Limits{Consumers: cfg.MaxConsumers, Commands: maxCommands, StreamCommands: streamCommands * cfg.MaxConsumers})
	s.watches = watch.NewBoard(watch.Limits{Watches: maxWatches, Entries: cfg.MaxConsumers})
	s.metrics = newMetrics(deps.Metrics, s)
	s.committer = committer.New(s.roster, s.store, committer.Hooks{Committed: s.metrics.committed, Published: s.published})
	return s, nil
}

// Run serves until ctx ends or the disk fails, and lets go of everything New took.
//
//	start: committer, gRPC
//	stop:  gRPC (watches are ended, open calls end), committer (what waits is stored), database, lock
func (s *Service) Run(ctx context.Context) error {
	server := rpc.NewServer(rpc.ServerConfig{}, s.deps.Log, s.deps.Metrics)
	consumerv1.RegisterConsumerStateServer(server, &api{Service: s})
	s.deps.Log.Info("consumer-state serves", "address", s.Address(), "data_dir", s.cfg.DataDir, "consumers", s.roster.Len())
	err := life.Run(ctx, s.deps.Log,
		life.Part{Name: "committer", Run: s.committer.Run},
		life.Part{Name: "tokens", Run: s.book.Run},
		life.Part{Name: "gRPC server", Run: func(ctx context.Context) error {
			s.running.Store(true)
			defer s.running.Store(false)
			defer context.AfterFunc(ctx, s.watches.Close)() // a watch has no end of its own
			return rpc.Serve(ctx, server, s.listener, s.cfg.StopGrace)
		}})
	return errors.Join(err, s.store.Close())
}

// Close lets go of what New took, when Run is never called. After Run it does nothing but return errors of what is closed already.
func (s *Service) Close() error {
	var errs []error
	if s.listener != nil {
		errs = append(errs, s.listener.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// Ready is nil while calls are served.
func (s *Service) Ready() error {
	if !s.running.Load() {
		return fault.New(fault.Unavailable, "consumer-state is starting or stopping")
	}
	return nil
}

// Address is where gRPC is served.
func (s *Service) Address() string { return s.listener.Addr().String() }

func (s *Service) nowMs() int64 { return s.deps.Now().UnixMilli() }

func listen(address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fault.New(fault.InUse, "address %s is in use: stop the process that has it, or choose another (%w)", address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}
