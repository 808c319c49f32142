package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

const (
	// maxWaitingOrders is how many commands may wait; more are heard again later, since the provider repeats them.
	maxWaitingOrders = 16
	// keptOrders is how many commands that have ended are remembered and reported.
	keptOrders = 16
)

// errOrdered ends following: a command waits.
var errOrdered = errors.New("the provider has sent a command")

// orders are the provider's commands to this replica: each is obeyed once, however often it is heard, and reported. What has ended is
// remembered in a file, so that it is not done again after a restart; one that was interrupted is begun anew. Safe for concurrent use.
type orders struct {
	file string

	mu      sync.Mutex // protects what follows
	waiting []*deliveryv1.Reset
	log     []*consumerv1.ResetProgress // oldest first
}

// openOrders reads what has ended. A file that does not decode is as good as none.
func openOrders(file string) (*orders, error) {
	o := &orders{file: file}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.InUse, "what the provider has commanded cannot be read: %w", err)
	}
	var kept consumerv1.Health
	if proto.Unmarshal(b, &kept) == nil {
		o.log = kept.GetResets()
	}
	return o, nil
}

// hear takes a command in and reports whether it is to be obeyed.
func (o *orders) hear(reset *deliveryv1.Reset) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := reset.GetCommandId()
	known := slices.ContainsFunc(o.log, func(p *consumerv1.ResetProgress) bool { return p.GetCommandId() == id && ended(p.GetState()) }) ||
		slices.ContainsFunc(o.waiting, func(w *deliveryv1.Reset) bool { return w.GetCommandId() == id })
	if known || len(o.waiting) >= maxWaitingOrders {
		return false
	}
	o.waiting = append(o.waiting, reset)
	return true
}

func ended(s consumerv1.ResetState) bool {
	return s == consumerv1.ResetState_RESET_STATE_DONE || s == consumerv1.ResetState_RESET_STATE_FAILED
}

// next gives the oldest command that waits, nil when there is none.
func (o *orders) next() *deliveryv1.Reset {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		return nil
	}
	return o.waiting[0]
}

// note says how far a command is; when it has ended it waits no more and is remembered.
func (o *orders) note(p *consumerv1.ResetProgress) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log = slices.DeleteFunc(o.log, func(old *consumerv1.ResetProgress) bool { return old.GetCommandId() == p.GetCommandId() })
	o.log = append(o.log, p)
	if over := len(o.log) - keptOrders; over > 0 {
		o.log = slices.Delete(o.log, 0, over)
	}
	if !ended(p.GetState()) {
		return nil
	}
	o.waiting = slices.DeleteFunc(o.waiting, func(w *deliveryv1.Reset) bool { return w.GetCommandId() == p.GetCommandId() })
	b, err := proto.Marshal(&consumerv1.Health{Resets: o.log})
	if err != nil {
		return fault.New(fault.Internal, "encode what was commanded: %w", err)
	}
	return store.WriteFile(o.file, b)
}

// progress is what is reported: commands that run, and the last that ended.
func (o *orders) progress() []*consumerv1.ResetProgress {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.log)
}

// obey does what was commanded, oldest first. An error means that the connection is of no use any more; the command then goes on with the
// next one.
func (r *Replica) obey(ctx context.Context, k *link) error {
	for reset := r.orders.next(); reset != nil; reset = r.orders.next() {
		began := time.Now()
		p := &consumerv1.ResetProgress{CommandId: reset.GetCommandId(), State: consumerv1.ResetState_RESET_STATE_RUNNING}
		if err := r.orders.note(proto.CloneOf(p)); err != nil {
			return err
		}
		k.report(ctx)
		k.pace = paceOf(reset.GetMaxBytesPerSecond())
		err := r.carryOut(ctx, k, reset, p)
		k.pace = nil
		if err != nil && (ctx.Err() != nil || fault.ReasonOf(err).Temporary()) {
			return err
		}
		p.State, p.TookMs = consumerv1.ResetState_RESET_STATE_DONE, uint64(time.Since(began).Milliseconds())
		if err != nil {
			p.State, p.Problem = consumerv1.ResetState_RESET_STATE_FAILED, err.Error()
		}
		for _, l := range r.lanes {
			p.Digests = append(p.Digests, mark{l.Cursor, l.Set}.wire())
		}
		if err := r.orders.note(p); err != nil {
			return err
		}
		r.tell(Event{Kind: Ordered, Why: fmt.Sprintf("%v %s: %v; %d rows differed, %d were missing, %d too many; %d bytes moved", reset.GetAction(), reset.GetCommandId(), p.GetState(), p.GetDiffering(), p.GetMissing(), p.GetExtra(), p.GetMovedBytes())})
		k.ackDue = true
		k.report(ctx)
	}
	return nil
}

