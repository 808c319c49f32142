// Package storage is the gateway's only door to sequencer-storage: catalogue, tails, ranges of the log, and states.
//
// It turns gRPC messages into the gateway's own types and checks every batch on the way in (package parcel, I1). It keeps nothing
// and retries nothing: how long to wait is known only by who asks.
package storage

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
)

// Standing is where a lane is.
type Standing struct {
	Lane       lane.ID
	Stream     lane.StreamName
	Epoch      lane.Epoch
	Head, Tail lane.Sequence
	TailTimeMS int64
	// Digest is the newest mark known; nil for none.
	Digest *streamv1.DigestMark
}

// Range asks for whole batches that cover [From, Until) of a lane.
type Range struct {
	Stream lane.StreamName
	Lane   lane.ID
	Epoch  lane.Epoch
	From   lane.Sequence
	// Until is exclusive; 0 means "to the tail".
	Until lane.Sequence
	// MaxBytes ends the answer after about so many bytes, never before one batch; 0 means no bound.
	MaxBytes uint64
	// Head is told to consumers beside the batches.
	Head lane.Sequence
}

// Client asks one sequencer-storage. Safe for concurrent use.
type Client struct {
	sequencer sequencerv1.SequencerClient
	catalogue sequencerv1.CatalogueClient
}

// New asks over cc.
func New(cc grpc.ClientConnInterface) *Client {
	return &Client{sequencer: sequencerv1.NewSequencerClient(cc), catalogue: sequencerv1.NewCatalogueClient(cc)}
}

// GetStream describes a stream as it stands now.
func (c *Client) GetStream(ctx context.Context, name lane.StreamName) (*streamv1.Stream, error) {
	answer, err := c.catalogue.GetStream(ctx, &sequencerv1.GetStreamRequest{Name: string(name)})
	return answer.GetStream(), err
}

// Tails answers where the given lanes stand. Lanes that do not exist are left out.
func (c *Client) Tails(ctx context.Context, lanes []lane.ID) ([]Standing, error) {
	if len(lanes) == 0 {
		return nil, nil
	}
	req := &sequencerv1.TailsRequest{Lanes: make([]*sequencerv1.LaneRef, len(lanes))}
	for i, id := range lanes {
		req.Lanes[i] = &sequencerv1.LaneRef{StreamId: uint64(id.Stream), Partition: uint32(id.Partition)}
	}
	answer, err := c.sequencer.Tails(ctx, req)
	if err != nil {
		return nil, err
	}
	standings := make([]Standing, 0, len(answer.GetLanes()))
	for _, l := range answer.GetLanes() {
		standings = append(standings, StandingOf(lane.StreamID(l.GetStreamId()), lane.StreamName(l.GetStream()), l.GetLane()))
	}
	return standings, nil
}

// StandingOf reads the message form.
func StandingOf(id lane.StreamID, name lane.StreamName, l *streamv1.Lane) Standing {
	return Standing{
		Lane: lane.ID{Stream: id, Partition: lane.Partition(l.GetPartition())}, Stream: name,
		Epoch: lane.Epoch(l.GetEpoch()), Head: lane.Sequence(l.GetHead()), Tail: lane.Sequence(l.GetTail()),
		TailTimeMS: l.GetTailTimeMs(), Digest: l.GetDigest(),
	}
}

// Read calls visit with every batch of the range, in order. An error of visit ends it and is returned.
func (c *Client) Read(ctx context.Context, r Range, visit func(*parcel.Parcel) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.sequencer.Read(ctx, &sequencerv1.ReadRequest{
		Stream: string(r.Stream), StreamId: uint64(r.Lane.Stream), Partition: uint32(r.Lane.Partition),
		Epoch: uint64(r.Epoch), From: uint64(r.From), Until: uint64(r.Until), MaxBytes: r.MaxBytes,
	})
	if err != nil {
		return err
	}
	var mark *streamv1.DigestMark // the newest not yet handed on
	for {
		answer, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if d := answer.GetDigest(); d != nil {
			mark = d
		}
		if len(answer.GetBatch()) == 0 {
			continue
		}
		p, err := parcel.Make(answer.GetBatch(), parcel.Place{Lane: r.Lane, Epoch: r.Epoch, Head: r.Head, Tail: lane.Sequence(answer.GetTail()), Digest: mark})
		if err != nil {
			return err
		}
		if mark != nil && lane.Sequence(mark.GetSequence()) <= p.Last {
			mark = nil
		}
		if err := visit(p); err != nil {
			return err
		}
	}
}
