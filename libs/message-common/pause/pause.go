// Package pause is the wait between two tries: growing, jittered, bounded, and over at once when nobody wants the next try any more.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// Schedule says how long pauses get. The zero value is 50 ms growing by 1.8 to 5 s.
type Schedule struct{ First, Longest time.Duration }

const growth = 1.8

// Pause is one run of tries. Not safe for concurrent use.
type Pause struct {
	schedule Schedule
	next     time.Duration
}

// New starts a run.
func New(s Schedule) *Pause {
	if s.First <= 0 {
		s.First = 50 * time.Millisecond
	}
	if s.Longest <= 0 {
		s.Longest = 5 * time.Second
	}
	return &Pause{schedule: s}
}

// Reset says that a try went well: the next pause is the first again.
func (p *Pause) Reset() { p.next = 0 }

// Next gives the length of the next pause: between half of the schedule's and all of it, so that many clients do not try together.
func (p *Pause) Next() time.Duration {
	if p.next == 0 {
		p.next = p.schedule.First
	}
	d := p.next
	p.next = min(time.Duration(float64(p.next)*growth), p.schedule.Longest)
	return d/2 + rand.N(d/2+1)
}

// Wait waits for d or the end of ctx, whose error it returns.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
