package ingest_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
)

// memorySequencer keeps the sequencer's contract in memory: order, producer sequences, refusals. It speaks real gRPC.
type memorySequencer struct {
	sequencerv1.UnimplementedSequencerServer
	sequencerv1.UnimplementedCatalogueServer

	mu      sync.Mutex
	streams map[string]*streamv1.Stream
	lastID  uint64
	epochs  map[string]uint64
	lanes   map[lane.ID]*memoryLane
	appends int
	// before, when set, is called with each append's number (from 1) before it is looked at; an error refuses the append.
	before func(n int, in *sequencerv1.AppendRequest) error
	// after, when set, is called after the append was stored; an error hides the answer.
	after func(n int) error
	// keep false stores counts only, for benchmarks.
	keep bool
}

type memoryLane struct {
	busy    bool
	records []record.Record
	tail    uint64
	// placed is where a producer's sequence is stored, last the highest.
	placed map[string]map[uint64]uint64
	last   map[string]uint64
}

func newMemorySequencer() *memorySequencer {
	return &memorySequencer{streams: map[string]*streamv1.Stream{}, epochs: map[string]uint64{}, lanes: map[lane.ID]*memoryLane{}, keep: true}
}

// serve runs m on loopback until the test ends, and gives a connection to it.
func (m *memorySequencer) serve(t testing.TB) *grpc.ClientConn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return m.serveOn(t, l)
}

func (m *memorySequencer) serveOn(t testing.TB, l net.Listener) *grpc.ClientConn {
	s := rpc.NewServer(rpc.ServerConfig{}, discard, nil)
	sequencerv1.RegisterSequencerServer(s, m)
	sequencerv1.RegisterCatalogueServer(s, m)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	conn, err := rpc.Dial(l.Addr().String(), rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); s.Stop(); <-done })
	return conn
}

func (m *memorySequencer) create(spec *streamv1.StreamSpec) *streamv1.Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastID++
	s := &streamv1.Stream{Spec: spec, Id: m.lastID}
	m.streams[spec.GetName()] = s
	return s
}

func (m *memorySequencer) CreateStream(_ context.Context, in *sequencerv1.CreateStreamRequest) (*sequencerv1.CreateStreamResponse, error) {
	return &sequencerv1.CreateStreamResponse{Stream: m.create(in.GetSpec()), Created: true}, nil
}

func (m *memorySequencer) GetStream(_ context.Context, in *sequencerv1.GetStreamRequest) (*sequencerv1.GetStreamResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.streams[in.GetName()]
	if s == nil {
		return nil, fault.New(fault.UnknownStream, "no stream %q", in.GetName())
	}
	return &sequencerv1.GetStreamResponse{Stream: s}, nil
}

func (m *memorySequencer) ListStreams(context.Context, *sequencerv1.ListStreamsRequest) (*sequencerv1.ListStreamsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &sequencerv1.ListStreamsResponse{}
	for _, s := range m.streams {
		out.Streams = append(out.Streams, s)
	}
	return out, nil
}

func (m *memorySequencer) DeleteStream(_ context.Context, in *sequencerv1.DeleteStreamRequest) (*sequencerv1.DeleteStreamResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[in.GetName()] == nil {
		return nil, fault.New(fault.UnknownStream, "no stream %q", in.GetName())
	}
	delete(m.streams, in.GetName())
	return &sequencerv1.DeleteStreamResponse{}, nil
}

func (m *memorySequencer) OpenProducer(_ context.Context, in *sequencerv1.OpenProducerRequest) (*sequencerv1.OpenProducerResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs[in.GetProducerId()]++
	return &sequencerv1.OpenProducerResponse{ProducerEpoch: m.epochs[in.GetProducerId()]}, nil
}

func (m *memorySequencer) Append(_ context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
	id := lane.ID{Stream: lane.StreamID(in.GetStreamId()), Partition: lane.Partition(in.GetPartition())}
	m.mu.Lock()
	m.appends++
	n := m.appends
	l := m.lanes[id]
	if l == nil {
		l = &memoryLane{placed: map[string]map[uint64]uint64{}, last: map[string]uint64{}}
		m.lanes[id] = l
	}
	overlap := l.busy
	l.busy = true
	m.mu.Unlock()
	defer func() { m.mu.Lock(); l.busy = false; m.mu.Unlock() }()
	if overlap {
		return nil, fault.New(fault.Internal, "two appends of lane %v at a time", id)
	}
	if m.before != nil {
		if err := m.before(n, in); err != nil {
			return nil, err
		}
	}
	answer, err := m.store(id, l, in)
	if err == nil && m.after != nil {
		err = m.after(n)
	}
	return answer, err
}

