package sequencer

import (
	"context"

	"google.golang.org/grpc"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/archive"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
)

// readPieceBytes is how much of a snapshot one message carries at most.
const readPieceBytes = 1 << 20

// pin settles a lane's state at its tail and pins it, for the archive.
func (s *Service) pin(ctx context.Context, l *ledger.Lane) (archive.Source, error) {
	if err := s.state.Settle(ctx, l); err != nil {
		return nil, err
	}
	source, err := newPinned(s.engine, l)
	if err != nil {
		return nil, s.damaged(l, err)
	}
	return source, nil
}

// OpenSnapshot answers the manifest of a snapshot that serves, telling meanwhile how far its making is.
func (s *appendServer) OpenSnapshot(r *sequencerv1.OpenSnapshotRequest, stream grpc.ServerStreamingServer[sequencerv1.OpenSnapshotResponse]) error {
	l, err := s.keyedLane(r.GetStreamId(), r.GetStream(), r.GetPartition())
	if err != nil {
		return err
	}
	wanted := archive.Wanted{AtLeast: lane.Position{Epoch: lane.Epoch(r.GetAtLeast().GetEpoch()), Sequence: lane.Sequence(r.GetAtLeast().GetSequence())}}
	if len(r.GetId()) > 0 {
		var ok bool
		if wanted.ID, ok = snapshot.ParseID(r.GetId()); !ok {
			return fault.New(fault.InvalidArgument, "%d bytes are not the ID of a snapshot", len(r.GetId()))
		}
	}
	kept, err := s.archive.Open(stream.Context(), l, wanted, func(rows, expected uint64) error {
		return stream.Send(&sequencerv1.OpenSnapshotResponse{Part: &sequencerv1.OpenSnapshotResponse_Progress{Progress: &sequencerv1.SnapshotProgress{Rows: rows, Expected: expected}}})
	})
	if err != nil {
		return s.damaged(l, err)
	}
	return stream.Send(&sequencerv1.OpenSnapshotResponse{Part: &sequencerv1.OpenSnapshotResponse_Manifest{Manifest: &sequencerv1.SnapshotManifest{
		Id: kept.ID[:], Manifest: kept.Encoded, LeasedUntilMs: kept.LeasedUntil().UnixMilli(),
	}}})
}

// ReadSnapshot sends a range of a kept snapshot, every chunk compared with its hash first.
func (s *appendServer) ReadSnapshot(r *sequencerv1.ReadSnapshotRequest, stream grpc.ServerStreamingServer[sequencerv1.ReadSnapshotResponse]) error {
	id, ok := snapshot.ParseID(r.GetId())
	if !ok {
		return fault.New(fault.InvalidArgument, "%d bytes are not the ID of a snapshot", len(r.GetId()))
	}
	return s.archive.Read(id, r.GetOffset(), r.GetBytes(), func(data []byte) error {
		for len(data) > 0 {
			n := min(len(data), readPieceBytes)
			if err := stream.Send(&sequencerv1.ReadSnapshotResponse{Data: data[:n]}); err != nil { // Send has encoded it when it returns
				return err
			}
			data = data[n:]
		}
		return nil
	})
}

// keyedLane finds a usable lane that has a state.
func (s *appendServer) keyedLane(id uint64, stream string, partition uint32) (*ledger.Lane, error) {
	l, err := s.ledger.Find(lane.StreamID(id), lane.StreamName(stream), lane.Partition(partition))
	if err != nil {
		return nil, err
	}
	if !l.Keyed {
		return nil, fault.New(fault.NotKeyed, "stream %q has no keys and therefore no state; read its log", l.Stream)
	}
	return l, l.Usable()
}
