// Package acks carries cursors and health from consumers to consumer-state.
//
//	ack, ack, ack ──▶ one entry per consumer (highest cursors, newest health) ──▶ one call under way per consumer ──▶ consumer-state
//
// Invariants:
//
//	I1  acks of one consumer that wait are one call; a cursor in an entry never goes back.
//	I2  at most MaxConsumers entries wait and Workers calls run; beyond that acks are refused as Overloaded.
//	I3  a confirmed ack is answered after consumer-state stored it; an unconfirmed one may be lost with the gateway, and is repeated by
//	    the consumer's next, because acks are cumulative.
//	I4  a call that fails for now is repeated with back-off; a ConsumerFenced answer is told to Fenced.
package acks

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/crew"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

// Keeper is consumer-state.
type Keeper interface {
	Checkpoint(ctx context.Context, in *consumerv1.CheckpointRequest, opts ...grpc.CallOption) (*consumerv1.CheckpointResponse, error)
	Report(ctx context.Context, in *consumerv1.ReportRequest, opts ...grpc.CallOption) (*consumerv1.ReportResponse, error)
}

// Config bounds a Forwarder. Every zero is the default.
type Config struct {
	// MaxConsumers may have something waiting. Default 65,536.
	MaxConsumers int
	// Workers calls may run at once. Default 8.
	Workers int
	// Gather is how long an unconfirmed ack may wait for others. Default 20 ms.
	Gather time.Duration
	// Tail says where a lane stands as far as this gateway knows, so that lag is known; may be nil.
	Tail func(lane.ID) (cursor *consumerv1.Cursor, known bool)
	// Fenced is told of consumers whose incarnation was refused; may be nil. It must not block.
	Fenced func(session.Key, lane.Incarnation)
}

const (
	callTimeout = 5 * time.Second
	// confirmTimeout bounds how long a confirmed ack waits for a consumer-state that is away.
	confirmTimeout = 10 * time.Second
	maxConfirms    = 64
	retryFirst     = 50 * time.Millisecond
	retryLast      = 2 * time.Second
	// giveUpAfter so many failures in a row an entry nobody waits for is dropped; the consumer's next ack makes it anew.
	giveUpAfter = 300
)

// Ack is what a consumer says of itself. No cursors and no health is a touch: it only proves the incarnation.
type Ack struct {
	Session *session.Session
	Cursors []*consumerv1.Cursor
	Health  *consumerv1.Health
}

type answer struct {
	cursors []*consumerv1.Cursor
	err     error
}

// entry is what waits for one consumer.
type entry struct {
	session  *session.Session
	cursors  map[uint32]*consumerv1.Cursor
	health   *consumerv1.Health
	touch    bool
	confirms []chan answer
	queued   bool // in queue, in a timer, or under way
	failures int
}

func (e *entry) empty() bool {
	return len(e.cursors) == 0 && e.health == nil && len(e.confirms) == 0 && !e.touch
}

// Forwarder is safe for concurrent use. Close it.
type Forwarder struct {
	cfg    Config
	keeper Keeper
	log    *slog.Logger

	ctx  context.Context
	stop context.CancelFunc
	crew *crew.Crew[*entry] // I2

	mu       sync.Mutex // protects what follows
	entries  map[session.Key]*entry
	draining bool
	idle     chan struct{} // closed when nothing waits, if someone asked
}

// New makes a Forwarder.
func New(cfg Config, keeper Keeper, log *slog.Logger) *Forwarder {
	if cfg.MaxConsumers <= 0 {
		cfg.MaxConsumers = 65536
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 8
	}
	if cfg.Gather <= 0 {
		cfg.Gather = 20 * time.Millisecond
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &Forwarder{cfg: cfg, keeper: keeper, log: log, ctx: ctx, stop: stop, entries: make(map[session.Key]*entry)}
	f.crew = crew.New(cfg.Workers, f.work)
	return f
}

// Pending is how many consumers have something waiting.
func (f *Forwarder) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries)
}

// Send passes a on, soon. Overloaded: it was dropped (I2).
func (f *Forwarder) Send(a Ack) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.add(a, nil, f.cfg.Gather)
	return err
}

// Confirm passes a on and waits until consumer-state stored it; the answer is what it keeps.
func (f *Forwarder) Confirm(ctx context.Context, a Ack) ([]*consumerv1.Cursor, error) {
	done := make(chan answer, 1)
	f.mu.Lock()
	_, err := f.add(a, done, 0)
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(confirmTimeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.cursors, r.err
	case <-timer.C:
	case <-ctx.Done():
	case <-f.ctx.Done():
	}
	return nil, fault.New(fault.Unavailable, "consumer-state did not confirm the acknowledgement in time; it may still be stored: send it again")
}

// add merges a into its consumer's entry (I1). f.mu is held.
func (f *Forwarder) add(a Ack, done chan answer, gather time.Duration) (*entry, error) {
	e := f.entries[a.Session.Key]
	if e != nil && e.session.Incarnation > a.Session.Incarnation {
		return nil, session.Fenced(a.Session.Key.Consumer, a.Session.Incarnation)
	}
	if e == nil {
		if len(f.entries) >= f.cfg.MaxConsumers {
			return nil, fault.New(fault.Overloaded, "acknowledgements of %d consumers wait for consumer-state; this one was dropped: send it again", len(f.entries)).With("retry_after_ms", "1000")
		}
		e = &entry{session: a.Session}
		f.entries[a.Session.Key] = e
	}
	if done != nil && len(e.confirms) >= maxConfirms {
		return nil, fault.New(fault.Overloaded, "%d acknowledgements of this consumer wait to be confirmed: wait for them", maxConfirms).With("retry_after_ms", "100")
	}
	if a.Session.Incarnation > e.session.Incarnation { // what an older life left behind is not this one's
		for _, c := range e.confirms {
			c <- answer{err: session.Fenced(e.session.Key.Consumer, e.session.Incarnation)}
		}
		*e = entry{session: a.Session, queued: e.queued}
	}
	e.merge(a.Cursors)
	if a.Health != nil {
		e.health = a.Health
	}
	e.touch = e.touch || len(a.Cursors) == 0 && a.Health == nil
	if done != nil {
		e.confirms = append(e.confirms, done)
	}
	if !e.queued {
		e.queued = true
		f.later(e, gather)
	}
	return e, nil
}

