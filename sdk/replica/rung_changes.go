package replica

import (
	"context"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// takeChanges brings a lane to a snapshot by what changed since a sequence, which is at most the cursor's. The rows below must be the
// provider's there; if they were not, the digest tells, and nothing happened. It also serves below the retention of the log.
func (r *Replica) takeChanges(ctx context.Context, k *link, p lane.Partition, since lane.Sequence, dry bool) (outcome, error) {
	defer r.climbing(RungChanges)()
	l := r.lanes[p]
	t, err := askTarget(ctx, k.source(), p, l.Cursor, r.waiting(CatchingUp))
	if err != nil {
		return outcome{}, err
	}
	out := outcome{rung: RungChanges, moved: t.moved}
	if since < t.floor {
		return out, errForgotten
	}
	work, err := r.newPatch(t, l.Set)
	if err != nil {
		return out, err
	}
	defer work.abandon() // after finish it does nothing
	moved, err := packets(ctx, k.pace, t.id, func() (*session.Deliveries, error) {
		return k.Changes(ctx, &deliveryv1.ChangesRequest{Stream: r.cfg.Stream, Partition: uint32(p), Id: t.id[:], Since: uint64(since)})
	}, func(packet *packet) error {
		out.rows += uint64(packet.count)
		r.progress(Progress{Phase: CatchingUp, Done: out.rows})
		return work.apply(ctx, packet)
	})
	out.moved += moved
	if err != nil || dry {
		return out, err
	}
	out.at = t.at
	return out, work.finish()
}

// outcome is what a rung did to a lane.
type outcome struct {
	rung  Rung
	rows  uint64 // put and deleted
	moved uint64 // bytes over the network
	at    lane.Position
	// What a repair found.
	differing, missing, extra uint64
}
