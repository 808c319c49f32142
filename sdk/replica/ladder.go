package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Rung is a way to become equal to the provider again, cheapest first.
type Rung int

// The rungs of the ladder. Each costs less than the next, and the provider's digest decides after each whether to climb on.
const (
	// RungReplay: a range of the log was read.
	RungReplay Rung = iota + 1
	// RungChanges: what had changed since the cursor was fetched, with what was deleted; also below the retention of the log.
	RungChanges
	// RungRepair: the rows that differed were found and replaced, whatever the reason.
	RungRepair
	// RungBootstrap: everything was made anew from the whole state.
	RungBootstrap
)

var rungNames = [...]string{"none", "replay", "changes", "repair", "bootstrap"}

// String gives the rung in a word.
func (g Rung) String() string {
	if g < 0 || int(g) >= len(rungNames) {
		return fmt.Sprintf("rung %d", int(g))
	}
	return rungNames[g]
}

func (g Rung) wire() consumerv1.Rung { return consumerv1.Rung(g) }

// errForgotten: what was deleted since is not all known any more.
var errForgotten = errors.New("deletions since the cursor are not all known any more")

// need says which lanes must be made equal again, beginning with which rung. The zero need is none.
type need struct {
	lanes map[lane.Partition]Rung
	why   string
}

func (n *need) none() bool { return n.why == "" }

// of adds a lane; the higher rung counts.
func (n *need) of(p lane.Partition, first Rung, why string) {
	if n.lanes == nil {
		n.lanes = map[lane.Partition]Rung{}
	}
	n.lanes[p] = max(n.lanes[p], first)
	n.why = why
}

// met takes a lane out that a rung has made equal, unless it needs a higher one.
func (n *need) met(p lane.Partition, by Rung) {
	if n.lanes[p] <= by {
		delete(n.lanes, p)
	}
	if len(n.lanes) == 0 {
		*n = need{}
	}
}

// next gives the lane to begin with.
func (n *need) next() (p lane.Partition, first Rung) {
	p = slices.Min(slices.Collect(maps.Keys(n.lanes)))
	return p, n.lanes[p]
}

// whole asks for a bootstrap.
func (n *need) whole(why string) { n.of(0, RungBootstrap, why) }

// resync climbs until every lane is equal (I3). What it could not finish it leaves in r.need, for the next try.
func (r *Replica) resync(ctx context.Context, k *link) error {
	if r.gen == nil {
		return r.bootstrap(ctx, k)
	}
	for !r.need.none() { // a repair may find that other lanes need one
		p, first := r.need.next()
		if _, err := r.climb(ctx, k, p, first); err != nil {
			return err
		}
	}
	k.ackDue = true
	return nil
}

// climb makes one lane equal, beginning with a rung.
func (r *Replica) climb(ctx context.Context, k *link, p lane.Partition, first Rung) (outcome, error) {
	began := time.Now()
	var moved uint64
	for rung := max(first, RungChanges); rung < RungBootstrap; rung++ {
		r.need.lanes[p] = rung // where the next try begins, if this one is interrupted
		out, err := r.step(ctx, k, p, rung)
		moved += out.moved
		if err == nil {
			out.moved = moved
			r.climbed(p, out, time.Since(began))
			return out, nil
		}
		if !climbs(err) {
			return out, err
		}
		r.tell(Event{Kind: Climbing, Partition: p, Sequence: r.lanes[p].Cursor.Sequence, Why: fmt.Sprintf("%v did not do: %v", rung, err)})
	}
	if err := r.bootstrap(ctx, k); err != nil {
		return outcome{}, err
	}
	r.update(func(s *Status) { s.MovedBytes += moved }) // in vain, but moved
	return outcome{rung: RungBootstrap, moved: moved}, nil
}

func (r *Replica) step(ctx context.Context, k *link, p lane.Partition, rung Rung) (outcome, error) {
	if rung == RungChanges {
		return r.takeChanges(ctx, k, p, r.lanes[p].Cursor.Sequence, false)
	}
	return r.repair(ctx, k, p, false)
}

// climbs tells the failures of a rung that the next one may not have from those that end a connection.
func climbs(err error) bool {
	if errors.Is(err, errTooDifferent) || errors.Is(err, errUnproven) || errors.Is(err, errTooLarge) || errors.Is(err, errForgotten) || errors.Is(err, errMoved) {
		return true
	}
	switch fault.ReasonOf(err) {
	case fault.Expired, fault.EpochMismatch, fault.AheadOfTail, fault.SnapshotGone, fault.Malformed, fault.Corrupt:
		return true
	}
	return false
}

// climbed tells what a rung has done, and then shows it: whoever waited for the status has been told.
func (r *Replica) climbed(p lane.Partition, out outcome, took time.Duration) {
	kind := ChangesTaken
	if out.rung == RungRepair {
		kind = RowsRepaired
	}
	r.need.met(p, out.rung)
	r.tell(Event{Kind: kind, Partition: p, Sequence: out.at.Sequence, Why: fmt.Sprintf("%d rows, %s", out.rows, movedIn(out.moved, took))})
	r.retry.Reset()
	r.update(func(s *Status) {
		s.Verified++
		s.Rung, s.MovedRows, s.MovedBytes = out.rung, s.MovedRows+out.rows, s.MovedBytes+out.moved
		if out.rung == RungRepair {
			s.Repairs++
		} else {
			s.ChangesTaken++
		}
	})
	r.publishLanes()
}

// movedIn says what was moved over the network, in which time, and how fast that was.
func movedIn(bytes uint64, took time.Duration) string {
	text := fmt.Sprintf("%d bytes moved, in %v", bytes, took.Round(time.Millisecond))
	if bytes < 100_000 {
		return text // its speed says nothing
	}
	return text + fmt.Sprintf(" (%.1f MB/s)", float64(bytes)/1e6/max(took, time.Millisecond).Seconds())
}

// climbing says which rung the replica is on, until the answer is called.
func (r *Replica) climbing(rung Rung) (done func()) {
	r.on = rung
	return func() { r.on = 0 }
}

// waiting tells how far the provider is with a snapshot.
func (r *Replica) waiting(phase Phase) func(done, expected uint64) {
	return func(done, expected uint64) { r.progress(Progress{Phase: phase, Done: done, Expected: expected}) }
}
