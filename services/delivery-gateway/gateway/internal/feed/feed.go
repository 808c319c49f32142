package feed

import (
	"sync"
	"time"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Feed is the recent end of one lane. Safe for concurrent use.
type Feed struct {
	id     lane.ID
	stream lane.StreamName
	budget *Budget
	// kick tells the follower that something changed; it holds at most one.
	kick chan struct{}

	mu sync.Mutex // protects what follows
	// at.Tail is the highest tail heard of; next is the end of what is here. next <= at.Tail + 1.
	at       storage.Standing
	next     lane.Sequence
	ring     ring
	waiting  waiting
	fault    error // why nobody can be served now; nil when all is well
	gone     bool  // the stream was deleted: fault stays
	heard    bool  // a hint came since the last poll
	stale    bool  // a newer epoch was heard of: ask for the standing before anything else
	marked   *streamv1.DigestMark
	status   Status
	statusAt time.Time // of the last status
	// statusTail is the tail the last status told.
	statusTail lane.Sequence
	sentAt     time.Time // of the last parcel or status
}

// Status is a shared delivery without records. Version rises with every new one; 0 is none.
type Status struct {
	Version  uint64
	Metadata []byte
}

// View is an answer of At: exactly one of Parcel, Behind, Tail, or the error beside it.
type View struct {
	// Parcel holds the sequence asked for.
	Parcel *parcel.Parcel
	// Behind: the ring no longer has it; Head is the lane's first retained sequence as last heard.
	Behind bool
	Head   lane.Sequence
	// Tail: there is nothing yet; the listener will be woken. Status is the lane's newest.
	Tail   bool
	Status Status
}

func newFeed(at storage.Standing, budget *Budget, now time.Time) *Feed {
	f := &Feed{id: at.Lane, stream: at.Stream, budget: budget, kick: make(chan struct{}, 1), at: at, next: at.Tail + 1, sentAt: now}
	f.newStatus(now)
	return f
}

// Lane is the lane followed.
func (f *Feed) Lane() lane.ID { return f.id }

// Stream is the name of the lane's stream.
func (f *Feed) Stream() lane.StreamName { return f.stream }

// Standing is where the lane stands as far as heard; its tail may be ahead of what is here.
func (f *Feed) Standing() storage.Standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// Held is the end of what is here: committed for certain, unlike a tail that was only heard of.
func (f *Feed) Held() lane.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return lane.Position{Epoch: f.at.Epoch, Sequence: f.next - 1}
}

// At looks up the parcel that holds seq in the given history. When seq is behind the tail, l is noted in the same step (I5).
// Errors: EpochMismatch (I4), UnknownStream, or what storage said about the lane.
func (f *Feed) At(epoch lane.Epoch, seq lane.Sequence, l *Listener) (View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.Epoch != epoch {
		return View{}, EpochMismatch(f.id, epoch, f.at.Epoch)
	}
	if p := f.ring.find(seq); p != nil {
		return View{Parcel: p}, nil
	}
	if f.gone {
		return View{}, f.fault
	}
	if seq < f.next {
		return View{Behind: true, Head: f.at.Head}, nil
	}
	if f.fault != nil {
		return View{}, f.fault
	}
	f.waiting.add(l)
	if l.Fresh && f.statusTail+1 != f.next {
		return View{Tail: true, Status: Status{Version: f.status.Version, Metadata: parcel.Status(f.place())}}, nil
	}
	return View{Tail: true, Status: f.status}, nil
}

// Leave forgets l; it is not woken after a wake-up already under way.
func (f *Feed) Leave(l *Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting.remove(l)
}

// Hear takes a hint. A batch that rides along is used when it is exactly the next one (I1); everything else only kicks the follower.
func (f *Feed) Hear(n *notifyv1.Notification, now time.Time) {
	if n.GetDeleted() {
		f.end(fault.New(fault.UnknownStream, "stream %q was deleted", f.stream))
		return
	}
	var p *parcel.Parcel
	if data := n.GetBatch(); len(data) > 0 {
		// A hint is no authority: a batch that does not check is read from storage instead.
		p, _ = parcel.Make(data, parcel.Place{
			Lane: f.id, Epoch: lane.Epoch(n.GetEpoch()), Head: lane.Sequence(n.GetHead()), Tail: lane.Sequence(n.GetTail()),
			TailTimeMS: n.GetTailTimeMs(), Digest: n.GetDigest(),
		})
	}
	f.mu.Lock()
	f.heard = true
	switch epoch := lane.Epoch(n.GetEpoch()); {
	case epoch < f.at.Epoch || f.gone: // I3
		f.mu.Unlock()
		return
	case epoch > f.at.Epoch:
		f.stale = true
		f.mu.Unlock()
		f.nudge()
		return
	}
	f.advance(lane.Sequence(n.GetHead()), lane.Sequence(n.GetTail()), n.GetTailTimeMs(), n.GetDigest())
	f.mu.Unlock()
	if p != nil {
		f.Append(lane.Epoch(n.GetEpoch()), p, now)
	}
	f.nudge()
}

