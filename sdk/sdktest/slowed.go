package sdktest

import (
	"time"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// slowed is a stream of answers whose deliveries are spaced out as Slow says. The engine calls Next from one goroutine at a time.
type slowed struct {
	rsocket.Source
	p   *Provider
	out *rsocket.Outbound

	next  time.Time   // of the next delivery
	timer *time.Timer // nil before the first wait
}

// Next waits while the time has not come.
func (s *slowed) Next() (rsocket.Payload, rsocket.Signal) {
	s.p.mu.Lock()
	between := s.p.faults.slow
	s.p.mu.Unlock()
	if wait := time.Until(s.next); between > 0 && wait > 0 {
		if s.timer == nil {
			s.timer = time.AfterFunc(wait, s.out.Wake)
		} else {
			s.timer.Reset(wait)
		}
		return rsocket.Payload{}, rsocket.Wait
	}
	p, signal := s.Source.Next()
	if signal != rsocket.Wait {
		s.next = time.Now().Add(between)
	}
	return p, signal
}

// Closed stops waiting.
func (s *slowed) Closed() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.Source.Closed()
}
