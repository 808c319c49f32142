package session

import (
	"context"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
)

// Snapshot asks for the manifest of a snapshot: statuses, the manifest, the end.
func (s *Session) Snapshot(ctx context.Context, request *deliveryv1.SnapshotRequest) (*Deliveries, error) {
	return s.pieces(ctx, protocol.RouteSnapshot, request)
}

// Chunks asks for chunks of a snapshot as they are stored.
func (s *Session) Chunks(ctx context.Context, request *deliveryv1.ChunksRequest) (*Deliveries, error) {
	return s.pieces(ctx, protocol.RouteChunks, request)
}

// Changes asks for the rows and tombstones of a snapshot that are newer than a sequence.
func (s *Session) Changes(ctx context.Context, request *deliveryv1.ChangesRequest) (*Deliveries, error) {
	return s.pieces(ctx, protocol.RouteChanges, request)
}

// Sketch asks for coded symbols of a snapshot's rows, until it is closed. Blocks come one by one: one that is under way when the
// difference is found is wasted.
func (s *Session) Sketch(ctx context.Context, request *deliveryv1.SketchRequest) (*Deliveries, error) {
	return s.stream(ctx, protocol.RouteSketch, request, 1)
}

// Rows asks for rows of a snapshot by their element IDs.
func (s *Session) Rows(ctx context.Context, request *deliveryv1.RowsRequest) (*Deliveries, error) {
	return s.pieces(ctx, protocol.RouteRows, request)
}

// pieces opens a stream of large deliveries: little credit, given back with each of them.
func (s *Session) pieces(ctx context.Context, to string, request proto.Message) (*Deliveries, error) {
	d, err := s.stream(ctx, to, request, WindowPieces)
	if err == nil {
		d.every = 1
	}
	return d, err
}
