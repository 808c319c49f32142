package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// permanentPause is the wait after a refusal that only somebody else's act can end, such as an unknown stream.
const permanentPause = 30 * time.Second

// Replica is a local copy that is kept equal to the provider's state until Close. Safe for concurrent use.
type Replica struct {
	cfg    Config
	place  store.Place
	unlock func()
	reader *store.Reader
	cancel context.CancelFunc // ends run
	done   chan struct{}      // closed when run has returned

	// Owned by run.
	gen      *store.Generation // nil before the first bootstrap
	previous string            // the file of gen, or of one too damaged to open
	held     bool              // old generations are still being read
	meta     store.Meta        // of the provider's stream, once described
	lanes    []*laneState
	need     need // which lanes are not known to be equal, and why
	orders   *orders
	scrub    scrub
	retry    *pause.Pause
	toldAt   time.Time // the last progress of catching up
	on       Rung      // the rung that is being climbed; 0 for none

	watchers watchers

	mu      sync.Mutex // protects what follows
	status  Status
	changed chan struct{} // closed and made anew with every change of status
	session *session.Session
	stopped error // why the replica will not go on; nil while it does
}

// Open opens the replica at cfg.Path, or begins one there, and starts to follow the provider; it does not wait for it. Faults:
// InvalidArgument, ForeignData (the path is something else, which is left as it is), UnsupportedVersion, InUse. The end of ctx after
// Open has returned means nothing: use Close.
func Open(ctx context.Context, cfg Config) (*Replica, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	place := store.PlaceOf(cfg.Path)
	if _, err := place.Current(); err != nil {
		return nil, err
	}
	unlock, err := place.Lock()
	if err != nil {
		return nil, err
	}
	ordered, err := openOrders(place.File("commands"))
	if err != nil {
		unlock()
		return nil, err
	}
	r := &Replica{cfg: cfg, orders: ordered, place: place, unlock: unlock, reader: store.NewReader(), done: make(chan struct{}), changed: make(chan struct{}), retry: pause.New(cfg.retry())}
	if err := r.openFile(ctx); err != nil {
		unlock()
		return nil, errors.Join(err, r.reader.Close())
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	go r.run(runCtx) // stopped by Close
	return r, nil
}

// openFile opens the current generation, if there is one.
func (r *Replica) openFile(ctx context.Context) error {
	file, err := r.place.Current()
	if err != nil {
		return err
	}
	held, err := r.place.Clean() // what an interrupted build left, and generations nobody holds
	if r.held = held > 0; err != nil {
		return fault.New(fault.InUse, "the replica %s cannot be tidied: %w", r.cfg.Path, err)
	}
	if file == "" {
		r.previous = r.place.Cleared()
		r.need.whole("there is no replica yet")
		return nil
	}
	gen, lanes, err := store.Open(ctx, file, lane.StreamName(r.cfg.Stream))
	switch {
	case err == nil:
		r.take(gen, lanes)
	case fault.ReasonOf(err) == fault.Corrupt:
		r.previous = file
		r.need.whole(err.Error())
	default:
		return err
	}
	return nil
}

// take makes gen the generation that is written and read.
func (r *Replica) take(gen *store.Generation, lanes []store.Lane) {
	r.gen, r.previous, r.meta = gen, gen.File(), gen.Meta()
	r.lanes = r.lanes[:0]
	for _, l := range lanes {
		r.lanes = append(r.lanes, newLaneState(l))
	}
	r.reader.Follow(gen.File())
	r.publishLanes()
}

// DB gives the replica for reading. It follows the swaps of generations: see I4. Queries are refused (fault.Unavailable) until there
// is a verified generation. It belongs to the Replica; do not close it.
func (r *Replica) DB() *sql.DB { return r.reader.DB() }

// Path is the file a person opens with sqlite3.
func (r *Replica) Path() string { return r.cfg.Path }

// ConsumerID is the name under which the provider keeps this replica's cursor.
func (r *Replica) ConsumerID() lane.ConsumerID { return lane.ConsumerID(r.cfg.ConsumerID) }

// Close stops following, tells the provider where it stopped, and closes the file, which stays. Calling it again does nothing.
func (r *Replica) Close() error {
	r.cancel()
	<-r.done
	return r.reader.Close()
}

// run keeps the replica equal, session after session, until Close or until it is fenced.
func (r *Replica) run(ctx context.Context) {
	defer close(r.done)
	defer r.shut()
	if r.gen != nil && !r.cfg.TrustFile {
		r.readAgain()
	}
	for n := 0; ctx.Err() == nil; n++ {
		err := r.connected(ctx, n)
		if ctx.Err() != nil {
			return
		}
		wait := r.retry.Next()
		if asked, told := retryAfter(err); told {
			wait = max(wait, asked)
		}
		switch reason := fault.ReasonOf(err); {
		case reason == fault.ConsumerFenced:
			r.tell(Event{Kind: Fenced, Why: err.Error()})
			r.stop(fault.New(fault.ConsumerFenced, "another process follows stream %q as consumer %q; this replica has stopped and its file stays as it is: give one of them another consumer id (%w)",
				r.cfg.Stream, r.cfg.ConsumerID, err))
			return
		case permanent(reason):
			wait = max(wait, permanentPause)
		}
		r.cfg.Log.Warn("replica: interrupted", "stream", r.cfg.Stream, "error", err, "again_in", wait)
		r.update(func(s *Status) {
			s.Progress = Progress{Phase: Failed}
			s.Problem, s.RetryAt, s.Gateway = err, time.Now().Add(wait), ""
		})
		if r.cfg.OnProgress != nil {
			r.cfg.OnProgress(Progress{Phase: Failed})
		}
		if pause.Wait(ctx, wait) != nil {
			return
		}
	}
}

// stop says that the replica does not go on.
func (r *Replica) stop(err error) {
	r.mu.Lock()
	r.stopped = err
	r.mu.Unlock()
	if r.cfg.Reads == BlockReads && !r.need.none() {
		r.reader.Refuse() // what the queries wait for does not come
	}
	r.update(func(s *Status) {
		s.Progress = Progress{Phase: Failed}
		s.Problem, s.RetryAt, s.Gateway = err, time.Time{}, ""
	})
}

// shut closes the file when run ends.
func (r *Replica) shut() {
	if r.gen != nil {
		if err := r.gen.Close(); err != nil {
			r.cfg.Log.Error("replica: the file did not close", "error", err)
		}
	}
	r.mu.Lock()
	if r.stopped == nil {
		r.stopped = fault.New(fault.Unavailable, "the replica of stream %q was closed", r.cfg.Stream)
		r.status.Progress = Progress{Phase: Closed}
	}
	err := r.stopped
	r.mu.Unlock()
	r.update(func(*Status) {})
	r.watchers.close(err)
	r.unlock()
}

// readAgain compares what the rows prove with what the file remembers, and asks for a bootstrap when they differ.
func (r *Replica) readAgain() {
	r.enter(Verifying)
	sets, err := r.gen.Scan()
	if err != nil {
		r.doubtAll(RungBootstrap, fmt.Sprintf("the rows cannot be read again: %v", err))
		r.tell(Event{Kind: ResyncNeeded, Why: r.need.why})
		return
	}
	for _, l := range r.lanes {
		if rows := sets[l.Partition]; rows != l.Set {
			r.changedRows(l, rows)
		}
	}
}

// changedRows says that rows of a lane are not what was written, and asks for a repair.
func (r *Replica) changedRows(l *laneState, rows digest.Set) {
	r.doubt(l.Partition, RungRepair, fmt.Sprintf("rows of partition %d were changed by somebody else: they have digest %v, %v was written", l.Partition, rows, l.Set))
	r.tell(Event{Kind: RowsChanged, Partition: l.Partition, Sequence: l.Cursor.Sequence, Why: r.need.why})
}

// doubt asks for a lane to be made equal, beginning with a rung; until that is done nothing of it counts as verified (I6, I8).
func (r *Replica) doubt(p lane.Partition, first Rung, why string) {
	r.need.of(p, first, why)
	if int(p) < len(r.lanes) {
		r.lanes[p].verified, r.lanes[p].doubted = lane.Position{}, true
	}
	r.publishLanes()
}

func (r *Replica) doubtAll(first Rung, why string) {
	for _, l := range r.lanes {
		r.doubt(l.Partition, first, why)
	}
	if len(r.lanes) == 0 {
		r.need.whole(why)
	}
}

// permanent tells the refusals that a retry alone will not end.
func permanent(reason fault.Reason) bool {
	switch reason {
	case fault.InvalidArgument, fault.InvalidName, fault.UnknownStream, fault.NotKeyed, fault.UnsupportedVersion, fault.Unauthenticated, fault.NotPermitted,
		fault.ForeignData, fault.ConsumerFenced:
		return true
	}
	return false
}

// publishLanes copies the lanes into the status.
func (r *Replica) publishLanes() {
	r.update(func(s *Status) {
		s.Lanes = s.Lanes[:0:0]
		for _, l := range r.lanes {
			s.Lanes = append(s.Lanes, l.status())
		}
	})
}
