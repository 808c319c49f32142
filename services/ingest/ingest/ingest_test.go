package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = slog.New(slog.DiscardHandler)

// house is a running ingest in front of a memorySequencer.
type house struct {
	sequencer *memorySequencer
	ingest    ingestv1.IngestClient
	streams   ingestv1.StreamsClient
	url       string
	// stop asks the service to end; stopped gives Run's error.
	stop    context.CancelFunc
	stopped <-chan error
}

func open(t testing.TB, cfg ingest.Config) *house {
	m := newMemorySequencer()
	return openBefore(t, cfg, m, m.serve(t))
}

func openBefore(t testing.TB, cfg ingest.Config, m *memorySequencer, sequencer *grpc.ClientConn) *house {
	var err error
	if cfg.GRPCListener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if cfg.HTTPListener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if cfg.Grace == 0 {
		cfg.Grace = time.Second
	}
	s, err := ingest.New(cfg, ingest.Deps{Log: discard, Sequencer: sequencer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { defer close(done); done <- s.Run(ctx) }()
	conn, err := rpc.Dial(cfg.GRPCListener.Addr().String(), rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err, open := <-done; open && err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &house{m, ingestv1.NewIngestClient(conn), ingestv1.NewStreamsClient(conn), "http://" + cfg.HTTPListener.Addr().String(), cancel, done}
}

func records(from, n int) []*ingestv1.Record {
	out := make([]*ingestv1.Record, n)
	for i := range out {
		out[i] = &ingestv1.Record{Key: fmt.Sprintf("k%d", (from+i)%17), Value: []byte(fmt.Sprintf("v%d", from+i))}
	}
	return out
}

func packedBody(records []*ingestv1.Record) []byte {
	var body []byte
	var previous int64
	for _, r := range records {
		h, _ := record.NewHeaders(r.GetHeaders())
		rec := record.Record{Key: []byte(r.GetKey()), Value: r.GetValue(), TimeMS: r.GetTimeMs(), Headers: h, Tombstone: r.GetTombstone()}
		body = record.Append(body, &rec, previous)
		previous = rec.TimeMS
	}
	return body
}

func values(records []record.Record) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = string(r.Value)
	}
	return out
}

func wantValues(t *testing.T, got []record.Record, from, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("stored %d records, want %d", len(got), n)
	}
	for i, v := range values(got) {
		if v != fmt.Sprintf("v%d", from+i) {
			t.Fatalf("record %d is %q, want v%d", i, v, from+i)
		}
	}
}

func TestPublishAnswersSequences(t *testing.T) {
	h := open(t, ingest.Config{})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	for i, request := range []*ingestv1.PublishRequest{
		{Stream: "orders", Records: records(0, 10)},
		{Stream: "orders", Packed: packedBody(records(10, 10)), PackedCount: 10},
	} {
		answer, err := h.ingest.Publish(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if o := answer.GetOutcomes(); len(o) != 1 || o[0].GetCount() != 10 || o[0].GetFirstSequence() != uint64(10*i+1) || o[0].GetEpoch() != 1 {
			t.Fatalf("outcomes %v", o)
		}
	}
	got := h.sequencer.stored(s.GetId(), 0)
	wantValues(t, got, 0, 20)
	if got[0].TimeMS == 0 {
		t.Error("a record without a time was stored without one")
	}
}

func TestRecordsOfOneKeyShareALane(t *testing.T) {
	h := open(t, ingest.Config{})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true, Partitions: 5})
	const n = 400
	answer, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: "orders", Records: records(0, n)})
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, o := range answer.GetOutcomes() {
		for j := range o.GetCount() {
			key := fmt.Sprintf("k%d", at%17)
			if want := lane.Of([]byte(key), 5); lane.Partition(o.GetPartition()) != want {
				t.Fatalf("record %d went to partition %d, want %d", at, o.GetPartition(), want)
			}
			stored := h.sequencer.stored(s.GetId(), o.GetPartition())[o.GetFirstSequence()+uint64(j)-1]
			if string(stored.Value) != fmt.Sprintf("v%d", at) {
				t.Fatalf("record %d was answered with the sequence of %q", at, stored.Value)
			}
			at++
		}
	}
	if at != n {
		t.Fatalf("outcomes for %d of %d records", at, n)
	}
}

