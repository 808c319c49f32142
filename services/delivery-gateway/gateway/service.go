package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/acks"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/admission"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/cache"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/catchup"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/depot"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/feed"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/resets"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/streams"
)

// Service is one gateway. Make it with New, run it once.
type Service struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	book      *grants.Book
	storage   *storage.Client
	consumers consumerv1.ConsumerStateClient
	streams   *streams.Directory
	budget    *feed.Budget
	feeds     *feed.Set
	older     *catchup.Reader
	cache     *cache.Cache // nil: none
	depot     *depot.Depot
	// asking, bootstraps and repairs bound who waits for a snapshot, takes its chunks, and makes it be scanned.
	asking, bootstraps, repairs *admission.Places
	bucket                      *admission.Bucket
	sessions                    *session.Registry
	acks                        *acks.Forwarder
	resets                      *resets.Watcher
	server                      *rsocket.Server
	tcp, ws                     net.Listener // ws nil: none

	serving   atomic.Bool
	delivered atomic.Int64 // batches, to subscriptions
	// tasks are openings of streams and farewells to consumer-state; they end soon after ctx.
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// New checks cfg, opens the listeners, and starts nothing. Deps stay the caller's.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	if deps.Log == nil || deps.Storage == nil || deps.Consumers == nil {
		return nil, errors.New("gateway: Deps need Log, Storage and Consumers")
	}
	book, err := grants.Open(cfg.TokensFile, deps.Log)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, log: deps.Log, book: book,
		storage: storage.New(deps.Storage), consumers: consumerv1.NewConsumerStateClient(deps.Consumers),
		budget: feed.NewBudget(cfg.RingBytes), sessions: session.NewRegistry(),
	}
	s.asking, s.bootstraps = admission.NewPlaces("requests for a snapshot", maxAsking), admission.NewPlaces("bootstraps", cfg.MaxBootstraps)
	s.repairs, s.bucket = admission.NewPlaces("repairs", cfg.MaxRepairs), admission.NewBucket(cfg.ResyncBytesPerSecond, func() int64 { return s.delivered.Load() })
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.depot, err = depot.New(depot.Config{
		Dir: cfg.SnapshotDir, DiskBytes: cfg.SnapshotDiskBytes, MaxAge: cfg.SnapshotMaxAge, SketchBytes: cfg.SketchBytes, Scans: cfg.MaxScans,
	}, s.storage, deps.Log)
	if err != nil {
		s.closeListeners()
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.streams = streams.New(s.storage)
	var shared catchup.Shared
	if cfg.Redis != "" {
		s.cache = cache.Connect(cfg.Redis, deps.Log)
		shared = s.cache
	}
	var hints feed.Hints
	if deps.Bus != nil {
		hints = deps.Bus
	}
	s.feeds = feed.NewSet(feed.Config{PollInterval: cfg.PollInterval, HeartbeatInterval: cfg.HeartbeatInterval, MaxLanes: cfg.MaxLanes}, s.storage, hints, s.budget, deps.Log)
	s.older = catchup.New(catchup.Config{MaxBytes: cfg.CatchUpBytes, Workers: cfg.CatchUpWorkers}, s.storage, shared, deps.Log)
	s.acks = acks.New(acks.Config{Tail: s.tail, Fenced: s.fenced}, s.consumers, deps.Log)
	s.resets = resets.New(s.cfg.Name, s.consumers, s.command, deps.Log)
	s.server = rsocket.NewServer(cfg.rsocketConfig(deps.Log), s.accept)
	if s.metrics, err = newMetrics(deps.Metrics, s); err != nil {
		s.closeListeners()
		s.depot.Close()
		return nil, fmt.Errorf("gateway: registering metrics: %w", err)
	}
	return s, nil
}

func (s *Service) listen() (err error) {
	s.tcp, s.ws = s.cfg.Listener, s.cfg.WebSocketListener
	if s.tcp == nil {
		if s.tcp, err = net.Listen("tcp", s.cfg.Address); err != nil {
			return fault.New(fault.InUse, "the gateway cannot listen on %s: %w", s.cfg.Address, err)
		}
	}
	if s.ws == nil && s.cfg.WebSocketAddress != off {
		if s.ws, err = net.Listen("tcp", s.cfg.WebSocketAddress); err != nil {
			_ = s.tcp.Close()
			return fault.New(fault.InUse, "the gateway cannot listen on %s for WebSocket: %w", s.cfg.WebSocketAddress, err)
		}
	}
	if s.cfg.Name == "" {
		s.cfg.Name = s.tcp.Addr().String()
	}
	if s.cfg.TLS != nil {
		s.tcp = tls.NewListener(s.tcp, s.cfg.TLS)
		if s.ws != nil {
			s.ws = tls.NewListener(s.ws, s.cfg.TLS)
		}
	}
	return nil
}

