package replica

import (
	"fmt"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Phase is what a replica is doing.
type Phase int

// The life of a healthy replica goes from Connecting over Receiving, Building and Swapping (once) and CatchingUp to Live.
const (
	Connecting Phase = iota
	Receiving        // the rows of a bootstrap arrive
	Building         // your objects are carried over, the rows are read back and compared
	Swapping         // the link moves
	CatchingUp       // behind the tail
	Live             // at the tail
	Suspect          // a digest differed
	Verifying        // all rows are read again
	Repairing        // the rows that differ are found, fetched and replaced
	Failed           // see Status.Problem and Status.RetryAt
	Closed
)

var phaseNames = [...]string{"connecting", "receiving", "building", "swapping", "catching up", "live", "suspect", "verifying", "repairing", "failed", "closed"}

// String gives the phase in words.
func (p Phase) String() string {
	if p < 0 || int(p) >= len(phaseNames) {
		return fmt.Sprintf("phase %d", int(p))
	}
	return phaseNames[p]
}

func (p Phase) wire() consumerv1.Phase {
	switch p {
	case Receiving:
		return consumerv1.Phase_PHASE_RECEIVING
	case Building:
		return consumerv1.Phase_PHASE_BUILDING
	case Swapping:
		return consumerv1.Phase_PHASE_SWAPPING
	case CatchingUp:
		return consumerv1.Phase_PHASE_CATCHING_UP
	case Live:
		return consumerv1.Phase_PHASE_LIVE
	case Suspect:
		return consumerv1.Phase_PHASE_SUSPECT
	case Verifying:
		return consumerv1.Phase_PHASE_VERIFYING
	case Repairing:
		return consumerv1.Phase_PHASE_REPAIRING
	case Failed:
		return consumerv1.Phase_PHASE_FAILED
	}
	return consumerv1.Phase_PHASE_CONNECTING
}

// Progress is one step of a phase.
type Progress struct {
	Phase Phase
	// On is the rung of the ladder that is being climbed; 0 for none.
	On Rung
	// Done and Expected count rows (bootstrap) or records (catching up); Expected 0 means unknown. While the provider still makes the
	// snapshot of a bootstrap they count its rows there, and ExpectedBytes is 0.
	Done, Expected uint64
	// DoneBytes and ExpectedBytes count what a bootstrap moves over the network, what was there from an interrupted one included.
	DoneBytes, ExpectedBytes uint64
}

// Status is a replica's account of itself at one moment. Phase and the rest of Progress say what it is doing, Lanes where it stands and what
// is proven, Problem what went wrong last. A replica is right when every lane's VerifiedAt is its Cursor, and up to date when Lag is 0.
type Status struct {
	Progress
	Gateway     string // connected to; "" while not
	Incarnation lane.Incarnation
	Lanes       []LaneStatus
	// Since Open: digests compared equal and unequal, generations built, gaps filled from the log, connections made.
	Verified, Mismatched, Bootstraps, Gaps, Connections uint64
	// Since Open: how often changes were taken and rows repaired, and the rows and bytes that resynchronising has moved.
	ChangesTaken, Repairs, MovedRows, MovedBytes uint64
	// Resets are the provider's commands that run, and the last that ended.
	Resets []*consumerv1.ResetProgress
	// Scrubbed is how often all rows were read again in the background and found to be what was written.
	Scrubbed uint64
	// Rung is the last rung of the ladder that made something equal; 0 for none.
	Rung Rung
	// Problem is the last failure, nil when the phase is not Failed; RetryAt is when it is tried again, zero when it is not.
	Problem error
	RetryAt time.Time
}

// LaneStatus is where one partition stands.
type LaneStatus struct {
	Partition lane.Partition
	Cursor    lane.Position
	Digest    digest.Set
	// VerifiedAt is the highest position compared equal with the provider; the zero Position before the first.
	VerifiedAt lane.Position
	// Tail is the provider's last committed sequence as last heard; meaningless unless TailKnown.
	Tail      lane.Sequence
	TailKnown bool
}

// Lag gives how many records the partition is behind; known is false when the tail is.
func (l LaneStatus) Lag() (records uint64, known bool) {
	if !l.TailKnown {
		return 0, false
	}
	return uint64(l.Tail - min(l.Tail, l.Cursor.Sequence)), true
}

// EventKind says what an Event tells.
type EventKind int

// Kinds of events.
const (
	// DigestMismatch: the replica's digest differed from the provider's; what follows comes as its own event.
	DigestMismatch EventKind = iota + 1
	// MismatchExplained: reading all rows again explained the digest that differed, and nothing had to be fetched; Why says what it was.
	MismatchExplained
	// RowsChanged: rows were changed by somebody else than the replica.
	RowsChanged
	// ResyncNeeded: the ladder of resynchronisation will be climbed; Why says what for.
	ResyncNeeded
	// Climbing: a rung of the ladder did not do, and the next is tried.
	Climbing
	// ChangesTaken: what had changed since the cursor was fetched and applied, and the digest agreed.
	ChangesTaken
	// RowsRepaired: the rows that differed were replaced, and the digest agreed.
	RowsRepaired
	// Ordered: a command of the provider has ended; Why says which and how.
	Ordered
	// Bootstrapped: a new generation is in place.
	Bootstrapped
	// BuildRefused: a new generation was built, its rows were not the provider's, and it was not put in place. It is kept beside the
	// generations as unproven.db, the last one only, for whoever looks into it.
	BuildRefused
	// ObjectsLost: some of your tables, indexes, views or triggers could not be carried over; Why names them. The old generation is kept.
	ObjectsLost
	// GapFilled: deliveries were missing and were read from the log.
	GapFilled
	// Fenced: another process attached under the same consumer id; this replica has stopped.
	Fenced
)

var eventNames = map[EventKind]string{DigestMismatch: "digest mismatch", MismatchExplained: "mismatch explained", RowsChanged: "rows changed", ResyncNeeded: "resync needed", Climbing: "climbing", ChangesTaken: "changes taken", RowsRepaired: "rows repaired", Ordered: "command ended",
	Bootstrapped: "bootstrapped", BuildRefused: "build refused", ObjectsLost: "objects lost", GapFilled: "gap filled", Fenced: "fenced"}

// String gives the kind in words.
func (k EventKind) String() string { return eventNames[k] }

// Event is something that happened to the replica beyond applying records.
type Event struct {
	Kind      EventKind
	Partition lane.Partition
	Sequence  lane.Sequence
	Why       string
}

// Status answers what the replica is doing. Safe for concurrent use; the answer is a copy.
func (r *Replica) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Lanes = append([]LaneStatus(nil), s.Lanes...)
	s.Resets = r.orders.progress()
	return s
}

