package storage

import (
	"context"
	"errors"
	"io"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

// Wanted says which snapshot of a lane serves.
type Wanted struct {
	Stream lane.StreamName
	Lane   lane.ID
	// AtLeast is the position it must not be below; epoch 0: any.
	AtLeast lane.Position
	// ID names the only one that serves; zero: any.
	ID snapshot.ID
}

// OpenSnapshot gives the encoded manifest of a snapshot and its ID, unchecked. progress is told of rows while it is being made.
func (c *Client) OpenSnapshot(ctx context.Context, w Wanted, progress func(rows, expected uint64)) ([]byte, snapshot.ID, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &sequencerv1.OpenSnapshotRequest{
		Stream: string(w.Stream), StreamId: uint64(w.Lane.Stream), Partition: uint32(w.Lane.Partition),
		AtLeast: &streamv1.Position{Epoch: uint64(w.AtLeast.Epoch), Sequence: uint64(w.AtLeast.Sequence)},
	}
	if !w.ID.IsZero() {
		req.Id = w.ID[:]
	}
	s, err := c.sequencer.OpenSnapshot(ctx, req)
	if err != nil {
		return nil, snapshot.ID{}, err
	}
	for {
		answer, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, snapshot.ID{}, fault.New(fault.Unavailable, "storage ended its answer before it named a snapshot: try again")
		case err != nil:
			return nil, snapshot.ID{}, err
		}
		if p := answer.GetProgress(); p != nil {
			progress(p.GetRows(), p.GetExpected())
		}
		if m := answer.GetManifest(); m != nil {
			id, ok := snapshot.ParseID(m.GetId())
			if !ok {
				return nil, snapshot.ID{}, fault.New(fault.Malformed, "storage named a snapshot by %d bytes", len(m.GetId()))
			}
			return m.GetManifest(), id, nil
		}
	}
}

// ReadSnapshot calls visit with the pieces of [offset, offset+bytes) of a snapshot's file, in order and unchecked; nil means that all
// were given. An error of visit ends it and is returned.
func (c *Client) ReadSnapshot(ctx context.Context, id snapshot.ID, offset, bytes uint64, visit func([]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.sequencer.ReadSnapshot(ctx, &sequencerv1.ReadSnapshotRequest{Id: id[:], Offset: offset, Bytes: bytes})
	if err != nil {
		return err
	}
	for left := bytes; left > 0; {
		answer, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return fault.New(fault.Unavailable, "storage ended a snapshot %d bytes too early: try again", left)
		case err != nil:
			return err
		case uint64(len(answer.GetData())) > left:
			return fault.New(fault.Malformed, "storage sent more of a snapshot than was asked for")
		}
		left -= uint64(len(answer.GetData()))
		if err := visit(answer.GetData()); err != nil {
			return err
		}
	}
	return nil
}
