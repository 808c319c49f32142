package subscription

import (
	"slices"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/catchup"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/feed"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/refusal"
)

// Stream is the connection's end of it; *rsocket.Outbound is one. Neither method blocks.
type Stream interface {
	Wake()
	Fail(err error)
}

// Tally is told of everything sent. It must not block.
type Tally func(records, bytes int)

// Reading says what is read.
type Reading struct {
	Feed *feed.Feed
	// Release lets go of Feed; called once.
	Release func()
	// Older reads what the feed no longer has.
	Older *catchup.Reader
	// After is the position of the last record the consumer has.
	After lane.Position
	// Sent, when set, is told the last sequence of everything sent. It must not block.
	Sent func(lane.Sequence)
	// Until ends the reading before this sequence; 0 follows without end.
	Until lane.Sequence
}

// Subscription is an rsocket.Source. It waits until Begin.
type Subscription struct {
	out   Stream
	tally Tally

	listener feed.Listener
	waiter   catchup.Waiter

	mu      sync.Mutex // protects what follows
	reading Reading
	begun   bool
	closed  bool
	cursor  lane.Sequence
	sent    bool // cursor is the end of a parcel
	seen    uint64
	window  window
	notices []notice
	onClose []func()
}

// notice is a delivery that is not of the log.
type notice struct {
	id       string
	metadata []byte
}

// maxNotices wait to be sent at most, the newest.
const maxNotices = 16

// New makes a Subscription that sends to out once it has begun. windowBytes must be above 0. tally may be nil.
func New(out Stream, windowBytes int64, tally Tally) *Subscription {
	s := &Subscription{out: out, tally: tally, window: window{maxBytes: windowBytes}}
	s.listener = feed.Listener{Wake: out.Wake, Fresh: true}
	s.waiter = catchup.Waiter{Wake: out.Wake}
	return s
}

// Begin starts the reading. When the stream is over already, r is released at once.
func (s *Subscription) Begin(r Reading) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		r.Release()
		return
	}
	s.reading, s.begun, s.cursor = r, true, r.After.Sequence
	s.mu.Unlock()
	s.out.Wake()
}

// Insert puts a delivery into the stream before the next parcel; one of the same id that was not sent yet is replaced (I5).
func (s *Subscription) Insert(id string, metadata []byte) {
	s.mu.Lock()
	s.notices = slices.DeleteFunc(s.notices, func(n notice) bool { return n.id == id })
	if len(s.notices) >= maxNotices {
		s.notices = slices.Delete(s.notices, 0, 1)
	}
	s.notices = append(s.notices, notice{id, metadata})
	s.mu.Unlock()
	s.out.Wake()
}

// Fail ends the stream with err.
func (s *Subscription) Fail(err error) { s.out.Fail(refusal.Of(err)) }

// OnClose adds fn to what is called when the stream is over; at once when it is.
func (s *Subscription) OnClose(fn func()) {
	s.mu.Lock()
	if !s.closed {
		s.onClose = append(s.onClose, fn)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	fn()
}

// Next gives the delivery after the cursor (I2).
func (s *Subscription) Next() (rsocket.Payload, rsocket.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.begun || !s.window.open() {
		return rsocket.Payload{}, rsocket.Wait
	}
	if len(s.notices) > 0 {
		n := s.notices[0]
		s.notices = slices.Delete(s.notices, 0, 1)
		s.window.took(len(n.metadata))
		return rsocket.Payload{Metadata: n.metadata}, rsocket.Emit
	}
	next := s.cursor + 1
	if until := s.reading.Until; until != 0 && next >= until {
		return rsocket.Payload{}, rsocket.Complete
	}
	view, err := s.reading.Feed.At(s.reading.After.Epoch, next, &s.listener)
	p := view.Parcel
	if err == nil && view.Behind {
		standing := s.reading.Feed.Standing()
		if standing.Epoch != s.reading.After.Epoch { // it changed between two looks; the feed says so at the next
			standing.Epoch = s.reading.After.Epoch
		}
		p, err = s.reading.Older.At(standing, next, &s.waiter)
	}
	switch {
	case err != nil:
		return s.end(err)
	case p != nil:
		return s.send(p)
	case view.Tail && s.reading.Until == 0 && view.Status.Version > s.seen:
		s.seen, s.listener.Fresh = view.Status.Version, false
		s.window.took(len(view.Status.Metadata))
		return rsocket.Payload{Metadata: view.Status.Metadata}, rsocket.Emit
	}
	return rsocket.Payload{}, rsocket.Wait
}

func (s *Subscription) send(p *parcel.Parcel) (rsocket.Payload, rsocket.Signal) {
	next := s.cursor + 1
	if p.First > next || p.Last < next || s.sent && p.First != next { // I1
		return s.end(fault.New(fault.Internal, "batch [%d, %d] was about to be sent where %d is next; nothing of it was sent: resume at the cursor", p.First, p.Last, next))
	}
	records := int(p.Last - s.cursor)
	s.cursor, s.sent = p.Last, true
	s.window.took(p.Size())
	if s.reading.Sent != nil {
		s.reading.Sent(p.Last)
	}
	if s.tally != nil {
		s.tally(records, p.Size())
	}
	signal := rsocket.Emit
	if until := s.reading.Until; until != 0 && s.cursor+1 >= until {
		signal = rsocket.EmitAndComplete
	}
	return rsocket.Payload{Metadata: p.Metadata, Data: p.Data}, signal
}

func (s *Subscription) end(err error) (rsocket.Payload, rsocket.Signal) {
	s.out.Fail(refusal.Of(err))
	return rsocket.Payload{}, rsocket.Fail
}

// Requested takes the bytes of the oldest n deliveries back (I3).
func (s *Subscription) Requested(n uint32) {
	s.mu.Lock()
	wasShut := !s.window.open()
	s.window.gaveBack(n)
	opened := wasShut && s.window.open()
	s.mu.Unlock()
	if opened {
		s.out.Wake()
	}
}

// Closed lets go of everything.
func (s *Subscription) Closed() {
	s.mu.Lock()
	s.closed = true
	begun, reading, onClose := s.begun, s.reading, s.onClose
	s.onClose = nil
	s.mu.Unlock()
	if begun {
		reading.Feed.Leave(&s.listener)
		reading.Older.Leave(&s.waiter)
		reading.Release()
	}
	for _, fn := range onClose {
		fn()
	}
}

// Cursor is the last sequence sent.
func (s *Subscription) Cursor() lane.Sequence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}