func TestBadRecordsAreRefusedAloneAndNumberedAsSent(t *testing.T) {
	h := open(t, ingest.Config{})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true, MaxValueBytes: 8, JsonSchema: `{"type":"integer"}`})
	epoch, err := h.ingest.OpenProducer(t.Context(), &ingestv1.OpenProducerRequest{ProducerId: "p"})
	if err != nil {
		t.Fatal(err)
	}
	request := &ingestv1.PublishRequest{
		Stream: "orders", ProducerId: "p", ProducerEpoch: epoch.GetProducerEpoch(), FirstProducerSequence: 1,
		Records: []*ingestv1.Record{
			{Key: "a", Value: []byte("1")},
			{Key: "", Value: []byte("2")},
			{Key: "b", Value: []byte("123456789")},
			{Key: "c", Value: []byte(`"3"`)},
			{Key: "d", Value: []byte("{")},
			{Key: "e", Tombstone: true},
			{Key: "f", Value: []byte("4"), Headers: map[string]string{"": "x"}},
			{Key: "g\x00", Value: []byte("5")},
			{Key: "h", Value: []byte("6")},
		},
	}
	want := []string{"1", "key_missing", "record_too_large", "schema_mismatch", "schema_mismatch", "2", "invalid_argument", "invalid_argument", "3"}
	for round := range 2 {
		answer, err := h.ingest.Publish(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range answer.GetOutcomes() {
			for j := range o.GetCount() {
				if o.GetFault() != nil {
					got = append(got, o.GetFault().GetReason())
					continue
				}
				got = append(got, fmt.Sprint(o.GetFirstSequence()+uint64(j)))
				if o.GetDuplicate() != (round == 1) {
					t.Errorf("round %d: duplicate is %v", round, o.GetDuplicate())
				}
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("round %d: outcomes %v, want %v", round, got, want)
		}
	}
	if n := len(h.sequencer.stored(s.GetId(), 0)); n != 3 {
		t.Fatalf("stored %d records, want 3", n)
	}
}

func TestUnknownStreamNamesWhatExists(t *testing.T) {
	h := open(t, ingest.Config{})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	h.sequencer.create(&streamv1.StreamSpec{Name: "prices", Keyed: true})
	for name, want := range map[string]string{"order": `did you mean "orders"?`, "PRICES": `did you mean "prices"?`, "zzz": "stream create"} {
		_, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: name, Records: records(0, 1)})
		if !errors.Is(err, fault.UnknownStream) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: "no/such", Records: records(0, 1)}); !errors.Is(err, fault.InvalidName) {
		t.Errorf("bad name: %v", err)
	}
}

func TestStreamMadeAgainIsFound(t *testing.T) {
	h := open(t, ingest.Config{})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	publish := func() error {
		answer, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: "orders", Records: records(0, 1)})
		if err == nil {
			err = faultstatus.Fault(answer.GetOutcomes()[0].GetFault())
		}
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	again := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true}) // behind ingest's back
	if err := publish(); !errors.Is(err, fault.UnknownStream) {
		t.Fatalf("the stream's old id was taken: %v", err)
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	if n := len(h.sequencer.stored(again.GetId(), 0)); n != 1 {
		t.Fatalf("stored %d records in the new stream, want 1", n)
	}
}

