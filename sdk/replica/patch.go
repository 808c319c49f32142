package replica

import (
	"context"
	"errors"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

var (
	// errUnproven: what a patch made is not what the provider holds. Nothing of it is visible.
	errUnproven = errors.New("the rows do not have the provider's digest afterwards")
	// errTooLarge: the changes are more than one transaction should hold.
	errTooLarge = errors.New("the changes are more than one transaction should hold")
)

// patch brings one lane to a target in one transaction (I1): nobody sees half of it, and nobody sees it at all unless the digest is the
// provider's. End it with finish or abandon.
type patch struct {
	r      *Replica
	t      target
	tx     *store.Tx
	hasher *digest.Hasher
	set    digest.Set // of the lane's rows as they are now in the transaction
	bytes  int64      // written, before SQLite's own
	rows   uint64     // put and deleted
	// told is for Changes, up to changesBytes of it; beyond that its readers are told to read anew.
	told      []Change
	toldBytes int
}

// newPatch begins: set is what the lane's rows prove now.
func (r *Replica) newPatch(t target, set digest.Set) (*patch, error) {
	tx, err := r.gen.Begin()
	if err != nil {
		return nil, err
	}
	return &patch{r: r, t: t, tx: tx, hasher: digest.NewHasher(r.meta.DigestSeed), set: set}, nil
}

func (p *patch) abandon() { p.tx.Rollback() }

// apply takes a packet in.
func (p *patch) apply(ctx context.Context, packet *packet) error {
	if p.bytes += int64(len(packet.raw)); p.bytes > p.r.cfg.MaxPatchBytes {
		return errTooLarge
	}
	if packet.tombstones {
		return p.bury(ctx, packet)
	}
	rows := make([]*record.Record, 0, packet.count)
	err := packet.eachRow(func(rec *record.Record) error {
		if err := p.owns(rec.Key, rec.Sequence); err != nil {
			return err
		}
		one := *rec
		rows = append(rows, &one)
		return nil
	})
	if err != nil {
		return err
	}
	keys := make([]string, len(rows))
	changes := make([]Change, 0, len(rows))
	for i, rec := range rows {
		keys[i] = string(rec.Key)
		p.set.Add(p.hasher.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value))
		changes = append(changes, changeOf(p.t.partition, rec))
	}
	if err := p.forget(keys, nil); err != nil {
		return err
	}
	if err := p.tx.Upsert(rows); err != nil {
		return err
	}
	return p.tell(ctx, changes)
}

// bury deletes the rows of tombstones; a row that is not there is not told.
func (p *patch) bury(ctx context.Context, packet *packet) error {
	var keys []string
	at := map[string]lane.Sequence{}
	err := packet.eachTombstone(func(t state.Tombstone) error {
		if err := p.owns(t.Key, t.Sequence); err != nil {
			return err
		}
		keys = append(keys, string(t.Key))
		at[string(t.Key)] = t.Sequence
		return nil
	})
	if err != nil {
		return err
	}
	var changes []Change
	err = p.forget(keys, func(key string) {
		changes = append(changes, Change{Kind: Delete, Partition: p.t.partition, Sequence: at[key], Key: key})
	})
	if err != nil {
		return err
	}
	if err := p.tx.Delete(keys); err != nil {
		return err
	}
	return p.tell(ctx, changes)
}

// drop deletes rows by where they lie; the keys that get no other row are told as deleted.
func (p *patch) drop(ctx context.Context, rows []store.Row, replaced map[string]struct{}) error {
	ids := make([]int64, len(rows))
	var changes []Change
	for i, row := range rows {
		ids[i] = row.ID
		p.set.Remove(row.Element)
		if _, again := replaced[row.Key]; !again {
			changes = append(changes, Change{Kind: Delete, Partition: p.t.partition, Sequence: p.t.at.Sequence, Key: row.Key})
		}
	}
	if err := p.tx.DeleteRows(ids); err != nil {
		return err
	}
	return p.tell(ctx, changes)
}

// forget takes the present rows of keys out of the digest.
func (p *patch) forget(keys []string, visit func(key string)) error {
	return p.tx.Elements(keys, p.hasher, func(key string, e digest.Element) {
		p.set.Remove(e)
		if visit != nil {
			visit(key)
		}
	})
}

// owns refuses what is not the lane's, or newer than the target.
func (p *patch) owns(key []byte, at lane.Sequence) error {
	if lane.Of(key, p.r.meta.Partitions) != p.t.partition || at > p.t.at.Sequence || len(key) == 0 {
		return fault.New(fault.Malformed, "the key %.60q at sequence %d does not belong to partition %d at %v", key, at, p.t.partition, p.t.at)
	}
	return nil
}

// tell hands changes to Apply and keeps them for Changes.
func (p *patch) tell(ctx context.Context, changes []Change) error {
	p.rows += uint64(len(changes))
	if p.r.cfg.Apply != nil && len(changes) > 0 {
		if err := p.r.cfg.Apply(ctx, p.tx.SQL(), Batch{Changes: changes}); err != nil {
			return fault.New(fault.Internal, "the Apply function failed; its transaction was undone and is tried again: %w", err)
		}
	}
	if !p.r.watchers.any() || p.toldBytes > changesBytes {
		return nil
	}
	for i := range changes {
		p.toldBytes += changes[i].size()
	}
	if p.told = append(p.told, changes...); p.toldBytes > changesBytes {
		p.told = []Change{{Kind: Rebuilt}}
	}
	return nil
}

// finish compares, moves the cursor and commits, or answers errUnproven. The lane is verified at the target then; the status says so
// when climbed is called.
func (p *patch) finish() error {
	if p.set != p.t.set {
		return errUnproven
	}
	l := store.Lane{Partition: p.t.partition, Cursor: p.t.at, TimeMS: p.t.timeMS, Set: p.t.set}
	if err := p.tx.SetLane(l); err != nil {
		return err
	}
	if err := p.tx.Commit(); err != nil {
		return err
	}
	next := newLaneState(l)
	next.verified = l.Cursor
	if was := p.r.lanes[p.t.partition]; was.tailKnown && was.Cursor.Epoch == l.Cursor.Epoch {
		next.tail, next.tailKnown = max(was.tail, l.Cursor.Sequence), true
	}
	p.r.scrub.stop()
	p.r.replaceLane(next)
	p.r.watchers.publish(p.told)
	return nil
}

// replaceLane puts a lane's new state in place of the old one, which may be shared.
func (r *Replica) replaceLane(l *laneState) {
	lanes := append([]*laneState(nil), r.lanes...)
	lanes[l.Partition] = l
	r.lanes = lanes
}
