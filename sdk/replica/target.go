package replica

import (
	"context"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// source is where a resynchronisation asks.
type source struct {
	*session.Session
	stream string
	pace   *pace // nil: as fast as it goes
}

// source is the link's, with the pace of the command that is obeyed.
func (k *link) source() source { return source{k.Session, k.r.cfg.Stream, k.pace} }

// target is the snapshot that a lane is to become equal to, as far as changes and repairs need to know it.
type target struct {
	id        snapshot.ID
	partition lane.Partition
	at        lane.Position
	timeMS    int64
	set       digest.Set
	floor     lane.Sequence // all deletions since then are known
	rowBytes  uint64        // what a bootstrap would move
	moved     uint64        // what asking has moved
}

// askTarget asks for a snapshot of a lane at or above a position; epoch 0: any. It waits while one is made or the gateway is
// overloaded. told hears how far its making is.
func askTarget(ctx context.Context, s source, p lane.Partition, atLeast lane.Position, told func(done, expected uint64)) (t target, err error) {
	request := &deliveryv1.SnapshotRequest{Stream: s.stream, Partition: uint32(p), Brief: true}
	if atLeast.Epoch != 0 {
		request.AtLeast = positionOf(atLeast)
	}
	err = patiently(ctx, func() error {
		d, err := s.Snapshot(ctx, request)
		if err != nil {
			return err
		}
		defer d.Close()
		t, err = readTarget(ctx, d, p, told)
		return err
	})
	if err == nil && atLeast.Epoch != 0 && (t.at.Epoch != atLeast.Epoch || t.at.Sequence < atLeast.Sequence) {
		err = fault.New(fault.Malformed, "the gateway names a snapshot at %v where one at or above %v was asked for", t.at, atLeast)
	}
	return t, err
}

func readTarget(ctx context.Context, d *session.Deliveries, p lane.Partition, told func(done, expected uint64)) (target, error) {
	delivery, _, id, err := named(ctx, d, p, told)
	if err != nil {
		return target{}, err
	}
	m, ok := markOf(delivery.GetDigest())
	if !ok {
		return target{}, fault.New(fault.Malformed, "the gateway names snapshot %v of partition %d without its digest", id, p)
	}
	return target{
		id: id, partition: p, at: m.at, timeMS: delivery.GetTailTimeMs(), set: m.set,
		floor: lane.Sequence(delivery.GetPiece().GetFloor()), rowBytes: delivery.GetPiece().GetRowBytes(), moved: d.MovedBytes(),
	}, nil
}
