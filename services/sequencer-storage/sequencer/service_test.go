package sequencer_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// house is a running service and a client of it.
type house struct {
	sequencerv1.SequencerClient
	streams sequencerv1.CatalogueClient
	conn    *grpc.ClientConn
	stop    context.CancelFunc
	ended   chan error
}

// open runs a service over dir with the given bounds.
func open(t testing.TB, cfg sequencer.Config) *house {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	if _, bench := t.(*testing.B); !bench { // many small services, quickly
		cfg.CacheBytes, cfg.LogBufferBytes, cfg.StateBufferBytes = 8<<20, 8<<20, 4<<20
	}
	s, err := sequencer.New(cfg, sequencer.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		l.Close()
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &house{stop: stop, ended: make(chan error, 1)}
	go func() { h.ended <- s.Run(ctx) }() // ends at stop
	if h.conn, err = rpc.Dial(l.Addr().String(), rpc.ClientConfig{}); err != nil {
		t.Fatal(err)
	}
	h.SequencerClient = sequencerv1.NewSequencerClient(h.conn)
	h.streams = sequencerv1.NewCatalogueClient(h.conn)
	t.Cleanup(func() { h.close(t) })
	return h
}

// close stops the service and wants a clean end. Repeating it does nothing.
func (h *house) close(t testing.TB) {
	t.Helper()
	if h.stop == nil {
		return
	}
	h.conn.Close()
	h.stop()
	h.stop = nil
	if err := <-h.ended; err != nil {
		t.Errorf("the service ended with %v", err)
	}
}

func (h *house) create(t testing.TB, spec *streamv1.StreamSpec) *streamv1.Stream {
	t.Helper()
	r, err := h.streams.CreateStream(t.Context(), &sequencerv1.CreateStreamRequest{Spec: spec, IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetStream()
}

// row is what tests publish.
type row struct {
	key, value string
	tombstone  bool
}

// draft encodes rows for partition 0.
func draft(s *streamv1.Stream, rows ...row) []byte {
	var b batch.Builder
	for i, r := range rows {
		rec := record.Record{Key: []byte(r.key), TimeMS: int64(1000 + i), Tombstone: r.tombstone}
		if !r.tombstone {
			rec.Value = []byte(r.value)
		}
		b.Add(&rec)
	}
	return b.Build(lane.ID{Stream: lane.StreamID(s.GetId())})
}

// request makes an append without a producer.
func request(s *streamv1.Stream, rows ...row) *sequencerv1.AppendRequest {
	return &sequencerv1.AppendRequest{Stream: s.GetSpec().GetName(), StreamId: s.GetId(), Batch: draft(s, rows...), Runs: []*sequencerv1.ProducerRun{{Count: uint32(len(rows))}}}
}

func (h *house) append(t testing.TB, s *streamv1.Stream, rows ...row) uint64 {
	t.Helper()
	r, err := h.Append(t.Context(), request(s, rows...))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.GetRefusals()) > 0 {
		t.Fatalf("refused: %v", r.GetRefusals())
	}
	return r.GetFirstSequence()
}

// read gives the records of [from, until).
func (h *house) read(t testing.TB, s *streamv1.Stream, from, until uint64) ([]record.Record, error) {
	t.Helper()
	stream, err := h.Read(t.Context(), &sequencerv1.ReadRequest{StreamId: s.GetId(), From: from, Until: until})
	if err != nil {
		return nil, err
	}
	var records []record.Record
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		if err := batch.Walk(m.GetBatch(), nil, func(r *record.Record) error { records = append(records, r.Clone()); return nil }); err != nil {
			return records, err
		}
	}
}

// readState gives the rows at the tail by key and their digest, after proving one by the other.
func (h *house) readState(t testing.TB, s *streamv1.Stream) (map[string]string, *streamv1.DigestMark) {
	t.Helper()
	at := h.lane(t, s)
	m, id, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{StreamId: s.GetId(), AtLeast: &streamv1.Position{Epoch: at.GetEpoch(), Sequence: at.GetTail()}})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := held(t, h.artefact(t, m, id))
	return rows, &streamv1.DigestMark{Epoch: uint64(m.At.Epoch), Sequence: uint64(m.At.Sequence), Sum: m.Set.Sum.Append(nil), Count: m.Set.Count}
}

func (h *house) lane(t testing.TB, s *streamv1.Stream) *streamv1.Lane {
	t.Helper()
	r, err := h.Tails(t.Context(), &sequencerv1.TailsRequest{Lanes: []*sequencerv1.LaneRef{{StreamId: s.GetId()}}})
	if err != nil || len(r.GetLanes()) != 1 {
		t.Fatalf("tails: %v %v", r, err)
	}
	return r.GetLanes()[0].GetLane()
}

// eventually wants ok within ten seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func reason(t testing.TB, err error, want fault.Reason) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want reason %s", err, want)
	}
}

func TestAppendAndStateAcrossRestart(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir})
	s := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true})
	if got := h.append(t, s, row{key: "a", value: "1"}, row{key: "b", value: "2"}, row{key: "a", value: "3"}); got != 1 {
		t.Fatalf("first sequence %d", got)
	}
	if got := h.append(t, s, row{key: "b", tombstone: true}, row{key: "c", value: "4"}); got != 4 {
		t.Fatalf("second append at %d", got)
	}
	check := func(h *house) {
		t.Helper()
		records, err := h.read(t, s, 2, 0)
		if err != nil || len(records) != 5 || records[0].Sequence != 1 { // 2 lies inside the first batch, which comes whole
			t.Fatalf("read %d records, %v", len(records), err)
		}
		rows, mark := h.readState(t, s)
		if len(rows) != 2 || rows["a"] != "3" || rows["c"] != "4" || mark.GetSequence() != 5 {
			t.Fatalf("state %v at %v", rows, mark)
		}
	}
	check(h)
	h.close(t)
	h = open(t, sequencer.Config{Dir: dir})
	check(h)
	if got := h.append(t, s, row{key: "d", value: "5"}); got != 6 {
		t.Fatalf("after the restart sequence %d", got)
	}
	h.close(t)
	report, err := sequencer.Check(t.Context(), dir)
	if err != nil || len(report.Problems) > 0 || report.Records != 6 || report.Replayed != 1 || report.Tombstones != 1 {
		t.Fatalf("check: %+v %v", report, err)
	}
}
