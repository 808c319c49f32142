package replica

import (
	"context"
	"errors"
	"io"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/internal/spool"
)

// fetch brings the chunks that are missing into the spools. It does not wait for their reader: a slow disk of one partition stops nobody.
func (k *link) fetch(ctx context.Context, spools []*spool.Spool) error {
	return inParallel(ctx, len(spools), lanesAtOnce, func(ctx context.Context, p int) error {
		return patiently(ctx, func() error {
			err := k.fetchLane(ctx, spools[p])
			if errors.Is(err, fault.Corrupt) { // what is asked for again on the same connection, the gateway proves before it sends it
				err = k.fetchLane(ctx, spools[p])
			}
			return err
		})
	})
}

// fetchLane asks once for what is missing of a snapshot.
func (k *link) fetchLane(ctx context.Context, s *spool.Spool) error {
	missing := s.Missing()
	if len(missing) == 0 {
		return nil
	}
	d, err := k.Chunks(ctx, &deliveryv1.ChunksRequest{Stream: k.r.cfg.Stream, Partition: uint32(s.Manifest.Lane.Partition), Id: s.ID[:], Ranges: missing})
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		piece, stored, err := nextPiece(ctx, d, s.ID)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if piece.GetContent() != deliveryv1.Piece_CONTENT_CHUNK {
			return fault.New(fault.Malformed, "the gateway sent %v where a chunk belongs", piece.GetContent())
		}
		if err := s.Put(int(piece.GetChunk()), stored); err != nil {
			return err
		}
		if err := k.pace.take(ctx, len(stored)); err != nil {
			return err
		}
	}
	if left := s.Missing(); len(left) > 0 {
		return fault.New(fault.Unavailable, "the gateway ended before it had sent all chunks of snapshot %v: from %d on some are missing", s.ID, left[0])
	}
	return nil
}