// carryOut does one command and adds up what came of it.
func (r *Replica) carryOut(ctx context.Context, k *link, reset *deliveryv1.Reset, p *consumerv1.ResetProgress) error {
	if reset.GetAction() == consumerv1.Action_ACTION_FULL && !reset.GetDryRun() {
		before := r.Status().MovedBytes
		err := r.bootstrap(ctx, k)
		p.Rung, p.MovedBytes = consumerv1.Rung_RUNG_BOOTSTRAP, r.Status().MovedBytes-before
		return err
	}
	for _, l := range r.lanes {
		out, err := r.carryOutLane(ctx, k, reset, l.Partition)
		p.Rung = max(p.GetRung(), out.rung.wire())
		p.Differing, p.Missing, p.Extra = p.GetDiffering()+out.differing, p.GetMissing()+out.missing, p.GetExtra()+out.extra
		p.MovedBytes += out.moved
		if err != nil {
			return err
		}
		if out.rung == RungBootstrap && !reset.GetDryRun() {
			break // it has made every lane anew
		}
	}
	return nil
}

func (r *Replica) carryOutLane(ctx context.Context, k *link, reset *deliveryv1.Reset, p lane.Partition) (outcome, error) {
	dry := reset.GetDryRun() || reset.GetAction() == consumerv1.Action_ACTION_VERIFY
	began := time.Now()
	switch reset.GetAction() {
	case consumerv1.Action_ACTION_FULL: // dry
		t, err := askTarget(ctx, k.source(), p, r.lanes[p].Cursor, r.waiting(Verifying))
		return outcome{rung: RungBootstrap, moved: t.rowBytes}, err
	case consumerv1.Action_ACTION_FROM_SEQUENCE:
		out, err := r.takeChanges(ctx, k, p, sinceOf(reset, p, r.lanes[p].Cursor.Sequence), dry)
		if err == nil && !dry {
			r.climbed(p, out, time.Since(began))
		}
		if err == nil || !climbs(err) {
			return out, err
		}
	case consumerv1.Action_ACTION_VERIFY, consumerv1.Action_ACTION_REPAIR, consumerv1.Action_ACTION_FROM_TIME: // a repair covers whatever came since
	default:
		return outcome{}, fault.New(fault.UnsupportedVersion, "this version knows no command %v: upgrade the consumer", reset.GetAction())
	}
	out, err := r.repair(ctx, k, p, dry)
	switch {
	case errors.Is(err, errTooDifferent) && dry:
		t, err := askTarget(ctx, k.source(), p, r.lanes[p].Cursor, r.waiting(Verifying))
		out.rung, out.moved = RungBootstrap, out.moved+t.rowBytes
		out.differing = max(out.differing, 1) // more than was worth counting
		return out, err
	case err != nil && climbs(err) && !dry:
		return r.climb(ctx, k, p, RungBootstrap)
	}
	if err == nil && !dry {
		r.climbed(p, out, time.Since(began))
	}
	if err == nil && reset.GetAction() == consumerv1.Action_ACTION_VERIFY && out.differing+out.missing+out.extra > 0 {
		r.doubt(p, RungRepair, fmt.Sprintf("a commanded verification found %d rows of partition %d that are not the provider's", out.differing+out.missing+out.extra, p))
	}
	return out, err
}

// sinceOf gives the sequence behind which a lane is to take everything again; its own cursor when the command does not name the lane.
func sinceOf(reset *deliveryv1.Reset, p lane.Partition, cursor lane.Sequence) lane.Sequence {
	for _, c := range reset.GetFrom() {
		if c.GetPartition() == uint32(p) {
			return min(cursor, lane.Sequence(max(1, c.GetPosition().GetSequence())-1))
		}
	}
	return cursor
}