func TestMalformedRequestsAreRefusedWhole(t *testing.T) {
	h := open(t, ingest.Config{})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	body := packedBody(records(0, 3))
	for name, c := range map[string]struct {
		request *ingestv1.PublishRequest
		want    fault.Reason
	}{
		"count too low":     {&ingestv1.PublishRequest{Packed: body, PackedCount: 2}, fault.Malformed},
		"count too high":    {&ingestv1.PublishRequest{Packed: body, PackedCount: 4}, fault.Malformed},
		"cut":               {&ingestv1.PublishRequest{Packed: body[:len(body)-1], PackedCount: 3}, fault.Malformed},
		"both":              {&ingestv1.PublishRequest{Packed: body, PackedCount: 3, Records: records(0, 1)}, fault.InvalidArgument},
		"no epoch":          {&ingestv1.PublishRequest{ProducerId: "p", FirstProducerSequence: 1, Records: records(0, 1)}, fault.InvalidArgument},
		"no sequence":       {&ingestv1.PublishRequest{ProducerId: "p", ProducerEpoch: 1, Records: records(0, 1)}, fault.InvalidArgument},
		"bad producer":      {&ingestv1.PublishRequest{ProducerId: "p/q", ProducerEpoch: 1, FirstProducerSequence: 1, Records: records(0, 1)}, fault.InvalidName},
		"sequence overflow": {&ingestv1.PublishRequest{ProducerId: "p", ProducerEpoch: 1, FirstProducerSequence: ^uint64(0), Records: records(0, 2)}, fault.InvalidArgument},
	} {
		c.request.Stream = "orders"
		if _, err := h.ingest.Publish(t.Context(), c.request); fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if n := len(h.sequencer.stored(s.GetId(), 0)); n != 0 {
		t.Errorf("stored %d records of refused requests", n)
	}
}

// publishAll pipelines requests and gives the responses.
func publishAll(t *testing.T, c ingestv1.IngestClient, requests []*ingestv1.PublishRequest) ([]*ingestv1.PublishResponse, error) {
	t.Helper()
	call, err := c.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		for _, r := range requests {
			if call.Send(r) != nil {
				return
			}
		}
		_ = call.CloseSend()
	})
	defer sender.Wait()
	var answers []*ingestv1.PublishResponse
	for {
		a, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return answers, err
		}
		answers = append(answers, a)
	}
}

func numbered(requests, size int, producer string, epoch uint64) []*ingestv1.PublishRequest {
	out := make([]*ingestv1.PublishRequest, requests)
	for i := range out {
		out[i] = &ingestv1.PublishRequest{
			Stream: "orders", ProducerId: producer, ProducerEpoch: epoch, FirstProducerSequence: uint64(i*size + 1), Records: records(i*size, size),
		}
	}
	return out
}

func TestStreamKeepsOrderAndGathers(t *testing.T) {
	h := open(t, ingest.Config{BatchRecords: 100})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	const requests, size = 300, 7
	answers, err := publishAll(t, h.ingest, numbered(requests, size, "", 0)) // not idempotent
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != requests {
		t.Fatalf("%d answers to %d requests", len(answers), requests)
	}
	wantValues(t, h.sequencer.stored(s.GetId(), 0), 0, requests*size)
	next := uint64(1)
	for i, a := range answers {
		for _, o := range a.GetOutcomes() {
			if o.GetFirstSequence() != next {
				t.Fatalf("answer %d begins at %d, want %d", i, o.GetFirstSequence(), next)
			}
			next += uint64(o.GetCount())
		}
	}
}