func (m *memorySequencer) store(id lane.ID, l *memoryLane, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.streams[in.GetStream()]
	if s == nil || s.GetId() != in.GetStreamId() {
		return nil, fault.New(fault.UnknownStream, "no stream %q with id %d", in.GetStream(), in.GetStreamId())
	}
	h, err := batch.ParseDraft(in.GetBatch())
	if err != nil {
		return nil, err
	}
	if h.Lane != id {
		return nil, fault.New(fault.Malformed, "a batch of lane %v for lane %v", h.Lane, id)
	}
	if !m.keep {
		first := l.tail + 1
		l.tail += uint64(h.Count)
		return &sequencerv1.AppendResponse{Epoch: 1, FirstSequence: first}, nil
	}
	refusals, refused := m.judge(l, in.GetRuns())
	if refused {
		return &sequencerv1.AppendResponse{Epoch: 1, Refusals: refusals}, nil
	}
	body, err := batch.Body(&h, in.GetBatch(), nil)
	if err != nil {
		return nil, err
	}
	first := l.tail + 1
	reader := record.NewReader(body, lane.Sequence(first))
	var r record.Record
	for reader.Next(&r) {
		l.records = append(l.records, r.Clone())
		l.tail++
	}
	if reader.Err() != nil {
		return nil, reader.Err()
	}
	at := first
	for _, run := range in.GetRuns() {
		if run.GetProducerId() == "" {
			at += uint64(run.GetCount())
			continue
		}
		for _, sequence := range sequences(run) {
			if l.placed[run.GetProducerId()] == nil {
				l.placed[run.GetProducerId()] = map[uint64]uint64{}
			}
			l.placed[run.GetProducerId()][sequence] = at
			l.last[run.GetProducerId()] = sequence
			at++
		}
	}
	if at != l.tail+1 {
		return nil, fault.New(fault.Malformed, "runs name %d records, the batch has %d", at-first, l.tail+1-first)
	}
	return &sequencerv1.AppendResponse{Epoch: 1, FirstSequence: first}, nil
}

// judge says what of the runs is old, run by run.
func (m *memorySequencer) judge(l *memoryLane, runs []*sequencerv1.ProducerRun) (refusals []*sequencerv1.RunRefusal, refused bool) {
	last := map[string]uint64{}
	for _, run := range runs {
		refusal := &sequencerv1.RunRefusal{}
		refusals = append(refusals, refusal)
		id := run.GetProducerId()
		if id == "" {
			continue
		}
		if run.GetProducerEpoch() != m.epochs[id] {
			refusal.Fault = &streamv1.Fault{Reason: string(fault.ProducerFenced), Message: "fenced"}
			refused = true
			continue
		}
		for i, sequence := range sequences(run) {
			if at, ok := l.placed[id][sequence]; ok {
				refused = true
				n := len(refusal.Duplicates)
				if n > 0 && refusal.Duplicates[n-1].Offset+refusal.Duplicates[n-1].Count == uint32(i) &&
					refusal.Duplicates[n-1].FirstSequence+uint64(refusal.Duplicates[n-1].Count) == at {
					refusal.Duplicates[n-1].Count++
					continue
				}
				refusal.Duplicates = append(refusal.Duplicates, &sequencerv1.Duplicate{Offset: uint32(i), Count: 1, Epoch: 1, FirstSequence: at})
				continue
			}
			if sequence <= max(l.last[id], last[id]) {
				refusal.Fault = &streamv1.Fault{Reason: string(fault.OutOfOrder), Message: "out of order"}
				refused = true
				break
			}
			last[id] = sequence
		}
	}
	return refusals, refused
}

func sequences(run *sequencerv1.ProducerRun) (out []uint64) {
	for i := 0; i+1 < len(run.GetSequenceRuns()); i += 2 {
		for n := range run.GetSequenceRuns()[i+1] {
			out = append(out, run.GetSequenceRuns()[i]+n)
		}
	}
	return out
}

// stored gives copies of the records of a lane.
func (m *memorySequencer) stored(id uint64, partition uint32) []record.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lanes[lane.ID{Stream: lane.StreamID(id), Partition: lane.Partition(partition)}]
	if l == nil {
		return nil
	}
	return append([]record.Record(nil), l.records...)
}
