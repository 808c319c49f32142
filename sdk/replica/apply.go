package replica

import (
	"context"
	"slices"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// Batch is what one transaction applies: records in order within each partition, every version of a key.
type Batch struct {
	Changes []Change
}

// pending is what a transaction knows of one key.
type pending struct {
	record  *record.Record // the newest version, nil when untouched so far
	element digest.Element
	live    bool // has a row after what was applied so far
	was     digest.Element
	existed bool // had a row before the transaction
}

// apply makes one transaction of parcels that follow each other (I1). A digest that differs undoes it and is looked into.
func (r *Replica) apply(ctx context.Context, parcels []parcel) error {
	for range 2 { // the second time with a corrected digest
		wrong, err := r.applyOnce(ctx, parcels)
		if err != nil {
			return err
		}
		if wrong == nil {
			return nil
		}
		if err := r.suspect(*wrong); err != nil {
			return err
		}
	}
	return r.condemn(parcels[0].lane, RungRepair, "digests still differ after the rows were read again")
}

// contradiction is a digest that differed, with what the replica would have held there.
type contradiction struct {
	lane  lane.Partition
	given mark
	held  digest.Set
}

func (r *Replica) applyOnce(ctx context.Context, parcels []parcel) (wrong *contradiction, err error) {
	staged := slices.Clone(r.lanes)
	changes, verified := []Change(nil), uint64(0)
	keys, err := r.touched(parcels)
	if err != nil {
		return nil, err
	}
	var tx *store.Tx
	known := make(map[string]*pending, len(keys))
	if len(keys) > 0 {
		if tx, err = r.gen.Begin(); err != nil {
			return nil, err
		}
		defer tx.Rollback()
		if err := r.load(tx, keys, known); err != nil {
			return nil, err
		}
	}
	judge := func(l *laneState, m mark, v verdict) {
		switch v {
		case equal:
			verified++
		case different:
			if wrong == nil {
				wrong = &contradiction{lane: l.Partition, given: m, held: l.heldAt(m.at.Sequence)}
			}
		case unknown:
		}
	}
	for i := range parcels {
		p := &parcels[i]
		l := staged[p.lane]
		if l == r.lanes[p.lane] {
			l = l.clone()
			staged[p.lane] = l
		}
		if lane.Epoch(p.delivery.GetEpoch()) == l.Cursor.Epoch {
			l.tail, l.tailKnown = max(l.tail, lane.Sequence(p.delivery.GetTail())), true
		}
		if p.delivery.GetKind() == deliveryv1.Delivery_KIND_BATCH && p.last() > l.Cursor.Sequence {
			changes = r.stage(l, p, known, changes)
			waited, v := l.advance(p.last(), p.records[len(p.records)-1].TimeMS, l.Set)
			judge(l, waited, v)
		}
		if m, ok := markOf(p.delivery.GetDigest()); ok {
			judge(l, m, l.compare(m))
		}
	}
	if wrong != nil {
		return wrong, nil
	}
	if tx != nil {
		if err := r.write(ctx, tx, known, staged, changes); err != nil {
			return nil, err
		}
	}
	r.noteScrub(known)
	r.lanes = staged
	r.update(func(s *Status) {
		s.Verified += verified
		s.Lanes = s.Lanes[:0:0]
		for _, l := range r.lanes {
			s.Lanes = append(s.Lanes, l.status())
		}
	})
	if verified > 0 {
		r.retry.Reset()
	}
	r.settlePhase()
	r.watchers.publish(changes)
	return nil, nil
}

// touched gives the keys of all records that are new, and refuses batches of another epoch.
func (r *Replica) touched(parcels []parcel) ([]string, error) {
	var keys []string
	for i := range parcels {
		p := &parcels[i]
		if p.delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH {
			continue
		}
		l := r.lanes[p.lane]
		if p.header.Epoch != l.Cursor.Epoch {
			return nil, needResync(p.lane, RungRepair, "the lane's history was cut: a batch of epoch %d came while the replica is at %v", p.header.Epoch, l.Cursor)
		}
		for j := range p.records {
			if rec := &p.records[j]; rec.Sequence > l.Cursor.Sequence {
				if len(rec.Key) == 0 {
					return nil, fault.New(fault.KeyMissing, "record %d of partition %d has no key", rec.Sequence, p.lane)
				}
				keys = append(keys, string(rec.Key))
			}
		}
	}
	slices.Sort(keys) // neighbours in the file are read together
	return slices.Compact(keys), nil
}

// load reads the elements of the rows that are about to change.
func (r *Replica) load(tx *store.Tx, keys []string, known map[string]*pending) error {
	memory := make([]pending, len(keys))
	for i, key := range keys {
		known[key] = &memory[i]
	}
	return tx.Elements(keys, digest.NewHasher(r.meta.DigestSeed), func(key string, e digest.Element) {
		if p := known[key]; p != nil {
			p.element, p.live, p.was, p.existed = e, true, e, true
		}
	})
}

// stage applies one batch in memory: digest and newest versions.
func (r *Replica) stage(l *laneState, p *parcel, known map[string]*pending, changes []Change) []Change {
	wanted := r.cfg.Apply != nil || r.watchers.any()
	for j := range p.records {
		rec := &p.records[j]
		if rec.Sequence <= l.Cursor.Sequence { // the batch began before what we asked for, or is a repetition
			continue
		}
		row := known[string(rec.Key)]
		if row.live {
			l.Set.Remove(row.element)
		}
		row.record, row.element, row.live = rec, p.elements[j], !rec.Tombstone
		if row.live {
			l.Set.Add(row.element)
		}
		if wanted {
			changes = append(changes, changeOf(p.lane, rec))
		}
	}
	return changes
}

// write puts rows, the user's own rows, cursors and digests into the transaction and commits it.
func (r *Replica) write(ctx context.Context, tx *store.Tx, known map[string]*pending, staged []*laneState, changes []Change) error {
	upserts := make([]*record.Record, 0, len(known))
	var deletes []string
	for key, row := range known {
		switch {
		case row.live:
			upserts = append(upserts, row.record)
		case row.existed:
			deletes = append(deletes, key)
		}
	}
	slices.SortFunc(upserts, func(a, b *record.Record) int { return slices.Compare(a.Key, b.Key) })
	if err := tx.Upsert(upserts); err != nil {
		return err
	}
	if err := tx.Delete(deletes); err != nil {
		return err
	}
	if r.cfg.Apply != nil {
		if err := r.cfg.Apply(ctx, tx.SQL(), Batch{Changes: changes}); err != nil {
			return fault.New(fault.Internal, "the Apply function failed; its transaction was undone and is tried again: %w", err)
		}
	}
	for i, l := range staged {
		if l != r.lanes[i] && l.Cursor != r.lanes[i].Cursor {
			if err := tx.SetLane(l.Lane); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// condemn asks for rows to be made equal that were read again and cannot be explained. They stop counting as verified here, not when the
// connection has come to rest (I8).
func (r *Replica) condemn(p lane.Partition, first Rung, format string, args ...any) error {
	err := needResync(p, first, format, args...)
	r.doubt(p, first, err.Error())
	return err
}

// noteScrub tells the scrub what was written.
func (r *Replica) noteScrub(known map[string]*pending) {
	if !r.scrub.running {
		return
	}
	for key, row := range known {
		var was, is *digest.Element
		if row.existed {
			was = &row.was
		}
		if row.live {
			is = &row.element
		}
		r.scrub.wrote(key, lane.Of([]byte(key), r.meta.Partitions), was, is)
	}
}

// heldAt is the replica's own digest at a remembered sequence.
func (l *laneState) heldAt(at lane.Sequence) digest.Set {
	for _, m := range l.memos {
		if m.at == at {
			return m.set
		}
	}
	return digest.Set{}
}

// suspect looks into a digest that differed (I3). The transaction it came up in is undone, so rows and lanes are those before it.
func (r *Replica) suspect(c contradiction) error {
	r.update(func(s *Status) { s.Mismatched++ })
	r.enter(Suspect)
	before := r.lanes[c.lane]
	why := "the provider's state has digest " + c.given.set.String() + ", the replica's " + c.held.String()
	r.tell(Event{Kind: DigestMismatch, Partition: c.lane, Sequence: c.given.at.Sequence, Why: why})
	r.enter(Verifying)
	sets, err := r.gen.Scan()
	if err != nil {
		return r.condemn(c.lane, RungBootstrap, "%s, and the rows cannot be read again: %v", why, err)
	}
	var others error
	for _, l := range r.lanes { // what was read is all of the file
		if l != before && sets[l.Partition] != l.Set {
			others = r.condemn(l.Partition, RungRepair, "partition %d at sequence %d: %s, and rows of partition %d were changed by somebody else", c.lane, c.given.at.Sequence, why, l.Partition)
		}
	}
	rows := sets[c.lane]
	if rows == before.Set || shifted(c.held, before.Set, rows) != c.given.set {
		return r.condemn(c.lane, RungRepair, "partition %d at sequence %d: %s, and reading all rows again does not explain it", c.lane, c.given.at.Sequence, why)
	}
	if others != nil {
		if rows != before.Set { // explained, but not set right here
			return r.condemn(c.lane, RungRepair, "partition %d at sequence %d: %s, and its rows were changed too", c.lane, c.given.at.Sequence, why)
		}
		return others
	}
	corrected := before.clone()
	corrected.correct(rows)
	corrected.verified = lane.Position{} // I8: the batch under way makes the rows equal, if that was it
	tx, err := r.gen.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := tx.SetLane(corrected.Lane); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	r.lanes = slices.Clone(r.lanes)
	r.lanes[c.lane] = corrected
	r.publishLanes()
	why = "what was remembered of the rows was not what they are; it was set right"
	if before.verified == before.Cursor { // what was remembered had been compared equal: it was the rows
		why = "rows had been changed by somebody else, and the records that came replace them"
	}
	r.tell(Event{Kind: MismatchExplained, Partition: c.lane, Sequence: c.given.at.Sequence, Why: why + ": all rows, read again, explain the provider's digest"})
	return nil
}
