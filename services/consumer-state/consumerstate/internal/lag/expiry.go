package lag

import (
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	// headWindow is long, since the head moves by whole segments and stands between.
	headWindow = 30 * time.Minute
	// cursorWindow is short: what counts is whether the consumer applies now.
	cursorWindow = time.Minute
	// watchEvery spaces looks at the cursors of a lane out: with many consumers and lanes they are many.
	watchEvery = 5 * time.Second
	// leastWatched is how long something must have been watched before it is said to have a rate.
	leastWatched = 10 * time.Second
	// maxPaces bounds the cursors watched, of all lanes, at about 100 bytes each; those beyond have no known rate (I4).
	maxPaces = 1 << 18
)

// pace is how fast a sequence moves: since base, which is between one and two windows ago, or since it was first seen.
type pace struct{ base, middle mark }

type mark struct {
	sequence lane.Sequence
	ms       int64
}

func (p *pace) see(at lane.Sequence, nowMs int64, window time.Duration) {
	now := mark{at, nowMs}
	switch {
	case p.base.ms == 0 || at < p.base.sequence || nowMs < p.base.ms: // new, moved back by a command, or the clock was
		p.base, p.middle = now, now
	case nowMs-p.middle.ms >= window.Milliseconds():
		p.base, p.middle = p.middle, now
	}
}

// rate is in records a second; known is false until it was watched for a while (I1).
func (p *pace) rate(at lane.Sequence, nowMs int64) (perSecond float64, known bool) {
	ms := nowMs - p.base.ms
	if p.base.ms == 0 || ms < leastWatched.Milliseconds() || at < p.base.sequence {
		return 0, false
	}
	return float64(at-p.base.sequence) * 1000 / float64(ms), true
}

// Watch takes where a lane's head stands, and now and then asks for the cursors in it. Together with Hear it is told at every exchange of
// tails, so that consumers that are away are watched like the others. Cursors of other epochs have no rate.
func (b *Book) Watch(id lane.ID, head lane.Position, ask func() map[lane.ConsumerID]lane.Position, nowMs int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.streams[id.Stream][id.Partition]
	if t == nil || head.Epoch != t.tail.Epoch || head.Sequence < t.head {
		return
	}
	t.head = head.Sequence
	if ms := nowMs - t.watchedMs; t.watchedMs != 0 && ms >= 0 && ms < watchEvery.Milliseconds() {
		return
	}
	t.watchedMs = nowMs
	t.headPace.see(head.Sequence, nowMs, headWindow)
	cursors := ask()
	for consumer := range t.cursors {
		if at, ok := cursors[consumer]; !ok || at.Epoch != head.Epoch {
			delete(t.cursors, consumer)
			b.paces--
		}
	}
	for consumer, at := range cursors {
		if at.Epoch != head.Epoch {
			continue
		}
		p := t.cursors[consumer]
		if p == nil {
			if b.paces >= maxPaces { // I4
				continue
			}
			p = &pace{}
			if t.cursors == nil {
				t.cursors = make(map[lane.ConsumerID]*pace)
			}
			t.cursors[consumer] = p
			b.paces++
		}
		p.see(at.Sequence, nowMs, cursorWindow)
	}
}

// forget lets go of what was watched in t. b.mu is held.
func (b *Book) forget(t *track) {
	b.paces -= len(t.cursors)
	t.head, t.headPace, t.watchedMs, t.cursors = 0, pace{}, 0, nil
}

// Expiry is whether retention will overtake a cursor.
type Expiry struct {
	// Head is the first retained sequence; 0 is unknown.
	Head lane.Sequence
	// Will says Seconds means something: in how many, at the present rates, the cursor's next record will have expired. 0: it has.
	// Otherwise it will not, or is not known (I1).
	Will    bool
	Seconds float64
}

// ExpiryOf measures a consumer's cursor; nil when there is none.
func (b *Book) ExpiryOf(id lane.ID, consumer lane.ConsumerID, cursor *lane.Position, nowMs int64) Expiry {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.streams[id.Stream][id.Partition]
	if t == nil || t.head == 0 {
		return Expiry{}
	}
	e := Expiry{Head: t.head}
	if cursor == nil || *cursor != (lane.Position{}) && cursor.Epoch != t.tail.Epoch || nowMs-t.heardMs > b.staleAfter.Milliseconds() {
		return e
	}
	next := cursor.Sequence + 1
	if next < t.head {
		e.Will = true
		return e
	}
	if cursor.Sequence >= t.tail.Sequence { // nothing there to lose
		return e
	}
	head, known := t.headPace.rate(t.head, nowMs)
	p := t.cursors[consumer]
	if !known || p == nil {
		return e
	}
	own, known := p.rate(cursor.Sequence, nowMs)
	if !known || head <= own {
		return e
	}
	e.Will = true
	e.Seconds = float64(next+1-t.head) / (head - own)
	return e
}