// update changes the status and wakes who waits for it.
func (r *Replica) update(change func(*Status)) {
	r.mu.Lock()
	change(&r.status)
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// enter begins a phase.
func (r *Replica) enter(p Phase) { r.progress(Progress{Phase: p}) }

func (r *Replica) progress(p Progress) {
	p.On = r.on
	r.update(func(s *Status) {
		s.Progress = p
		if p.Phase != Failed {
			s.Problem, s.RetryAt = nil, time.Time{}
		}
	})
	if r.cfg.OnProgress != nil {
		r.cfg.OnProgress(p)
	}
}

// tell passes an event on.
func (r *Replica) tell(e Event) {
	r.cfg.Log.Warn("replica: "+e.Kind.String(), "stream", r.cfg.Stream, "partition", e.Partition, "sequence", e.Sequence, "why", e.Why)
	if r.cfg.OnEvent != nil {
		r.cfg.OnEvent(e)
	}
}

// health is the status as the provider is told it.
func (r *Replica) health() *consumerv1.Health {
	s := r.Status()
	h := &consumerv1.Health{Phase: s.Phase.wire(), Done: s.Done, Expected: s.Expected, DoneBytes: s.DoneBytes, ExpectedBytes: s.ExpectedBytes, Verified: s.Verified, Mismatched: s.Mismatched,
		Rung: s.Rung.wire(), Resets: s.Resets}
	if s.On > 0 {
		h.Rung = s.On.wire()
	}
	for _, l := range s.Lanes {
		h.Digests = append(h.Digests, mark{l.Cursor, l.Digest}.wire())
	}
	if s.Problem != nil {
		h.Problem = s.Problem.Error()
		h.RetryAtMs = s.RetryAt.UnixMilli()
	}
	return h
}
