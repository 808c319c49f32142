package sdktest

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

type publishedKey struct {
	producer        string
	epoch, sequence uint64
}

type producerLane struct {
	producer  string
	epoch     uint64
	partition lane.Partition
}

type ingestServer struct {
	ingestv1.UnimplementedIngestServer
	p *Provider
}

// OpenProducer gives the next epoch.
func (s *ingestServer) OpenProducer(_ context.Context, q *ingestv1.OpenProducerRequest) (*ingestv1.OpenProducerResponse, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	id := q.GetProducerId()
	if id == "" {
		id = "producer-" + text(uint64(len(s.p.producers)+1))
	}
	s.p.producers[id]++
	return &ingestv1.OpenProducerResponse{ProducerId: id, ProducerEpoch: s.p.producers[id]}, nil
}

// Publish answers one request.
func (s *ingestServer) Publish(_ context.Context, q *ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
	answer, err := s.p.publish(q)
	return answer, faultstatus.ToStatus(err)
}

// PublishStream answers request after request.
func (s *ingestServer) PublishStream(calls grpc.BidiStreamingServer[ingestv1.PublishRequest, ingestv1.PublishResponse]) error {
	for {
		q, err := calls.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := s.p.publish(q)
		if err != nil {
			return faultstatus.ToStatus(err)
		}
		if err := calls.Send(answer); err != nil {
			return err
		}
	}
}

// publish stores a request's records and tells their fates.
func (p *Provider) publish(q *ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.streamLocked(q.GetStream())
	if err != nil {
		return nil, err
	}
	records, err := recordsOf(q)
	if err != nil {
		return nil, err
	}
	var failure *publishFault
	if len(p.faults.publishes) > 0 {
		failure = &p.faults.publishes[0]
		p.faults.publishes = p.faults.publishes[1:]
	}
	refused := func(err error, n int) *ingestv1.PublishResponse {
		return &ingestv1.PublishResponse{Outcomes: []*ingestv1.Outcome{{Count: uint32(n), Fault: faultstatus.Proto(err)}}}
	}
	if failure != nil && !failure.written {
		return refused(fault.New(failure.reason, "the test asked for this"), len(records)), nil
	}
	answer := &ingestv1.PublishResponse{}
	for i := range records {
		answer.Outcomes = append(answer.Outcomes, p.store(s, q, &records[i], uint64(i)))
	}
	if failure != nil {
		return refused(fault.New(failure.reason, "the test asked for this"), len(records)), nil
	}
	return answer, nil
}

func recordsOf(q *ingestv1.PublishRequest) ([]record.Record, error) {
	var records []record.Record
	if len(q.GetPacked()) > 0 {
		r := record.NewReader(q.GetPacked(), 0)
		var rec record.Record
		for r.Next(&rec) {
			records = append(records, rec)
		}
		if r.Err() == nil && len(records) != int(q.GetPackedCount()) {
			return nil, fault.New(fault.Malformed, "the request declares %d records and holds %d", q.GetPackedCount(), len(records))
		}
		return records, r.Err()
	}
	for _, wire := range q.GetRecords() {
		headers, err := record.NewHeaders(wire.GetHeaders())
		if err != nil {
			return nil, err
		}
		records = append(records, record.Record{Key: []byte(wire.GetKey()), Value: wire.GetValue(), Headers: headers, Tombstone: wire.GetTombstone(), TimeMS: wire.GetTimeMs()})
	}
	return records, nil
}

// store appends one record as a batch of its own, unless it was stored before.
func (p *Provider) store(s *stream, q *ingestv1.PublishRequest, rec *record.Record, i uint64) *ingestv1.Outcome {
	if err := rec.Check(s.spec.GetKeyed()); err != nil {
		return &ingestv1.Outcome{Count: 1, Fault: faultstatus.Proto(err)}
	}
	if rec.TimeMS == 0 {
		rec.TimeMS = time.Now().UnixMilli()
	}
	at := lane.Of(rec.Key, s.spec.GetPartitions())
	l := s.lanes[at]
	if id := q.GetProducerId(); id != "" {
		if current := p.producers[id]; current != q.GetProducerEpoch() {
			return &ingestv1.Outcome{Count: 1, Fault: faultstatus.Proto(fault.New(fault.ProducerFenced, "producer %q is in epoch %d, this is %d", id, current, q.GetProducerEpoch()))}
		}
		sequence := q.GetFirstProducerSequence() + i
		key := publishedKey{id, q.GetProducerEpoch(), sequence}
		if was, ok := s.published[key]; ok {
			return &ingestv1.Outcome{Count: 1, Partition: uint32(was.partition), Epoch: uint64(l.epoch), FirstSequence: uint64(was.sequence), Duplicate: true}
		}
		order := producerLane{id, q.GetProducerEpoch(), at}
		if sequence <= s.highest[order] {
			return &ingestv1.Outcome{Count: 1, Fault: faultstatus.Proto(fault.New(fault.OutOfOrder, "producer sequence %d comes after %d", sequence, s.highest[order]))}
		}
		s.highest[order] = sequence
		s.published[key] = lanePosition{at, l.tail + 1}
	}
	first := l.append([]record.Record{*rec})
	return &ingestv1.Outcome{Count: 1, Partition: uint32(at), Epoch: uint64(l.epoch), FirstSequence: uint64(first)}
}

type streamsServer struct {
	ingestv1.UnimplementedStreamsServer
	p *Provider
}

// CreateStream makes a stream.
func (s *streamsServer) CreateStream(_ context.Context, q *ingestv1.CreateStreamRequest) (*ingestv1.CreateStreamResponse, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if have := s.p.streams[q.GetSpec().GetName()]; have != nil && q.GetIfAbsent() {
		return &ingestv1.CreateStreamResponse{Stream: have.wire()}, nil
	}
	made, err := s.p.createLocked(proto.CloneOf(q.GetSpec()))
	if err != nil {
		return nil, faultstatus.ToStatus(err)
	}
	return &ingestv1.CreateStreamResponse{Stream: made.wire(), Created: true}, nil
}

// GetStream describes a stream.
func (s *streamsServer) GetStream(_ context.Context, q *ingestv1.GetStreamRequest) (*ingestv1.GetStreamResponse, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	have, err := s.p.streamLocked(q.GetName())
	if err != nil {
		return nil, faultstatus.ToStatus(err)
	}
	return &ingestv1.GetStreamResponse{Stream: have.wire()}, nil
}