func (e *entry) merge(cursors []*consumerv1.Cursor) {
	if e.cursors == nil {
		e.cursors = make(map[uint32]*consumerv1.Cursor, len(cursors))
	}
	for _, c := range cursors {
		if kept := e.cursors[c.GetPartition()]; kept == nil || position(kept).Compare(position(c)) < 0 {
			e.cursors[c.GetPartition()] = c
		}
	}
}

func position(c *consumerv1.Cursor) lane.Position {
	return lane.Position{Epoch: lane.Epoch(c.GetPosition().GetEpoch()), Sequence: lane.Sequence(c.GetPosition().GetSequence())}
}

// later queues e after a while. f.mu is held.
func (f *Forwarder) later(e *entry, wait time.Duration) {
	if wait <= 0 || f.draining {
		f.crew.Put(e)
		return
	}
	time.AfterFunc(wait, func() { f.crew.Put(e) })
}

// work sends what waits in e.
func (f *Forwarder) work(e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := *e // what is sent now; e gathers anew meanwhile
	*e = entry{session: e.session, queued: true, failures: e.failures}
	f.mu.Unlock()
	kept, err := f.send(&sent)
	f.mu.Lock()
	f.settle(e, &sent, kept, err)
}

func (f *Forwarder) send(e *entry) (kept []*consumerv1.Cursor, err error) {
	ctx, cancel := context.WithTimeout(f.ctx, callTimeout)
	defer cancel()
	s := e.session
	if len(e.cursors) > 0 || len(e.confirms) > 0 || e.touch {
		req := &consumerv1.CheckpointRequest{
			Stream: string(s.Name), StreamId: uint64(s.Key.Stream), ConsumerId: string(s.Key.Consumer), Incarnation: uint64(s.Incarnation),
		}
		for _, c := range e.cursors {
			req.Cursors = append(req.Cursors, c)
			if f.cfg.Tail != nil {
				if tail, ok := f.cfg.Tail(lane.ID{Stream: s.Key.Stream, Partition: lane.Partition(c.GetPartition())}); ok {
					req.Tails = append(req.Tails, tail)
				}
			}
		}
		answer, err := f.keeper.Checkpoint(ctx, req)
		if err != nil {
			return nil, err
		}
		kept = answer.GetCursors()
	}
	if e.health != nil {
		_, err = f.keeper.Report(ctx, &consumerv1.ReportRequest{
			Stream: string(s.Name), StreamId: uint64(s.Key.Stream), ConsumerId: string(s.Key.Consumer), Incarnation: uint64(s.Incarnation), Health: e.health,
		})
	}
	return kept, err
}

// settle answers who waits, or puts what was not stored back. f.mu is held.
func (f *Forwarder) settle(e, sent *entry, kept []*consumerv1.Cursor, err error) {
	retry := err != nil && (fault.ReasonOf(err).Temporary() || errors.Is(err, context.DeadlineExceeded)) && sent.session == e.session
	if retry && e.failures < giveUpAfter {
		e.failures++
		newer := *e
		e.cursors, e.health, e.touch = sent.cursors, sent.health, sent.touch || newer.touch
		for _, c := range newer.cursors {
			e.merge([]*consumerv1.Cursor{c})
		}
		if newer.health != nil {
			e.health = newer.health
		}
		e.confirms = append(sent.confirms, newer.confirms...)
		wait := min(retryFirst<<min(e.failures, 6), retryLast)
		if f.draining {
			wait = retryFirst
		}
		time.AfterFunc(wait/2+rand.N(wait/2), func() { f.crew.Put(e) })
		return
	}
	if err != nil {
		if errors.Is(err, fault.ConsumerFenced) && f.cfg.Fenced != nil {
			key, incarnation := sent.session.Key, sent.session.Incarnation
			f.mu.Unlock()
			f.cfg.Fenced(key, incarnation)
			f.mu.Lock()
		} else {
			f.log.Warn("consumer-state refused an acknowledgement; it was dropped", "consumer", string(sent.session.Key.Consumer), "stream", string(sent.session.Name), "error", err)
		}
	}
	e.failures = 0
	for _, c := range sent.confirms {
		c <- answer{kept, err}
	}
	if e.empty() {
		delete(f.entries, e.session.Key)
		if len(f.entries) == 0 && f.idle != nil {
			close(f.idle)
			f.idle = nil
		}
		return
	}
	f.later(e, f.cfg.Gather)
}

// Close sends what waits, for as long as ctx allows, and stops.
func (f *Forwarder) Close(ctx context.Context) {
	f.mu.Lock()
	f.draining = true
	var idle chan struct{}
	if len(f.entries) > 0 {
		if f.idle == nil {
			f.idle = make(chan struct{})
		}
		idle = f.idle
	}
	f.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	f.stop()
	f.crew.Close()
}
