// Package supply is a stream of pieces that something makes while a consumer takes them.
//
//	maker ── Offer ──▶ at most ReadAhead pieces ──▶ Next ──▶ consumer       (credit counts pieces)
//
// Invariants:
//
//	I1  at most ReadAhead pieces of a stream are in memory beyond what its consumer has credit for; the maker waits.
//	I2  a consumer that takes nothing for StallTimeout, though something is ready, loses the stream, and with it what its maker holds.
//	I3  a status is dropped rather than waited for.
package supply

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/refusal"
)

const (
	// ReadAhead is how many pieces are kept ready.
	ReadAhead = 4
	// StallTimeout ends a stream whose consumer takes nothing.
	StallTimeout = 30 * time.Second
)

// Stream is the connection's end; *rsocket.Outbound is one. No method blocks.
type Stream interface {
	Wake()
	Complete()
	Fail(err error)
}

// Source is an rsocket.Source.
type Source struct {
	out    Stream
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc

	mu    sync.Mutex // protects what follows
	ready []rsocket.Payload
	room  chan struct{} // has one when something was taken
	done  bool          // nothing more will be offered
}

// New makes a Source under ctx. The caller runs Make.
func New(ctx context.Context, out Stream) *Source {
	ctx, cancel := context.WithCancel(ctx)
	return &Source{out: out, ctx: ctx, cancel: cancel, room: make(chan struct{}, 1)}
}

// Fail ends the stream with err.
func (s *Source) Fail(err error) { s.out.Fail(refusal.Of(err)) }

// Context ends when the stream is over.
func (s *Source) Context() context.Context { return s.ctx }

// Make runs maker, which offers pieces, waits until they are taken and completes the stream; or tells the consumer why it failed.
// It returns when the stream is over or needs nothing more of the maker.
func (s *Source) Make(maker func(ctx context.Context) error) {
	defer s.cancel()
	err := maker(s.ctx)
	if err == nil {
		err = s.finish()
	}
	if err != nil && s.ctx.Err() == nil {
		s.Fail(err)
	}
}

// Offer waits for room (I1, I2).
func (s *Source) Offer(p rsocket.Payload) error {
	for {
		s.mu.Lock()
		if len(s.ready) < ReadAhead {
			s.ready = append(s.ready, p)
			s.mu.Unlock()
			s.out.Wake()
			return nil
		}
		s.mu.Unlock()
		if err := s.taken(); err != nil {
			return err
		}
	}
}

// OfferStatus never waits (I3).
func (s *Source) OfferStatus(p rsocket.Payload) {
	s.mu.Lock()
	room := len(s.ready) < ReadAhead-1
	if room {
		s.ready = append(s.ready, p)
	}
	s.mu.Unlock()
	if room {
		s.out.Wake()
	}
}

// finish waits until everything is taken, so that the consumer's place is held that long.
func (s *Source) finish() error {
	s.mu.Lock()
	s.done = true
	left := len(s.ready)
	s.mu.Unlock()
	if left == 0 {
		s.out.Complete()
		return nil
	}
	for left > 0 {
		if err := s.taken(); err != nil {
			return err
		}
		s.mu.Lock()
		left = len(s.ready)
		s.mu.Unlock()
	}
	return nil
}

// taken waits until the consumer has taken something.
func (s *Source) taken() error {
	stalled := time.NewTimer(StallTimeout)
	defer stalled.Stop()
	select {
	case <-s.room:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-stalled.C: // I2
		return fault.New(fault.Overloaded, "nothing was taken for %v and the place was given to others: ask again for what is missing", StallTimeout).
			With("retry_after_ms", strconv.FormatInt(time.Second.Milliseconds(), 10))
	}
}

// Next gives the next piece.
func (s *Source) Next() (rsocket.Payload, rsocket.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) == 0 {
		return rsocket.Payload{}, rsocket.Wait
	}
	p := s.ready[0]
	s.ready[0] = rsocket.Payload{}
	s.ready = s.ready[1:]
	select {
	case s.room <- struct{}{}:
	default:
	}
	if s.done && len(s.ready) == 0 {
		return p, rsocket.EmitAndComplete
	}
	return p, rsocket.Emit
}

// Requested: the engine counts credit; there is nothing else to count.
func (s *Source) Requested(uint32) {}

// Closed ends the maker.
func (s *Source) Closed() { s.cancel() }