func TestUnknownOutcomeEndsTheCallAndTheRetryIsWhole(t *testing.T) {
	h := open(t, ingest.Config{BatchRecords: 50})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	h.sequencer.after = func(n int) error { // stored, but the answer is lost
		if n == 3 {
			return fault.New(fault.UnknownOutcome, "fsync failed")
		}
		return nil
	}
	opened, err := h.ingest.OpenProducer(t.Context(), &ingestv1.OpenProducerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	const count, size = 100, 10
	requests := numbered(count, size, opened.GetProducerId(), opened.GetProducerEpoch())
	answers, err := publishAll(t, h.ingest, requests)
	if !errors.Is(err, fault.Unavailable) {
		t.Fatalf("the call ended with %v, want unavailable", err)
	}
	good, failed := 0, false
	for _, a := range answers {
		for _, o := range a.GetOutcomes() {
			switch {
			case o.GetFault() != nil:
				failed = true
			case failed:
				t.Fatal("a record behind a failed one was stored and answered")
			default:
				good += int(o.GetCount())
			}
		}
	}
	if !failed || good == 0 {
		t.Fatalf("%d good, failed %v", good, failed)
	}
	answers, err = publishAll(t, h.ingest, requests[good/size:]) // again from the first unanswered request on
	if err != nil {
		t.Fatal(err)
	}
	duplicates := 0
	for _, a := range answers {
		for _, o := range a.GetOutcomes() {
			if o.GetFault() != nil {
				t.Fatalf("retry: %v", o.GetFault())
			}
			if o.GetDuplicate() {
				duplicates += int(o.GetCount())
			}
		}
	}
	if duplicates == 0 {
		t.Error("no record was recognised as a repeat, though one append was stored without an answer")
	}
	wantValues(t, h.sequencer.stored(s.GetId(), 0), 0, count*size)
}

func TestRefusedRunsDoNotHoldUpOthers(t *testing.T) {
	h := open(t, ingest.Config{})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	// The first append is held until the others wait, so that they share a batch.
	release, arrived := make(chan struct{}), make(chan struct{})
	h.sequencer.before = func(n int, _ *sequencerv1.AppendRequest) error {
		if n == 1 {
			close(arrived)
			<-release
		}
		return nil
	}
	for _, id := range []string{"old", "old", "new"} {
		if _, err := h.ingest.OpenProducer(t.Context(), &ingestv1.OpenProducerRequest{ProducerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	requests := []*ingestv1.PublishRequest{
		{Stream: "orders", ProducerId: "new", ProducerEpoch: 1, FirstProducerSequence: 1, Records: records(0, 3)},
		{Stream: "orders", ProducerId: "old", ProducerEpoch: 1, FirstProducerSequence: 1, Records: records(100, 3)}, // fenced
		{Stream: "orders", ProducerId: "new", ProducerEpoch: 1, FirstProducerSequence: 2, Records: records(1, 4)},   // two repeats, two new
		{Stream: "orders", Records: records(5, 2)}, // not idempotent
	}
	call, err := h.ingest.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range requests {
		if err := call.Send(r); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-arrived
		}
	}
	close(release)
	want := []string{
		"3@1 ", "3 producer_fenced", "2@2 again 2@4 ", "2@6 ",
	}
	for i := range requests {
		a, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, o := range a.GetOutcomes() {
			switch {
			case o.GetFault() != nil:
				fmt.Fprintf(&got, "%d %s", o.GetCount(), o.GetFault().GetReason())
			case o.GetDuplicate():
				fmt.Fprintf(&got, "%d@%d again ", o.GetCount(), o.GetFirstSequence())
			default:
				fmt.Fprintf(&got, "%d@%d ", o.GetCount(), o.GetFirstSequence())
			}
		}
		if got.String() != want[i] {
			t.Errorf("request %d: %q, want %q", i, got.String(), want[i])
		}
	}
	_ = call.CloseSend()
	if _, err := call.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the call ended with %v", err)
	}
	wantValues(t, h.sequencer.stored(s.GetId(), 0), 0, 7)
}

func TestOverloadIsAnsweredAndEnds(t *testing.T) {
	h := open(t, ingest.Config{LaneBytes: 64 << 10, TotalBytes: 64 << 10, OverloadWait: 20 * time.Millisecond})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	release := make(chan struct{})
	arrived := make(chan struct{}, 16)
	h.sequencer.before = func(int, *sequencerv1.AppendRequest) error {
		arrived <- struct{}{}
		<-release
		return nil
	}
	big := func() *ingestv1.PublishRequest {
		return &ingestv1.PublishRequest{Stream: "orders", Records: []*ingestv1.Record{{Key: "a", Value: make([]byte, 60<<10)}}}
	}
	first := make(chan error, 1)
	go func() {
		_, err := h.ingest.Publish(t.Context(), big())
		first <- err
	}()
	<-arrived
	_, err := h.ingest.Publish(t.Context(), big())
	if !errors.Is(err, fault.Overloaded) || fault.Of(err).Detail("retry_after_ms") == "" {
		t.Fatalf("second request: %v, want overloaded with retry_after_ms", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if _, err := h.ingest.Publish(t.Context(), big()); err != nil {
		t.Fatalf("after the overload: %v", err)
	}
}

func TestSequencerBehindIsBackPressureNotFailure(t *testing.T) {
	h := open(t, ingest.Config{})
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	h.sequencer.before = func(n int, _ *sequencerv1.AppendRequest) error {
		if n <= 3 {
			return fault.New(fault.Overloaded, "behind")
		}
		return nil
	}
	if _, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: "orders", Records: records(0, 5)}); err != nil {
		t.Fatal(err)
	}
	wantValues(t, h.sequencer.stored(s.GetId(), 0), 0, 5)
}

func TestSequencerGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	conn, err := rpc.Dial(address, rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h := openBefore(t, ingest.Config{}, newMemorySequencer(), conn)
	if _, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: "orders", Records: records(0, 1)}); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("without a sequencer: %v, want unavailable", err)
	}
}

