package ingest

import (
	"context"
	"slices"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/schema"
)

// streams speaks ingest.v1.Streams: it checks, authority first (I6), and forwards to the sequencer's catalogue.
type streams struct {
	ingestv1.UnimplementedStreamsServer
	book   *grants.Book
	source sequencerv1.CatalogueClient
	known  *catalogue.Catalogue
}

func (s *streams) CreateStream(ctx context.Context, r *ingestv1.CreateStreamRequest) (*ingestv1.CreateStreamResponse, error) {
	spec := r.GetSpec()
	if _, err := s.permit(ctx, grants.Manage, spec.GetName()); err != nil {
		return nil, err
	}
	if err := lane.CheckName("stream", spec.GetName()); err != nil {
		return nil, err
	}
	if spec.GetPartitions() > lane.MaxPartitions {
		return nil, fault.New(fault.InvalidArgument, "stream %q asks for %d partitions; at most %d are possible", spec.GetName(), spec.GetPartitions(), lane.MaxPartitions)
	}
	if spec.GetMaxValueBytes() > record.MaxValueBytes {
		return nil, fault.New(fault.InvalidArgument, "stream %q asks for values of %d bytes; at most %d are possible", spec.GetName(), spec.GetMaxValueBytes(), record.MaxValueBytes)
	}
	if _, err := schema.Compile(spec.GetJsonSchema()); err != nil {
		return nil, err
	}
	answer, err := s.source.CreateStream(ctx, &sequencerv1.CreateStreamRequest{Spec: spec, IfAbsent: r.GetIfAbsent()})
	if err != nil {
		return nil, err
	}
	if answer.GetCreated() {
		s.known.Forget(lane.StreamName(spec.GetName()), 0)
	}
	return &ingestv1.CreateStreamResponse{Stream: answer.GetStream(), Created: answer.GetCreated()}, nil
}

func (s *streams) GetStream(ctx context.Context, r *ingestv1.GetStreamRequest) (*ingestv1.GetStreamResponse, error) {
	pass, err := s.permit(ctx, grants.Read|grants.Publish|grants.Manage, r.GetName())
	if err != nil {
		return nil, err
	}
	if err := lane.CheckName("stream", r.GetName()); err != nil {
		return nil, err
	}
	answer, err := s.source.GetStream(ctx, &sequencerv1.GetStreamRequest{Name: r.GetName()})
	if err != nil {
		return nil, s.known.Explain(ctx, lane.StreamName(r.GetName()), err, pass.Sees)
	}
	return &ingestv1.GetStreamResponse{Stream: answer.GetStream()}, nil
}

func (s *streams) ListStreams(ctx context.Context, _ *ingestv1.ListStreamsRequest) (*ingestv1.ListStreamsResponse, error) {
	pass, err := admit(ctx, s.book)
	if err != nil {
		return nil, err
	}
	answer, err := s.source.ListStreams(ctx, &sequencerv1.ListStreamsRequest{})
	if err != nil {
		return nil, err
	}
	seen := slices.DeleteFunc(answer.GetStreams(), func(one *streamv1.Stream) bool { return !pass.Sees(lane.StreamName(one.GetSpec().GetName())) })
	return &ingestv1.ListStreamsResponse{Streams: seen}, nil
}

func (s *streams) DeleteStream(ctx context.Context, r *ingestv1.DeleteStreamRequest) (*ingestv1.DeleteStreamResponse, error) {
	name := lane.StreamName(r.GetName())
	pass, err := s.permit(ctx, grants.Manage, r.GetName())
	if err != nil {
		return nil, err
	}
	if err := lane.CheckName("stream", r.GetName()); err != nil {
		return nil, err
	}
	_, err = s.source.DeleteStream(ctx, &sequencerv1.DeleteStreamRequest{Name: r.GetName()})
	s.known.Forget(name, 0)
	if err != nil {
		return nil, s.known.Explain(ctx, name, err, pass.Sees)
	}
	return &ingestv1.DeleteStreamResponse{}, nil
}

// permit lets a caller in who has a right to a stream, whether or not the stream exists.
func (s *streams) permit(ctx context.Context, right grants.Right, name string) (grants.Pass, error) {
	pass, err := admit(ctx, s.book)
	if err != nil {
		return pass, err
	}
	return pass, pass.Check(right, lane.StreamName(name))
}
