package replica

import (
	"context"
	"errors"
	"io"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// byKey reads the provider's state of a lane and the file's rows side by side, both rising by key.
func (v *verification) byKey(ctx context.Context, l store.Lane) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows := make(chan store.ViewRow, 1024)
	failed := make(chan error, 1)
	go func() { // ends with the rows or with ctx, which is cancelled before byKey returns
		defer close(rows)
		failed <- v.view.Rows(l.Partition, func(r store.ViewRow) error {
			select {
			case rows <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	defer func() {
		cancel()
		for range rows { // until the reader has gone
		}
	}()
	var suspects []RowDifference
	note := func(key string, mine, theirs lane.Sequence) {
		suspects = append(suspects, RowDifference{Partition: l.Partition, Key: key, Mine: mine, Theirs: theirs})
	}
	mine, more := <-rows
	o, err := snapshotOf(ctx, v.Session, v.meta, snapshotWanted{Partition: l.Partition, AtLeast: v.from(l)})
	if err != nil {
		return err
	}
	h := digest.NewHasher(v.meta.DigestSeed)
	var theirs digest.Set
	err = v.each(ctx, o, func(rec *record.Record) error {
		key, e := string(rec.Key), h.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value)
		theirs.Add(e)
		for more && mine.Key < key {
			note(mine.Key, mine.Sequence, 0)
			mine, more = <-rows
		}
		if !more || mine.Key > key {
			note(key, 0, rec.Sequence)
			return nil
		}
		if mine.Element != e {
			note(key, mine.Sequence, rec.Sequence)
		}
		mine, more = <-rows
		return nil
	})
	if err != nil {
		return err
	}
	if theirs != o.Set {
		return fault.New(fault.Corrupt, "the rows of snapshot %v of partition %d have digest %v, and it says %v", o.ID, l.Partition, theirs, o.Set)
	}
	for more {
		note(mine.Key, mine.Sequence, 0)
		mine, more = <-rows
	}
	if err := <-failed; err != nil {
		return err
	}
	return v.judge(ctx, l, target{id: o.ID, partition: l.Partition, at: o.At, floor: o.Floor}, suspects)
}

// each visits the rows of a snapshot, rising by key, as its chunks come.
func (v *verification) each(ctx context.Context, o offer, visit func(*record.Record) error) error {
	if len(o.Manifest.Rows) == 0 {
		return nil
	}
	d, err := v.Chunks(ctx, &deliveryv1.ChunksRequest{Stream: v.stream, Partition: uint32(o.Lane.Partition), Id: o.ID[:], Ranges: []uint32{0, uint32(len(o.Manifest.Rows))}})
	if err != nil {
		return err
	}
	defer func() { v.c.MovedBytes += d.MovedBytes(); d.Close() }()
	var raw []byte
	for n := range o.Manifest.Rows {
		piece, stored, err := nextPiece(ctx, d, o.ID)
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Unavailable, "the gateway ended before it had sent all chunks of snapshot %v", o.ID)
		}
		if err != nil {
			return err
		}
		if piece.GetContent() != deliveryv1.Piece_CONTENT_CHUNK || piece.GetChunk() != uint32(n) {
			return fault.New(fault.Malformed, "the gateway sent %v %d where chunk %d belongs", piece.GetContent(), piece.GetChunk(), n)
		}
		c := &o.Manifest.Rows[n]
		if raw, err = c.Open(stored, raw); err != nil {
			return err
		}
		if err := eachRow(raw, c.Count, visit); err != nil {
			return err
		}
	}
	return nil
}
