package replica

import (
	"context"
	"errors"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// errMoved: a row was changed by somebody else while it was repaired.
var errMoved = errors.New("rows were changed by somebody else during the repair")

// repair makes a lane equal to a snapshot whatever is wrong with it: every row is read again, a sketch tells which differ, and only
// those are fetched and replaced.
func (r *Replica) repair(ctx context.Context, k *link, p lane.Partition, dry bool) (outcome, error) {
	defer r.climbing(RungRepair)()
	r.enter(Verifying)
	seen, err := r.gen.Survey(func(q lane.Partition) bool { return q == p })
	if err != nil {
		return outcome{}, err
	}
	out := outcome{rung: RungRepair}
	for _, l := range r.lanes { // what was read is all of the file
		if !dry && l.Partition != p && seen.Sets[l.Partition] != l.Set && !l.doubted {
			r.changedRows(l, seen.Sets[l.Partition])
		}
	}
	if uint64(len(seen.IDs[p])) > r.cfg.MaxRepairRows {
		return out, errTooDifferent
	}
	at := r.lanes[p].Cursor
	t, err := askTarget(ctx, k.source(), p, at, r.waiting(Repairing))
	if fault.ReasonOf(err) == fault.EpochMismatch { // the history was cut: the provider's present is the truth
		t, err = askTarget(ctx, k.source(), p, lane.Position{}, r.waiting(Repairing))
	}
	if err != nil {
		return out, err
	}
	r.progress(Progress{Phase: Repairing})
	found, moved, err := difference(ctx, k.source(), t, seen.IDs[p])
	out.moved = t.moved + moved
	if err != nil {
		return out, err
	}
	ours, err := r.located(p, found.Ours)
	if err != nil {
		return out, err
	}
	work, err := r.newPatch(t, seen.Sets[p])
	if err != nil {
		return out, err
	}
	defer work.abandon()
	moved, err = r.exchange(ctx, k, work, found.Theirs, ours, &out)
	out.moved += moved
	if err != nil || dry {
		return out, err
	}
	out.rows, out.at = work.rows, t.at
	return out, work.finish()
}

// located finds the rows with these IDs; there must be one for each.
func (r *Replica) located(p lane.Partition, ids []sketch.ID) ([]store.Row, error) {
	rows := make([]store.Row, 0, len(ids))
	err := r.gen.Locate(p, ids, func(row store.Row) error {
		rows = append(rows, row)
		return nil
	})
	if err == nil && len(rows) != len(ids) {
		err = errMoved
	}
	return rows, err
}

// exchange takes our rows out and puts theirs in, and counts what was wrong.
func (r *Replica) exchange(ctx context.Context, k *link, work *patch, theirs []sketch.ID, ours []store.Row, out *outcome) (moved uint64, err error) {
	mine := make(map[string]struct{}, len(ours))
	for _, row := range ours {
		mine[row.Key] = struct{}{}
	}
	// Rows that others replace go out first: a row of an odd shape would not give way to one of the same key. Which keys stay deleted is
	// known only when theirs are here, so the packets are kept; difference has bounded them.
	var fetched []*packet
	var size int64
	replaced := make(map[string]struct{}, len(theirs))
	moved, err = fetchRows(ctx, k.source(), work.t, theirs, func(p *packet) error {
		if size += int64(len(p.raw)); size > r.cfg.MaxPatchBytes {
			return errTooLarge
		}
		fetched = append(fetched, p)
		return p.eachRow(func(rec *record.Record) error {
			key := string(rec.Key)
			if replaced[key] = struct{}{}; hasKey(mine, key) {
				out.differing++
			} else {
				out.missing++
			}
			return nil
		})
	})
	if err != nil {
		return moved, err
	}
	for key := range mine {
		if !hasKey(replaced, key) {
			out.extra++
		}
	}
	if err := work.drop(ctx, ours, replaced); err != nil {
		return moved, err
	}
	for _, p := range fetched {
		if err := work.apply(ctx, p); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func hasKey(set map[string]struct{}, key string) bool {
	_, ok := set[key]
	return ok
}
