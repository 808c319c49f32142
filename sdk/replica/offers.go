package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/sdk/internal/spool"
)

// lanesAtOnce is how many partitions ask, or receive chunks, at the same time (I7).
const lanesAtOnce = 4

// spools gives a spool for a snapshot of every partition: the one an interrupted bootstrap left, while a gateway has that snapshot, else
// an empty one (I9). What it gives is open, also beside an error.
func (r *Replica) spools(ctx context.Context, k *link) ([]*spool.Spool, error) {
	dir := r.place.Dir()
	left, err := spool.Sweep(dir, func(m *snapshot.Manifest) bool {
		return m.Stream == r.meta.Stream && m.Lane.Stream == r.meta.StreamID && m.Seed == r.meta.DigestSeed && uint32(m.Lane.Partition) < r.meta.Partitions
	})
	if err != nil {
		return nil, err
	}
	stream, err := k.Describe(ctx, r.cfg.Stream)
	if err != nil {
		return nil, err
	}
	offers := make([]offer, r.meta.Partitions)
	wait := &making{tell: r.waiting(Receiving), lanes: make([]struct{ done, expected uint64 }, len(offers))}
	err = inParallel(ctx, len(offers), lanesAtOnce, func(ctx context.Context, i int) error {
		p := lane.Partition(i)
		want := snapshotWanted{Partition: p, AtLeast: r.atLeast(stream, p), Waiting: func(done, expected uint64) { wait.heard(i, done, expected) }}
		if was, ok := left[p]; ok && was.At.Epoch == want.AtLeast.Epoch && was.At.Sequence >= want.AtLeast.Sequence {
			want.ID = was.ID
		}
		var err error
		offers[i], err = snapshotOf(ctx, k.Session, r.meta, want)
		if errors.Is(err, fault.SnapshotGone) && !want.ID.IsZero() {
			want.ID = snapshot.ID{}
			offers[i], err = snapshotOf(ctx, k.Session, r.meta, want)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := spool.Sweep(dir, func(m *snapshot.Manifest) bool { return sameSnapshot(m, &offers[m.Lane.Partition]) }); err != nil {
		return nil, err
	}
	var spools []*spool.Spool
	for i := range offers {
		s, err := spool.Open(ctx, dir, offers[i].Manifest, offers[i].ID, offers[i].Encoded)
		if err != nil {
			return spools, err
		}
		spools = append(spools, s)
	}
	return spools, nil
}

// making adds up how far the provider is with the snapshots of all lanes. Safe for concurrent use; tell is called by one at a time.
type making struct {
	tell func(done, expected uint64)

	mu    sync.Mutex // protects what follows
	lanes []struct{ done, expected uint64 }
	told  time.Time
}

// heard takes the news of one lane, and passes the sum on about ten times a second.
func (m *making) heard(lane int, done, expected uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lanes[lane].done, m.lanes[lane].expected = done, expected
	if time.Since(m.told) < progressEvery && done < expected {
		return
	}
	m.told = time.Now()
	var all struct{ done, expected uint64 }
	for _, l := range m.lanes {
		all.done, all.expected = all.done+l.done, all.expected+l.expected
	}
	m.tell(all.done, all.expected)
}

func sameSnapshot(m *snapshot.Manifest, o *offer) bool {
	_, id, err := m.Encode()
	return err == nil && id == o.ID
}

// atLeast is where a snapshot of a partition must stand: not behind the replica's own cursor, and where the log still follows it. The zero
// Position serves for a replica without rows, and for one whose cursor is no position of the provider any more.
func (r *Replica) atLeast(stream *streamv1.Stream, p lane.Partition) lane.Position {
	wire, ok := laneOf(stream, p)
	if !ok {
		return lane.Position{}
	}
	at := lane.Position{Epoch: lane.Epoch(wire.GetEpoch()), Sequence: max(lane.Sequence(wire.GetHead()), 1) - 1}
	if int(p) < len(r.lanes) {
		own := r.lanes[p].Cursor
		if own.Epoch == at.Epoch && own.Sequence <= lane.Sequence(wire.GetTail()) {
			at.Sequence = max(at.Sequence, own.Sequence)
		}
	}
	return at
}

func closeSpools(spools []*spool.Spool) {
	for _, s := range spools {
		_ = s.Close() // what is in the file is hashed when it is opened again
	}
}
