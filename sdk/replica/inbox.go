package replica

import (
	"context"
	"errors"
	"io"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

const (
	// inboxBatches and inboxBytes are how much decoded waits for the writer or is being written, in all partitions together (I7).
	inboxBatches = 256
	inboxBytes   = 24 << 20
)

// parcel is one delivery made ready for the writer.
type parcel struct {
	delivery *deliveryv1.Delivery
	lane     lane.Partition
	header   batch.Header
	records  []record.Record
	// elements are the hashes of the records, zero for tombstones.
	elements []digest.Element
	// err ends the lane's subscription.
	err error
}

// last is the sequence of the last record; only of batches.
func (p *parcel) last() lane.Sequence { return p.header.Last() }

// size is what the parcel weighs while it waits, about.
func (p *parcel) size() int { return int(p.header.RawBytes) + perRecordBytes*len(p.records) }

// perRecordBytes is a decoded record beside its bytes.
const perRecordBytes = 144

// receive reads one lane's subscription into the inbox until it ends; the last parcel carries the error.
func receive(ctx context.Context, d *session.Deliveries, open opener, inbox chan<- parcel, room *budget) {
	for {
		p := open.next(ctx, d)
		if !room.take(ctx, p.size()) {
			return
		}
		select {
		case inbox <- p:
		case <-ctx.Done():
			return
		}
		if p.err != nil {
			return
		}
	}
}

// opener checks and decodes the deliveries of one lane.
type opener struct {
	meta   store.Meta
	lane   lane.Partition
	hasher *digest.Hasher
}

func newOpener(m store.Meta, p lane.Partition) opener {
	return opener{meta: m, lane: p, hasher: digest.NewHasher(m.DigestSeed)}
}

// next gives the next delivery; one whose err is io.EOF at the end of a bounded stream.
func (o *opener) next(ctx context.Context, d *session.Deliveries) parcel {
	delivery, data, err := d.Next(ctx)
	p := parcel{delivery: delivery, lane: o.lane, err: err}
	if err == nil && delivery.GetKind() == deliveryv1.Delivery_KIND_BATCH {
		p.err = o.open(&p, data)
	}
	if errors.Is(p.err, io.EOF) {
		p.err = io.EOF
	}
	return p
}

// open decodes the batch; its memory is its own, so the records stay valid.
func (o *opener) open(p *parcel, data []byte) error {
	h, err := batch.ParseHeader(data)
	if err != nil {
		return err
	}
	if h.Lane != (lane.ID{Stream: o.meta.StreamID, Partition: o.lane}) {
		return fault.New(fault.Malformed, "the gateway sent a batch of lane %v to the subscriber of %d/%d", h.Lane, o.meta.StreamID, o.lane)
	}
	body, err := batch.Body(&h, data, nil)
	if err != nil {
		return err
	}
	p.header = h
	p.records = make([]record.Record, 0, h.Count)
	p.elements = make([]digest.Element, 0, h.Count)
	reader := record.NewReader(body, h.Base)
	var rec record.Record
	for reader.Next(&rec) {
		var e digest.Element
		if !rec.Tombstone {
			e = o.hasher.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value)
		}
		p.records, p.elements = append(p.records, rec), append(p.elements, e)
	}
	if err := reader.Err(); err != nil {
		return err
	}
	if len(p.records) != int(h.Count) {
		return fault.New(fault.Malformed, "the batch at sequence %d declares %d records and holds %d", h.Base, h.Count, len(p.records))
	}
	return nil
}

// subscribeRequest asks for what follows the cursor.
func (k *link) subscribeRequest(l *laneState) *deliveryv1.SubscribeRequest {
	return &deliveryv1.SubscribeRequest{
		Stream: k.r.cfg.Stream, Partition: uint32(l.Partition), ConsumerId: k.consumerID(), Incarnation: uint64(k.incarnation),
		After: positionOf(l.Cursor), WindowBytes: session.WindowBytes,
	}
}

// consumerID is empty for an anonymous reader.
func (k *link) consumerID() string {
	if k.incarnation == 0 {
		return ""
	}
	return k.r.cfg.ConsumerID
}

func positionOf(p lane.Position) *streamv1.Position {
	return &streamv1.Position{Epoch: uint64(p.Epoch), Sequence: uint64(p.Sequence)}
}
