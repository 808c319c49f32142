package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// judge leaves out the keys that changed between the file's cursor and the state that was read: there the file is behind, not wrong.
func (v *verification) judge(ctx context.Context, l store.Lane, t target, suspects []RowDifference) error {
	if len(suspects) == 0 {
		return nil
	}
	behind := map[string]bool{}
	if t.at.Epoch == l.Cursor.Epoch && t.at.Sequence > l.Cursor.Sequence {
		var err error
		if behind, err = v.changedSince(ctx, l, t); err != nil {
			return fault.New(fault.Unavailable, "partition %d of the file is at %v and the provider's state at %v: %d rows differ, and which of them only changed since cannot be told: let the replica catch up, then verify again: %w",
				l.Partition, l.Cursor, t.at, len(suspects), err)
		}
	}
	for _, s := range suspects {
		if behind[s.Key] {
			continue
		}
		switch {
		case s.Mine == 0 && s.Theirs != 0:
			v.c.Missing++
		case s.Theirs == 0:
			v.c.Extra++
		default:
			v.c.Differing++
		}
		if len(v.c.Examples) < maxExamples {
			v.c.Examples = append(v.c.Examples, strings.ToValidUTF8(s.Key, "?"))
		}
		if v.visit != nil {
			if err := v.visit(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// changedSince gives the keys that changed between the file's cursor and the snapshot, deleted ones included: from the snapshot, or from
// the log when deletions since then are not all known any more.
func (v *verification) changedSince(ctx context.Context, l store.Lane, t target) (map[string]bool, error) {
	if l.Cursor.Sequence < t.floor {
		return v.loggedSince(ctx, l, t.at.Sequence)
	}
	keys := map[string]bool{}
	moved, err := packets(ctx, v.pace, t.id, func() (*session.Deliveries, error) {
		return v.Changes(ctx, &deliveryv1.ChangesRequest{Stream: v.stream, Partition: uint32(l.Partition), Id: t.id[:], Since: uint64(l.Cursor.Sequence)})
	}, func(p *packet) error {
		if p.tombstones {
			return p.eachTombstone(func(one state.Tombstone) error {
				keys[string(one.Key)] = true
				return nil
			})
		}
		return p.eachRow(func(rec *record.Record) error {
			keys[string(rec.Key)] = true
			return nil
		})
	})
	v.c.MovedBytes += moved
	return keys, err
}

// loggedSince reads the log behind the file's cursor and gives the keys it touches.
func (v *verification) loggedSince(ctx context.Context, l store.Lane, until lane.Sequence) (map[string]bool, error) {
	if until-l.Cursor.Sequence > maxReplay {
		return nil, fmt.Errorf("the file is %d records behind", until-l.Cursor.Sequence)
	}
	d, err := v.Range(ctx, &deliveryv1.RangeRequest{Stream: v.stream, Partition: uint32(l.Partition), Epoch: uint64(l.Cursor.Epoch),
		From: uint64(l.Cursor.Sequence + 1), Until: uint64(until + 1)})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	open := newOpener(v.meta, l.Partition)
	keys := map[string]bool{}
	next := l.Cursor.Sequence + 1
	for {
		p := open.next(ctx, d)
		if errors.Is(p.err, io.EOF) {
			break
		}
		if p.err != nil {
			return nil, p.err
		}
		if p.delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH {
			continue
		}
		if p.header.Base > next {
			return nil, fmt.Errorf("the log has a hole at %d", next)
		}
		next = max(next, p.header.Next())
		for i := range p.records {
			if s := p.records[i].Sequence; s > l.Cursor.Sequence && s <= until {
				keys[string(p.records[i].Key)] = true
			}
		}
	}
	if next <= until {
		return nil, fmt.Errorf("the log ended at %d", next-1)
	}
	return keys, nil
}
