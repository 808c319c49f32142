package admission

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	leastRetry = 250 * time.Millisecond
	maxRetry   = 30 * time.Second
	// firstHeld is how long a place is taken to be held before one was given back.
	firstHeld = time.Second
	// MaxUsers of one place: what a consumer does at once for one purpose.
	MaxUsers = 4
)

// Places are given to keys, so many at once. Safe for concurrent use.
type Places struct {
	what  string
	limit int

	mu      sync.Mutex // protects what follows
	taken   map[any]*place
	held    time.Duration // about how long a place is held
	turn    time.Time     // when the next one refused may come, if nobody is late
	refused int64
}

type place struct {
	users int
	since time.Time
}

// NewPlaces allows limit at once; what names them in refusals: "bootstraps".
func NewPlaces(what string, limit int) *Places {
	return &Places{what: what, limit: limit, taken: make(map[any]*place), held: firstHeld}
}

// Take gives key its place, or the Overloaded fault. release must be called once for each.
func (p *Places) Take(key any) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.taken[key]
	if one == nil {
		if len(p.taken) >= p.limit {
			return nil, p.refuseLocked()
		}
		one = &place{since: time.Now()}
		p.taken[key] = one
	}
	if one.users >= MaxUsers {
		p.refused++
		return nil, fault.New(fault.Overloaded, "one consumer may run %d streams for one purpose, and has them: wait until one is over", MaxUsers).
			With("retry_after_ms", strconv.FormatInt(leastRetry.Milliseconds(), 10))
	}
	one.users++
	return sync.OnceFunc(func() { p.leave(key, one) }), nil
}

func (p *Places) leave(key any, one *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(p.taken, key)
		p.held += (time.Since(one.since) - p.held) / 8
	}
}

// refuseLocked sends one away to the end of a line that nobody stands in: everybody in it was told when to come back (I2).
func (p *Places) refuseLocked() error {
	p.refused++
	now := time.Now()
	if p.turn.Before(now) {
		p.turn = now
	}
	if p.turn.Sub(now) < maxRetry {
		p.turn = p.turn.Add(p.held / time.Duration(p.limit))
	}
	wait := max(p.turn.Sub(now), leastRetry)
	wait = min(wait*3/4+rand.N(wait/2), maxRetry)
	return fault.New(fault.Overloaded, "this gateway runs its %d %s already: try again in %v", p.limit, p.what, wait.Round(time.Millisecond)).
		With("retry_after_ms", strconv.FormatInt(wait.Milliseconds(), 10))
}

// InUse is how many places are taken.
func (p *Places) InUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.taken)
}

// Refused is how many were refused.
func (p *Places) Refused() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}
