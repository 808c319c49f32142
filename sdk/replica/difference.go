package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// errTooDifferent: finding the difference costs more than it saves, so the next rung is cheaper.
var errTooDifferent = errors.New("the rows differ in too many places for a repair to be worth it")

// worthwhile is the largest share of a snapshot that a repair may move: a quarter of it.
const worthwhile = 4

// leastWorthwhile is what a repair may always move, however small the snapshot.
const leastWorthwhile = 64 << 10

// difference finds which elements only the target's rows have and which only ours, and how many bytes that moved. errTooDifferent when
// it, or fetching what it found, would move more than a quarter of the snapshot.
func difference(ctx context.Context, s source, t target, ours []sketch.ID) (found sketch.Found, moved uint64, err error) {
	limit := max(t.rowBytes/worthwhile, leastWorthwhile)
	diff := sketch.NewDifference(sketch.New(ours))
	err = patiently(ctx, func() error {
		d, err := s.Sketch(ctx, &deliveryv1.SketchRequest{Stream: s.stream, Partition: uint32(t.partition), Id: t.id[:], From: uint64(diff.Symbols())})
		if err != nil {
			return err
		}
		defer func() { moved += d.MovedBytes(); d.Close() }()
		for !diff.Done() {
			if moved+d.MovedBytes() > limit {
				return errTooDifferent
			}
			n, err := addBlock(ctx, d, t, diff)
			if err != nil {
				return err
			}
			if err := s.pace.take(ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return sketch.Found{}, moved, err
	}
	found = diff.Found()
	perRow := t.rowBytes / max(1, t.set.Count)
	if moved+uint64(len(found.Theirs))*(perRow+idBytes) > limit {
		return sketch.Found{}, moved, errTooDifferent
	}
	return found, moved, nil
}

// addBlock takes the next block of symbols and gives its length. A sketch that ends is one whose snapshot is smaller than the difference.
func addBlock(ctx context.Context, d *session.Deliveries, t target, diff *sketch.Difference) (int, error) {
	piece, data, err := nextPiece(ctx, d, t.id)
	if errors.Is(err, io.EOF) {
		return 0, errTooDifferent
	}
	if err != nil {
		return 0, err
	}
	block, err := sketch.ParseBlock(data)
	if err != nil {
		return 0, err
	}
	if piece.GetContent() != deliveryv1.Piece_CONTENT_SYMBOLS || block.First != uint64(diff.Symbols()) || block.Elements != t.set.Count || len(block.Symbols) == 0 {
		return 0, fault.New(fault.Malformed, "the gateway sent symbols from %d of %d rows where those from %d of %d belong", block.First, block.Elements, diff.Symbols(), t.set.Count)
	}
	return len(data), diff.Add(block.Symbols)
}

const idBytes = 8

// fetchRows asks for the target's rows with these elements and hands them on in packets; it answers how many bytes that moved.
func fetchRows(ctx context.Context, s source, t target, ids []sketch.ID, take func(*packet) error) (moved uint64, err error) {
	for len(ids) > 0 {
		n := min(len(ids), protocol.MaxRowsAsked)
		elements := make([]byte, 0, idBytes*n)
		for _, id := range ids[:n] {
			elements = binary.BigEndian.AppendUint64(elements, uint64(id))
		}
		ids = ids[n:]
		more, err := packets(ctx, s.pace, t.id, func() (*session.Deliveries, error) {
			return s.Rows(ctx, &deliveryv1.RowsRequest{Stream: s.stream, Partition: uint32(t.partition), Id: t.id[:], Elements: elements})
		}, take)
		moved += more
		if err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// packets opens a stream of packets and reads it to its end, waiting while the gateway is overloaded. An interruption after the first
// packet is not waited out: what was taken is taken.
func packets(ctx context.Context, pace *pace, id snapshot.ID, open func() (*session.Deliveries, error), take func(*packet) error) (moved uint64, err error) {
	taken := false
	err = patiently(ctx, func() error {
		d, err := open()
		if err != nil {
			return err
		}
		defer func() { moved += d.MovedBytes(); d.Close() }()
		err = eachPacket(ctx, d, id, func(p *packet) error {
			taken = true
			if err := pace.take(ctx, p.packed); err != nil {
				return err
			}
			return take(p)
		})
		if taken && fault.ReasonOf(err) == fault.Overloaded {
			err = fault.New(fault.Unavailable, "the gateway broke off in the middle: %w", err)
		}
		return err
	})
	return moved, err
}

// eachPacket reads a stream of packets to its end.
func eachPacket(ctx context.Context, d *session.Deliveries, id snapshot.ID, take func(*packet) error) error {
	for {
		p, err := nextPacket(ctx, d, id)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(&p); err != nil {
			return err
		}
	}
}
