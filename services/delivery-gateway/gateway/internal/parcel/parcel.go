// Package parcel makes what a gateway sends: a Delivery as metadata beside bytes as data, encoded once and shared by reference.
//
// Invariants:
//
//	I1  a batch is checked whole (header and body CRC32C, its lane, its epoch) before it becomes a Parcel, wherever it came from.
//	I2  a Parcel never changes once made: any number of subscribers and connections hold the same one.
package parcel

import (
	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Parcel is one batch on its way to any number of consumers: records [First, Last].
type Parcel struct {
	First, Last lane.Sequence
	// LastTimeMS is the highest record time in it.
	LastTimeMS int64
	// Mark is the digest the metadata carries; nil for none.
	Mark *streamv1.DigestMark
	// Metadata is an encoded Delivery, Data the encoded batch.
	Metadata, Data []byte
}

// Size is what the parcel occupies, in bytes, for budgets and windows.
func (p *Parcel) Size() int { return len(p.Metadata) + len(p.Data) }

// Next is the sequence after the last record.
func (p *Parcel) Next() lane.Sequence { return p.Last + 1 }

// Place says which lane a batch must belong to, and where that lane stood when the parcel was made.
type Place struct {
	Lane       lane.ID
	Epoch      lane.Epoch
	Head, Tail lane.Sequence
	TailTimeMS int64
	// Digest rides along when it belongs to the batch's last sequence or an earlier one; nil for none.
	Digest *streamv1.DigestMark
}

// Make checks data, keeps it and wraps it (I1). A batch of an older epoch than the lane's is fine: the lane's history was continued.
func Make(data []byte, at Place) (*Parcel, error) {
	h, err := batch.ParseHeader(data)
	if err != nil {
		return nil, err
	}
	switch {
	case batch.CRC(data[len(data)-int(h.BodyBytes):]) != h.BodyCRC:
		return nil, fault.New(fault.Corrupt, "the batch [%d, %d) of lane %v fails its checksum", h.Base, h.Next(), h.Lane)
	case h.Lane != at.Lane:
		return nil, fault.New(fault.Corrupt, "a batch of lane %v came in place of one of lane %v", h.Lane, at.Lane)
	case h.Base == 0:
		return nil, fault.New(fault.Malformed, "a batch of lane %v has no sequence yet", h.Lane)
	case h.Epoch > at.Epoch:
		return nil, fault.New(fault.EpochMismatch, "the batch [%d, %d) of lane %v belongs to epoch %d, newer than %d", h.Base, h.Next(), h.Lane, h.Epoch, at.Epoch)
	}
	d := &deliveryv1.Delivery{
		Kind: deliveryv1.Delivery_KIND_BATCH, Partition: uint32(at.Lane.Partition), Epoch: uint64(at.Epoch),
		Head: uint64(at.Head), Tail: uint64(max(at.Tail, h.Last())), TailTimeMs: max(at.TailTimeMS, h.LastMS),
		First: uint64(h.Base), Last: uint64(h.Last()),
	}
	if at.Digest != nil && lane.Sequence(at.Digest.GetSequence()) <= h.Last() {
		d.Digest = at.Digest
	}
	metadata, err := proto.Marshal(d)
	if err != nil {
		return nil, fault.New(fault.Internal, "encoding a delivery: %w", err)
	}
	return &Parcel{First: h.Base, Last: h.Last(), LastTimeMS: h.LastMS, Mark: d.GetDigest(), Metadata: metadata, Data: data}, nil
}

// Status encodes a delivery without records: where the lane stands, and its digest.
func Status(at Place) []byte {
	metadata, err := proto.Marshal(&deliveryv1.Delivery{
		Kind: deliveryv1.Delivery_KIND_STATUS, Partition: uint32(at.Lane.Partition), Epoch: uint64(at.Epoch),
		Head: uint64(at.Head), Tail: uint64(at.Tail), TailTimeMs: at.TailTimeMS, Digest: at.Digest,
	})
	if err != nil { // a message of numbers and bytes always encodes
		return []byte{}
	}
	return metadata
}
