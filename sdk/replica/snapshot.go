package replica

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

const (
	// maxRefusals is how often one gateway is asked again that says it is overloaded, before another one is.
	maxRefusals = 20
	// longestRefusal bounds what a gateway can make us wait at once.
	longestRefusal = time.Minute
)

// offer is a snapshot a gateway has at hand.
type offer struct {
	*snapshot.Manifest
	ID      snapshot.ID
	Encoded []byte // the manifest as it is named by ID
}

// snapshotWanted says which snapshots of a lane serve.
type snapshotWanted struct {
	Partition lane.Partition
	AtLeast   lane.Position // the zero Position: any
	ID        snapshot.ID   // the zero ID: any
	// Waiting is told how far the making of the snapshot is; expected 0 means unknown. nil for nobody.
	Waiting func(done, expected uint64)
}

// snapshotOf asks the gateway for a snapshot, and waits while one is made or the gateway is overloaded. Faults: SnapshotGone when the
// one that was named is not kept any more, Overloaded, Unavailable, Malformed.
func snapshotOf(ctx context.Context, s *session.Session, m store.Meta, want snapshotWanted) (offer, error) {
	request := &deliveryv1.SnapshotRequest{Stream: string(m.Stream), Partition: uint32(want.Partition)}
	if want.AtLeast.Epoch != 0 {
		request.AtLeast = positionOf(want.AtLeast)
	}
	if !want.ID.IsZero() {
		request.Id = want.ID[:]
	}
	var o offer
	err := patiently(ctx, func() error {
		d, err := s.Snapshot(ctx, request)
		if err != nil {
			return err
		}
		defer d.Close()
		o, err = readOffer(ctx, d, want)
		return err
	})
	if err == nil {
		err = o.check(m, want)
	}
	return o, err
}

// readOffer reads the answer to one request.
func readOffer(ctx context.Context, d *session.Deliveries, want snapshotWanted) (offer, error) {
	_, encoded, id, err := named(ctx, d, want.Partition, want.Waiting)
	if err != nil {
		return offer{}, err
	}
	m, err := snapshot.ParseManifest(encoded, id)
	return offer{Manifest: m, ID: id, Encoded: encoded}, err
}

// named reads the answer to a request for a snapshot until it names one. waiting is told how far its making is; nil for nobody.
func named(ctx context.Context, d *session.Deliveries, p lane.Partition, waiting func(done, expected uint64)) (*deliveryv1.Delivery, []byte, snapshot.ID, error) {
	for {
		delivery, data, err := d.Next(ctx)
		if errors.Is(err, io.EOF) {
			err = fault.New(fault.Unavailable, "the gateway ended its answer without a snapshot of partition %d", p)
		}
		if err != nil {
			return nil, nil, snapshot.ID{}, err
		}
		piece := delivery.GetPiece()
		switch delivery.GetKind() {
		case deliveryv1.Delivery_KIND_STATUS:
			if piece != nil && waiting != nil {
				waiting(piece.GetDone(), piece.GetExpected())
			}
		case deliveryv1.Delivery_KIND_BOOTSTRAP:
			id, ok := snapshot.ParseID(piece.GetSnapshot())
			if !ok || id.IsZero() {
				return nil, nil, snapshot.ID{}, fault.New(fault.Malformed, "the gateway gives a snapshot of partition %d without its id", p)
			}
			return delivery, data, id, nil
		default:
			return nil, nil, snapshot.ID{}, fault.New(fault.Malformed, "the gateway sent %v where a snapshot was asked for", delivery.GetKind())
		}
	}
}

// check refuses a snapshot of something else, and one that would take a cursor back.
func (o *offer) check(m store.Meta, want snapshotWanted) error {
	switch {
	case o.Stream != m.Stream || o.Lane != (lane.ID{Stream: m.StreamID, Partition: want.Partition}) || o.Seed != m.DigestSeed:
		return fault.New(fault.Malformed, "a snapshot of partition %d of stream %q (id %d) was asked for, and one of partition %d of stream %q (id %d) was given",
			want.Partition, m.Stream, m.StreamID, o.Lane.Partition, o.Stream, o.Lane.Stream)
	case !want.ID.IsZero() && o.ID != want.ID:
		return fault.New(fault.Malformed, "snapshot %v was asked for, and %v was given", want.ID, o.ID)
	case want.AtLeast.Epoch != 0 && o.At.Compare(want.AtLeast) < 0:
		return fault.New(fault.Malformed, "a snapshot at %v or later was asked for, and one at %v was given", want.AtLeast, o.At)
	}
	return nil
}

// patiently tries again while the gateway says that it is overloaded, as late as it asks for and a little later, so that many replicas do
// not come back together.
func patiently(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		wait, told := retryAfter(err)
		if !told || n == maxRefusals {
			return err
		}
		if pause.Wait(ctx, wait) != nil {
			return err
		}
	}
}

// retryAfter gives when a refusal asks to be tried again, with jitter; told is false for other errors and for a refusal that does not say.
func retryAfter(err error) (wait time.Duration, told bool) {
	if err == nil || fault.ReasonOf(err) != fault.Overloaded {
		return 0, false
	}
	ms, parseErr := strconv.ParseUint(fault.Of(err).Detail("retry_after_ms"), 10, 32)
	if parseErr != nil {
		return 0, false
	}
	wait = min(max(time.Duration(ms)*time.Millisecond, time.Millisecond), longestRefusal)
	return wait + rand.N(wait/2+1), true
}