func (s *Service) closeListeners() {
	_ = s.tcp.Close()
	if s.ws != nil {
		_ = s.ws.Close()
	}
}

// Address is where RSocket over TCP is spoken.
func (s *Service) Address() net.Addr { return s.tcp.Addr() }

// WebSocketAddress is where RSocket over WebSocket is spoken, nil when it is not.
func (s *Service) WebSocketAddress() net.Addr {
	if s.ws == nil {
		return nil
	}
	return s.ws.Addr()
}

// Ready says why the gateway cannot serve, nil when it can.
func (s *Service) Ready() error {
	if !s.serving.Load() {
		return fault.New(fault.Unavailable, "the gateway is not serving")
	}
	return nil
}

// Run serves until ctx ends or a listener fails.
//
//	start: feeds ── tokens, touch, commands ── TCP, WebSocket
//	stop:  stop accepting, tell consumers to go, wait for them (DrainTimeout) ── farewells, acks flushed ── feeds, catch-up, depot, cache
func (s *Service) Run(ctx context.Context) error {
	feedsCtx, stopFeeds := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeeds()
	feedsDone := make(chan struct{})
	go func() { defer close(feedsDone); _ = s.feeds.Run(feedsCtx) }() // ends with feedsCtx, with its error

	g, serveCtx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.server.Serve(serveCtx, s.tcp) })
	if s.ws != nil {
		g.Go(func() error { return s.serveWebSocket(serveCtx) })
	}
	g.Go(func() error { s.touch(serveCtx); return nil })
	g.Go(func() error { return s.book.Run(serveCtx) })
	g.Go(func() error { s.resets.Run(serveCtx); return nil })
	s.serving.Store(true)
	s.log.Info("delivery-gateway serves", "tcp", s.tcp.Addr().String(), "websocket", fmt.Sprint(s.WebSocketAddress()))
	<-serveCtx.Done()
	s.serving.Store(false)

	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := s.server.Drain(drainCtx, min(s.cfg.DrainSpread, s.cfg.DrainTimeout/4)); err != nil {
		s.log.Info("some consumers were cut while draining; they resume elsewhere", "error", err)
	}
	failed := g.Wait()
	s.stop()
	s.tasks.Wait()
	flushCtx, cancelFlush := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	s.acks.Close(flushCtx)
	cancelFlush()
	stopFeeds()
	<-feedsDone
	s.older.Close()
	s.depot.Close()
	if s.cache != nil {
		failed = errors.Join(failed, s.cache.Close())
	}
	return failed
}

func (s *Service) serveWebSocket(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("/rsocket", s.server.WebSocket())
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(s.ws) }() // ends at Close
	select {
	case err := <-failed:
		return fmt.Errorf("gateway: WebSocket listener: %w", err)
	case <-ctx.Done():
		_ = web.Close() // upgraded connections are the RSocket server's by now
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("gateway: WebSocket listener: %w", err)
		}
		return nil
	}
}

// touch proves every incarnation attached here again and again, so that one fenced by an attach elsewhere ends here too (S8).
func (s *Service) touch(ctx context.Context) {
	tick := time.NewTicker(s.cfg.TouchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, one := range s.sessions.All() {
				if err := s.acks.Send(acks.Ack{Session: one}); err != nil {
					s.log.Debug("an incarnation was not proven this time", "error", err)
				}
			}
		}
	}
}

// tail tells acks where a lane stands, if it is followed here.
func (s *Service) tail(id lane.ID) (*consumerv1.Cursor, bool) {
	f, ok := s.feeds.Followed(id)
	if !ok {
		return nil, false
	}
	at := f.Standing()
	return &consumerv1.Cursor{
		Partition: uint32(id.Partition), TimeMs: at.TailTimeMS,
		Position: &streamv1.Position{Epoch: uint64(at.Epoch), Sequence: uint64(at.Tail)},
	}, true
}

// openTimeout bounds everything that is asked before a stream of answers begins.
const openTimeout = 10 * time.Second

// task runs fn, which must end soon after the Service's context; false when the Service is stopping.
func (s *Service) task(fn func(ctx context.Context)) bool {
	if s.ctx.Err() != nil {
		return false
	}
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		fn(s.ctx)
	}()
	return true
}
