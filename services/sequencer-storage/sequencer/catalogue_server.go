package sequencer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/herald"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/retention"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// catalogueServer answers the Catalogue contract.
type catalogueServer struct {
	sequencerv1.UnimplementedCatalogueServer
	*Service
}

// maxSchemaBytes bounds a stream's JSON Schema.
const maxSchemaBytes = 256 << 10

// CreateStream makes a stream, or with if_absent gives the one that exists when its spec is the same.
func (s *catalogueServer) CreateStream(_ context.Context, r *sequencerv1.CreateStreamRequest) (*sequencerv1.CreateStreamResponse, error) {
	spec, err := checkSpec(r.GetSpec())
	if err != nil {
		return nil, err
	}
	s.streamsMu.Lock()
	defer s.streamsMu.Unlock()
	if exists, err := s.ledger.Named(lane.StreamName(spec.GetName())); err == nil {
		switch {
		case r.GetIfAbsent() && proto.Equal(exists.Spec, spec):
			return &sequencerv1.CreateStreamResponse{Stream: streamMessage(exists)}, nil
		case r.GetIfAbsent():
			return nil, fault.New(fault.StreamExists, "stream %q exists with other settings (partitions %d, keyed %v); nothing was changed", spec.GetName(), exists.Spec.GetPartitions(), exists.Spec.GetKeyed())
		}
		return nil, fault.New(fault.StreamExists, "stream %q exists already", spec.GetName())
	}
	var seed [8]byte
	rand.Read(seed[:]) // never fails
	row, err := s.catalogue.CreateStream(spec, time.Now().UnixMilli(), binary.BigEndian.Uint64(seed[:]))
	if err != nil {
		return nil, err
	}
	stream := &ledger.Stream{ID: row.ID, Spec: row.Spec, CreatedMS: row.CreatedMS, DigestSeed: row.DigestSeed}
	for _, l := range row.Lanes {
		made := &ledger.Lane{
			ID: lane.ID{Stream: row.ID, Partition: l.Partition}, Number: l.Number, Stream: lane.StreamName(spec.GetName()),
			Keyed: spec.GetKeyed(), Seed: row.DigestSeed, Epoch: l.Epoch, Producers: producers.NewIndex(l.Number),
		}
		made.Restore(1, 0, [16]byte{}, nil)
		if made.Keyed {
			s.state.Add(made, staterow.Mark{Epoch: made.Epoch})
		}
		stream.Lanes = append(stream.Lanes, made)
	}
	s.ledger.Add(stream)
	s.log.Info("stream created", "stream", spec.GetName(), "id", row.ID, "partitions", spec.GetPartitions(), "keyed", spec.GetKeyed())
	return &sequencerv1.CreateStreamResponse{Stream: streamMessage(stream), Created: true}, nil
}

// checkSpec gives the spec with its defaults written out.
func checkSpec(in *streamv1.StreamSpec) (*streamv1.StreamSpec, error) {
	if in == nil {
		return nil, fault.New(fault.InvalidArgument, "no stream was described")
	}
	spec := proto.Clone(in).(*streamv1.StreamSpec)
	if err := lane.CheckName("stream", spec.GetName()); err != nil {
		return nil, err
	}
	if spec.Partitions == 0 {
		spec.Partitions = 1
	}
	if spec.MaxValueBytes == 0 {
		spec.MaxValueBytes = record.MaxValueBytes
	}
	if spec.Retention == nil {
		spec.Retention = &streamv1.Retention{}
	}
	switch {
	case spec.Partitions > lane.MaxPartitions:
		return nil, fault.New(fault.InvalidArgument, "%d partitions were asked for; a stream has 1 to %d", spec.Partitions, lane.MaxPartitions)
	case spec.MaxValueBytes > record.MaxValueBytes:
		return nil, fault.New(fault.InvalidArgument, "values of %d bytes were asked for; at most %d are possible", spec.MaxValueBytes, record.MaxValueBytes)
	case len(spec.JsonSchema) > maxSchemaBytes:
		return nil, fault.New(fault.InvalidArgument, "the JSON Schema is %d bytes long; at most %d are taken", len(spec.JsonSchema), maxSchemaBytes)
	}
	return spec, retention.AskedOf(spec.GetRetention())
}

// GetStream gives a stream by name.
func (s *catalogueServer) GetStream(_ context.Context, r *sequencerv1.GetStreamRequest) (*sequencerv1.GetStreamResponse, error) {
	stream, err := s.ledger.Named(lane.StreamName(r.GetName()))
	if err != nil {
		return nil, err
	}
	return &sequencerv1.GetStreamResponse{Stream: streamMessage(stream)}, nil
}

// ListStreams gives all streams by id.
func (s *catalogueServer) ListStreams(context.Context, *sequencerv1.ListStreamsRequest) (*sequencerv1.ListStreamsResponse, error) {
	answer := &sequencerv1.ListStreamsResponse{}
	for _, stream := range s.ledger.Streams() {
		answer.Streams = append(answer.Streams, streamMessage(stream))
	}
	return answer, nil
}

// DeleteStream takes a stream out of service at once; retention frees its bytes.
func (s *catalogueServer) DeleteStream(_ context.Context, r *sequencerv1.DeleteStreamRequest) (*sequencerv1.DeleteStreamResponse, error) {
	s.streamsMu.Lock()
	defer s.streamsMu.Unlock()
	stream, err := s.ledger.Named(lane.StreamName(r.GetName()))
	if err != nil {
		return nil, err
	}
	if err := s.catalogue.DeleteStream(stream.ID); err != nil {
		return nil, err
	}
	s.ledger.Delete(stream)
	for _, l := range stream.Lanes {
		s.herald.Deleted(l)
	}
	s.log.Info("stream deleted", "stream", r.GetName(), "id", stream.ID)
	return &sequencerv1.DeleteStreamResponse{}, nil
}

func streamMessage(s *ledger.Stream) *streamv1.Stream {
	m := &streamv1.Stream{Spec: s.Spec, Id: uint64(s.ID), CreatedMs: s.CreatedMS, DigestSeed: s.DigestSeed}
	for _, l := range s.Lanes {
		m.Lanes = append(m.Lanes, laneMessage(l))
	}
	return m
}

func laneMessage(l *ledger.Lane) *streamv1.Lane {
	at := l.Standing()
	m := &streamv1.Lane{
		Partition: uint32(l.ID.Partition), Epoch: uint64(l.Epoch), Head: uint64(at.Head), Tail: uint64(at.Tail),
		TailTimeMs: at.TailMS, Bytes: at.Bytes, Digest: herald.Mark(l, at.Mark),
	}
	if at.Stopped != nil {
		m.Stopped = at.Stopped.Error()
	}
	return m
}
