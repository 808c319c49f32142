package admission

import "time"

const (
	// late is how late a timer may come while live tails are sent; later means that they wait for a processor too.
	late = 500 * time.Microsecond
	// probeAfter is how far ahead such a timer is set.
	probeAfter = 2 * time.Millisecond
	// tailsLast is how long tails count as live after something was sent to them.
	tailsLast = time.Second
	// One timer in a hundred may be late: the rate is balanced then. It never falls below a tenth of what was configured.
	raise, lower, lowest = 0.003, 0.7, 0.1
	// first is what it begins with beside live tails, of what was configured: how busy the processors are is not known yet.
	first = 0.25
)

// pace is the rate at which a Bucket passes bytes now. With nobody live it is the configured one; while tails are sent, it gives way as
// soon as they would have to wait for a processor, and comes back bit by bit (I4). Its owner locks.
type pace struct {
	full, now float64 // bytes a second
	tails     int64   // sent when last heard of
	tailsAt   time.Time
}

// hear takes how late a timer came, and how many deliveries were sent to live tails so far.
func (p *pace) hear(lateness time.Duration, tails int64, at time.Time) {
	if tails != p.tails {
		if at.Sub(p.tailsAt) > tailsLast {
			p.now = min(p.now, p.full*first)
		}
		p.tails, p.tailsAt = tails, at
	}
	switch {
	case at.Sub(p.tailsAt) > tailsLast:
		p.now = p.full
	case lateness > late:
		p.now = max(p.now*lower, p.full*lowest)
	default:
		p.now = min(p.now+p.full*raise, p.full)
	}
}