func TestConnectionLostInFlightIsUnknown(t *testing.T) {
	m := newMemorySequencer()
	m.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cut := &cuttable{Listener: l}
	h := openBefore(t, ingest.Config{}, m, m.serveOn(t, cut))
	held := make(chan struct{})
	m.before = func(int, *sequencerv1.AppendRequest) error {
		cut.cut()
		<-held
		return nil
	}
	defer close(held)
	answer, err := h.ingest.Publish(t.Context(), &ingestv1.PublishRequest{Stream: "orders", Records: records(0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetOutcomes()[0].GetFault().GetReason(); got != string(fault.UnknownOutcome) {
		t.Fatalf("outcome %v, want unknown_outcome", answer.GetOutcomes()[0])
	}
}

// cuttable closes the connections it accepted.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuttable) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
	return conn, err
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		if conn != nil {
			conn.Close()
		}
	}
}

func TestStopAnswersOpenCallsAndDoesNotWaitForThem(t *testing.T) {
	h := open(t, ingest.Config{Grace: 10 * time.Minute}) // longer than the test may take
	s := h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	call, err := h.ingest.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	h.sequencer.before = func(int, *sequencerv1.AppendRequest) error {
		close(arrived)
		h.stop()
		return nil
	}
	if err := call.Send(&ingestv1.PublishRequest{Stream: "orders", Records: records(0, 5)}); err != nil {
		t.Fatal(err)
	}
	<-arrived
	a, err := call.Recv()
	if err != nil || len(a.GetOutcomes()) != 1 || a.GetOutcomes()[0].GetFirstSequence() != 1 {
		t.Fatalf("what was in flight at the stop was answered with %v, %v", a, err)
	}
	if _, err := call.Recv(); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("the call ended with %v, want unavailable", err)
	}
	if err := <-h.stopped; err != nil {
		t.Fatal(err)
	}
	wantValues(t, h.sequencer.stored(s.GetId(), 0), 0, 5)
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn := newMemorySequencer().serve(t)
	s, err := ingest.New(ingest.Config{GRPCAddress: l.Addr().String()}, ingest.Deps{Log: discard, Sequencer: conn})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, fault.InUse) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatalf("Run: %v", err)
	}
}

func TestCallsAreBounded(t *testing.T) {
	h := open(t, ingest.Config{MaxCalls: 1})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	first, err := h.ingest.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(call ingestv1.Ingest_PublishStreamClient) error {
		_ = call.Send(&ingestv1.PublishRequest{Stream: "orders", Records: records(0, 1)}) // Recv tells why
		_, err := call.Recv()
		return err
	}
	if err := ask(first); err != nil {
		t.Fatal(err)
	}
	second, err := h.ingest.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(second); !errors.Is(err, fault.Overloaded) {
		t.Fatalf("second call: %v, want overloaded", err)
	}
	if err := ask(first); err != nil {
		t.Fatalf("the first call suffered: %v", err)
	}
}
