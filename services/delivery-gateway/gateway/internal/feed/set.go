package feed

import (
	"context"
	"log/slog"
	"sync"
	"time"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Hints is where notifications come from; nil functions are never called. Follow's stop returns at once.
type Hints interface {
	Follow(stream lane.StreamID, p lane.Partition, fn func(*notifyv1.Notification)) (stop func(), err error)
}

// Config holds the times of a Set. Every zero is the default.
type Config struct {
	// PollInterval: a lane that heard nothing for so long is asked for. Default 1 s.
	PollInterval time.Duration
	// StatusInterval is the least time between two statuses of a lane. Default 50 ms.
	StatusInterval time.Duration
	// HeartbeatInterval is the longest silence of a lane. Default 5 s.
	HeartbeatInterval time.Duration
	// Linger is how long a lane is followed after its last listener left. Default 30 s.
	Linger time.Duration
	// MaxLanes may be followed at once; one more is refused as Overloaded. Default 16,384.
	MaxLanes int
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.PollInterval, time.Second}, {&c.StatusInterval, 50 * time.Millisecond}, {&c.HeartbeatInterval, 5 * time.Second}, {&c.Linger, 30 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.MaxLanes <= 0 {
		c.MaxLanes = 16384
	}
	return c
}

// tailsPerCall bounds one poll.
const tailsPerCall = 1024

// Set is all the lanes a gateway follows. Run must run for as long as it is used.
type Set struct {
	cfg    Config
	log    *slog.Logger
	src    Log
	hints  Hints // nil: polling only
	budget *Budget

	ctx  context.Context // ends with Close; followers live under it
	stop context.CancelFunc
	wg   sync.WaitGroup // followers

	mu    sync.Mutex // protects what follows
	lanes map[lane.ID]*entry
}

type entry struct {
	ready  chan struct{} // closed when feed or err is set
	feed   *Feed
	err    error
	refs   int
	leftAt time.Time
	stop   context.CancelFunc
}

// NewSet follows nothing yet. hints may be nil.
func NewSet(cfg Config, src Log, hints Hints, budget *Budget, log *slog.Logger) *Set {
	ctx, stop := context.WithCancel(context.Background())
	return &Set{cfg: cfg.withDefaults(), log: log, src: src, hints: hints, budget: budget, ctx: ctx, stop: stop, lanes: make(map[lane.ID]*entry)}
}

// Lanes is how many lanes are followed.
func (s *Set) Lanes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lanes)
}

// Followed gives the lane's feed if there is one, to look at and not to listen to.
func (s *Set) Followed(id lane.ID) (*Feed, bool) {
	s.mu.Lock()
	e := s.lanes[id]
	s.mu.Unlock()
	if e == nil {
		return nil, false
	}
	select {
	case <-e.ready:
		return e.feed, e.feed != nil
	default:
		return nil, false
	}
}

// Open gives the lane's feed, beginning to follow it if nobody did. Every Open that succeeds needs one release.
func (s *Set) Open(ctx context.Context, id lane.ID) (f *Feed, release func(), err error) {
	s.mu.Lock()
	e := s.lanes[id]
	if e == nil {
		if s.ctx.Err() != nil {
			s.mu.Unlock()
			return nil, nil, fault.New(fault.Unavailable, "the gateway is stopping: connect to another")
		}
		if len(s.lanes) >= s.cfg.MaxLanes {
			s.mu.Unlock()
			return nil, nil, fault.New(fault.Overloaded, "this gateway follows its %d lanes already: connect to another", s.cfg.MaxLanes).With("retry_after_ms", "5000")
		}
		e = &entry{ready: make(chan struct{})}
		s.lanes[id] = e
		s.wg.Add(1)
		go s.run(id, e) // ends with s.ctx, or when the lane is let go
	}
	e.refs++
	s.mu.Unlock()
	release = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.refs--
		e.leftAt = time.Now()
	})
	select {
	case <-e.ready:
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
	if e.err != nil {
		release()
		return nil, nil, e.err
	}
	return e.feed, release, nil
}

// run opens the lane and follows it.
func (s *Set) run(id lane.ID, e *entry) {
	defer s.wg.Done()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	openCtx, cancelOpen := context.WithTimeout(ctx, idleReadTimeout)
	standings, err := s.src.Tails(openCtx, []lane.ID{id})
	cancelOpen()
	if err == nil && len(standings) == 0 {
		err = fault.New(fault.UnknownStream, "lane %v does not exist", id)
	}
	if err != nil {
		s.mu.Lock()
		delete(s.lanes, id)
		s.mu.Unlock()
		e.err = err
		close(e.ready)
		return
	}
	e.feed = newFeed(standings[0], s.budget, time.Now())
	e.stop = cancel
	if s.hints != nil {
		stop, err := s.hints.Follow(id.Stream, id.Partition, func(n *notifyv1.Notification) { e.feed.Hear(n, time.Now()) })
		if err != nil {
			s.log.Warn("no notifications for a lane; it is polled", "lane", id.String(), "error", err)
		} else {
			defer stop()
		}
	}
	close(e.ready)
	e.feed.follow(ctx, s.src, s.cfg.StatusInterval, s.cfg.HeartbeatInterval)
	e.feed.end(fault.New(fault.Unavailable, "the gateway is stopping: connect to another"))
}

// Refresh asks storage where the lane of f stands and returns it.
func (s *Set) Refresh(ctx context.Context, f *Feed) (storage.Standing, error) {
	return f.refresh(ctx, s.src)
}

// Run polls silent lanes and lets go of lanes without listeners, until ctx ends; then it stops all followers and waits for them.
func (s *Set) Run(ctx context.Context) error {
	defer s.wg.Wait()
	defer s.stop()
	tick := time.NewTicker(s.cfg.PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.poll(ctx, s.sweep(time.Now()))
		}
	}
}

// sweep ends lanes nobody listens to and returns those that heard nothing since the last time.
func (s *Set) sweep(now time.Time) (silent []*Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.lanes {
		select {
		case <-e.ready:
		default:
			continue
		}
		if e.refs == 0 && now.Sub(e.leftAt) >= s.cfg.Linger {
			delete(s.lanes, id)
			e.stop()
			continue
		}
		if e.feed.quiet() {
			silent = append(silent, e.feed)
		}
	}
	return silent
}

// quiet reports, and forgets, whether nothing was heard since the last call.
func (f *Feed) quiet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	quiet := !f.heard && !f.gone
	f.heard = false
	return quiet
}

func (s *Set) poll(ctx context.Context, silent []*Feed) {
	for len(silent) > 0 {
		n := min(len(silent), tailsPerCall)
		asked := make(map[lane.ID]*Feed, n)
		ids := make([]lane.ID, n)
		for i, f := range silent[:n] {
			asked[f.id], ids[i] = f, f.id
		}
		silent = silent[n:]
		callCtx, cancel := context.WithTimeout(ctx, idleReadTimeout)
		standings, err := s.src.Tails(callCtx, ids)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				s.log.Debug("polling tails failed; trying again at the next round", "lanes", n, "error", err)
			}
			return
		}
		for _, at := range standings {
			if f := asked[at.Lane]; f != nil {
				f.Stand(at)
				delete(asked, at.Lane)
			}
		}
		for _, f := range asked {
			f.end(fault.New(fault.UnknownStream, "stream %q was deleted", f.stream))
		}
	}
}
