package replica

import (
	"context"
	"errors"
	"io"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// packet is an answer to "changes" or "rows", unpacked: rows, or tombstones.
type packet struct {
	tombstones bool
	count      uint32
	raw        []byte
	packed     int // bytes it had on the wire
}

// nextPiece gives the next piece of the snapshot with this id and what it holds; io.EOF at the end. Statuses are passed over.
func nextPiece(ctx context.Context, d *session.Deliveries, id snapshot.ID) (*deliveryv1.Piece, []byte, error) {
	for {
		delivery, data, err := d.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil, nil, io.EOF
		}
		if err != nil {
			return nil, nil, err
		}
		if delivery.GetKind() == deliveryv1.Delivery_KIND_STATUS {
			continue
		}
		piece := delivery.GetPiece()
		of, named := snapshot.ParseID(piece.GetSnapshot()) // most do not say it again: the stream was asked for this one
		if delivery.GetKind() != deliveryv1.Delivery_KIND_PIECE || len(piece.GetSnapshot()) > 0 && (!named || of != id) {
			return nil, nil, fault.New(fault.Malformed, "the gateway sent %v where a piece of snapshot %v belongs", delivery.GetKind(), id)
		}
		return piece, data, nil
	}
}

// nextPacket gives the next packet; io.EOF at the end. Fault: Corrupt, Malformed when it is not what it says.
func nextPacket(ctx context.Context, d *session.Deliveries, id snapshot.ID) (packet, error) {
	piece, data, err := nextPiece(ctx, d, id)
	if err != nil {
		return packet{}, err
	}
	p := packet{tombstones: piece.GetContent() == deliveryv1.Piece_CONTENT_TOMBSTONES, count: piece.GetCount(), packed: len(data)}
	if !p.tombstones && piece.GetContent() != deliveryv1.Piece_CONTENT_ROWS {
		return packet{}, fault.New(fault.Malformed, "the gateway sent %v where rows belong", piece.GetContent())
	}
	p.raw, err = snapshot.Unpack(data, int(piece.GetRawBytes()), nil)
	return p, err
}

// eachRow visits the rows, which alias the packet.
func (p *packet) eachRow(visit func(*record.Record) error) error {
	return eachRow(p.raw, p.count, visit)
}

// eachTombstone visits the tombstones, which alias the packet.
func (p *packet) eachTombstone(visit func(state.Tombstone) error) error {
	r := state.NewTombstoneReader(p.raw)
	var t state.Tombstone
	n := uint32(0)
	for ; r.Next(&t); n++ {
		if err := visit(t); err != nil {
			return err
		}
	}
	return counted(n, p.count, r.Err())
}

// eachRow visits the rows of the unpacked content of a chunk or packet that declares so many. They alias raw.
func eachRow(raw []byte, declared uint32, visit func(*record.Record) error) error {
	r := state.NewReader(raw)
	var rec record.Record
	n := uint32(0)
	for ; r.Next(&rec); n++ {
		if err := visit(&rec); err != nil {
			return err
		}
	}
	return counted(n, declared, r.Err())
}

// counted gives the error of reading, or refuses another number than was declared.
func counted(n, declared uint32, err error) error {
	if err == nil && n != declared {
		return fault.New(fault.Malformed, "a part of a snapshot declares %d rows and holds %d", declared, n)
	}
	return err
}