// Stand takes an authoritative standing from storage.
func (f *Feed) Stand(at storage.Standing) {
	f.mu.Lock()
	if at.Epoch < f.at.Epoch || f.gone { // I3
		f.mu.Unlock()
		return
	}
	f.stale = false
	if at.Epoch > f.at.Epoch { // I4
		f.at, f.next, f.fault = at, at.Tail+1, nil
		f.marked = nil
		f.reset()
		return
	}
	f.advance(at.Head, at.Tail, at.TailTimeMS, at.Digest)
	f.mu.Unlock()
	f.nudge()
}

// advance moves head, known tail and mark forward, never back (I3). f.mu is held.
func (f *Feed) advance(head, tail lane.Sequence, tailTimeMS int64, mark *streamv1.DigestMark) {
	f.at.Head = max(f.at.Head, head)
	if tail > f.at.Tail {
		f.at.Tail = tail
	}
	f.at.TailTimeMS = max(f.at.TailTimeMS, tailTimeMS)
	if mark != nil && lane.Epoch(mark.GetEpoch()) == f.at.Epoch && (f.at.Digest == nil || mark.GetSequence() > f.at.Digest.GetSequence()) {
		f.at.Digest = mark
	}
}

// Append takes the next parcel and wakes who waits. False: it is not the next one, and nothing changed (I1).
func (f *Feed) Append(epoch lane.Epoch, p *parcel.Parcel, now time.Time) bool {
	f.mu.Lock()
	if epoch != f.at.Epoch || p.First != f.next || f.gone {
		f.mu.Unlock()
		return false
	}
	s := &slot{feed: f, parcel: p}
	f.ring.push(s)
	f.next = p.Next()
	f.at.Tail = max(f.at.Tail, p.Last)
	f.at.TailTimeMS = max(f.at.TailTimeMS, p.LastTimeMS)
	f.fault = nil
	f.sentAt = now
	if m := p.Mark; m != nil && lane.Epoch(m.GetEpoch()) == f.at.Epoch && (f.at.Digest == nil || m.GetSequence() >= f.at.Digest.GetSequence()) {
		f.at.Digest, f.marked = m, m // it goes out with the parcel and needs no status
	}
	evicted := f.budget.add(s)
	listeners := f.takeWaiting()
	f.mu.Unlock()
	for _, e := range evicted { // other feeds' locks are taken only now
		e.feed.evict(e)
	}
	wake(listeners)
	return true
}

func (f *Feed) evict(s *slot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ring.live()) > 0 && s.parcel.First >= f.ring.live()[0].parcel.First {
		f.ring.dropThrough(s.parcel.Last)
	}
}

// Fail tells everybody who waits why nothing comes; the feed goes on trying.
func (f *Feed) Fail(err error) {
	f.mu.Lock()
	if f.gone {
		f.mu.Unlock()
		return
	}
	f.fault = err
	listeners := f.takeWaiting()
	f.mu.Unlock()
	wake(listeners)
}

// restart gives up the ring because the log no longer has what comes next; listeners find the loss by catch-up.
func (f *Feed) restart(at storage.Standing) {
	f.mu.Lock()
	if at.Epoch < f.at.Epoch || f.gone || at.Epoch == f.at.Epoch && at.Tail+1 < f.next {
		f.mu.Unlock()
		return
	}
	f.at, f.next, f.fault, f.stale = at, at.Tail+1, nil, false
	f.reset()
}

// end is for a stream that is no more.
func (f *Feed) end(why error) {
	f.mu.Lock()
	f.fault, f.gone = why, true
	f.reset()
}

// reset empties the ring, wakes everybody and unlocks f.mu, which is held.
func (f *Feed) reset() {
	f.budget.remove(f.ring.clear())
	listeners := f.takeWaiting()
	f.mu.Unlock()
	wake(listeners)
	f.nudge()
}

func (f *Feed) takeWaiting() []*Listener {
	if len(f.waiting.listeners) == 0 {
		return nil
	}
	return f.waiting.take(nil)
}

func wake(listeners []*Listener) {
	for _, l := range listeners {
		l.Wake()
	}
}

func (f *Feed) nudge() {
	select {
	case f.kick <- struct{}{}:
	default: // one is enough: the follower looks at everything
	}
}

// newStatus encodes the lane's standing as of what is here. f.mu is held, or f is not shared yet.
func (f *Feed) newStatus(now time.Time) {
	place := f.place()
	if place.Digest != nil {
		f.marked = place.Digest
	}
	f.status = Status{Version: f.status.Version + 1, Metadata: parcel.Status(place)}
	f.statusAt, f.sentAt, f.statusTail = now, now, place.Tail
}

// place is where the lane stands as of what is here. f.mu is held, or f is not shared yet.
func (f *Feed) place() parcel.Place {
	at := parcel.Place{Lane: f.id, Epoch: f.at.Epoch, Head: f.at.Head, Tail: f.next - 1, TailTimeMS: f.at.TailTimeMS}
	if d := f.at.Digest; d != nil && lane.Sequence(d.GetSequence()) < f.next {
		at.Digest = d
	}
	return at
}

// EpochMismatch refuses a position of another history of the lane.
func EpochMismatch(id lane.ID, have, want lane.Epoch) error {
	return fault.New(fault.EpochMismatch, "the position belongs to history %d of lane %v, which is now in history %d: verify the replica, or start anew", have, id, want).
		With("epoch", Text(want))
}
