package gateway_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/lanetest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/snaptest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

const streamID = 7

// store speaks sequencer-storage's contract over one lane in memory.
type store struct {
	sequencerv1.UnimplementedSequencerServer
	sequencerv1.UnimplementedCatalogueServer
	lane  *lanetest.Lane
	snaps *snaptest.Storage

	mu      sync.Mutex
	lookups int
}

func (s *store) stream() *streamv1.Stream {
	at := s.lane.Standing()
	return &streamv1.Stream{
		Spec: &streamv1.StreamSpec{Name: "orders", Partitions: 1, Keyed: true}, Id: streamID, DigestSeed: 42,
		Lanes: []*streamv1.Lane{{Epoch: uint64(at.Epoch), Head: uint64(at.Head), Tail: uint64(at.Tail), Digest: at.Digest}},
	}
}

func (s *store) GetStream(_ context.Context, in *sequencerv1.GetStreamRequest) (*sequencerv1.GetStreamResponse, error) {
	s.mu.Lock()
	s.lookups++
	s.mu.Unlock()
	if in.GetName() != "orders" {
		return nil, fault.New(fault.UnknownStream, "stream %q not found; did you mean \"orders\"?", in.GetName())
	}
	return &sequencerv1.GetStreamResponse{Stream: s.stream()}, nil
}

func (s *store) Tails(ctx context.Context, in *sequencerv1.TailsRequest) (*sequencerv1.TailsResponse, error) {
	ids := make([]lane.ID, len(in.GetLanes()))
	for i, l := range in.GetLanes() {
		ids[i] = lane.ID{Stream: lane.StreamID(l.GetStreamId()), Partition: lane.Partition(l.GetPartition())}
	}
	standings, err := s.lane.Tails(ctx, ids)
	out := &sequencerv1.TailsResponse{}
	for _, at := range standings {
		out.Lanes = append(out.Lanes, &sequencerv1.LaneTail{StreamId: uint64(at.Lane.Stream), Stream: string(at.Stream), Lane: &streamv1.Lane{
			Partition: uint32(at.Lane.Partition), Epoch: uint64(at.Epoch), Head: uint64(at.Head), Tail: uint64(at.Tail), Digest: at.Digest,
		}})
	}
	return out, err
}

func (s *store) Read(in *sequencerv1.ReadRequest, out grpc.ServerStreamingServer[sequencerv1.ReadResponse]) error {
	batches, broken, err := s.lane.Select(lane.Epoch(in.GetEpoch()), lane.Sequence(in.GetFrom()), lane.Sequence(in.GetUntil()), in.GetMaxBytes())
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := out.Send(&sequencerv1.ReadResponse{Batch: b.Data, Tail: uint64(s.lane.Standing().Tail)}); err != nil {
			return err
		}
	}
	if broken {
		return fault.New(fault.Unavailable, "storage went away during the read")
	}
	return nil
}

func (s *store) OpenSnapshot(in *sequencerv1.OpenSnapshotRequest, out grpc.ServerStreamingServer[sequencerv1.OpenSnapshotResponse]) error {
	w := storage.Wanted{Stream: lane.StreamName(in.GetStream()), Lane: lane.ID{Stream: lane.StreamID(in.GetStreamId()), Partition: lane.Partition(in.GetPartition())},
		AtLeast: lane.Position{Epoch: lane.Epoch(in.GetAtLeast().GetEpoch()), Sequence: lane.Sequence(in.GetAtLeast().GetSequence())}}
	w.ID, _ = snapshot.ParseID(in.GetId())
	encoded, id, err := s.snaps.OpenSnapshot(out.Context(), w, func(rows, expected uint64) {
		_ = out.Send(&sequencerv1.OpenSnapshotResponse{Part: &sequencerv1.OpenSnapshotResponse_Progress{Progress: &sequencerv1.SnapshotProgress{Rows: rows, Expected: expected}}})
	})
	if err != nil {
		return err
	}
	return out.Send(&sequencerv1.OpenSnapshotResponse{Part: &sequencerv1.OpenSnapshotResponse_Manifest{Manifest: &sequencerv1.SnapshotManifest{Id: id[:], Manifest: encoded}}})
}

func (s *store) ReadSnapshot(in *sequencerv1.ReadSnapshotRequest, out grpc.ServerStreamingServer[sequencerv1.ReadSnapshotResponse]) error {
	id, _ := snapshot.ParseID(in.GetId())
	return s.snaps.ReadSnapshot(out.Context(), id, in.GetOffset(), in.GetBytes(), func(piece []byte) error {
		return out.Send(&sequencerv1.ReadSnapshotResponse{Data: piece})
	})
}

// keeper speaks consumer-state's contract in memory, with its rule: an incarnation below the newest is fenced.
type keeper struct {
	consumerv1.UnimplementedConsumerStateServer

	mu           sync.Mutex
	incarnations map[string]uint64
	cursors      map[string]uint64
	checkpoints  int
	detached     []uint64
	health       *consumerv1.Health
	tails        []*consumerv1.Cursor
	down         bool
	commands     []*consumerv1.WatchResetsResponse
	watches      map[chan *consumerv1.WatchResetsResponse]string // and the gateway each is of
}

// WatchResets sends what is open, then what comes.
func (k *keeper) WatchResets(in *consumerv1.WatchResetsRequest, out grpc.ServerStreamingServer[consumerv1.WatchResetsResponse]) error {
	news := make(chan *consumerv1.WatchResetsResponse, 16)
	var open []*consumerv1.WatchResetsResponse
	k.locked(func() {
		open = slices.Clone(k.commands)
		if k.watches == nil {
			k.watches = make(map[chan *consumerv1.WatchResetsResponse]string)
		}
		k.watches[news] = in.GetGateway()
	})
	defer k.locked(func() { delete(k.watches, news) })
	for _, c := range open {
		if err := out.Send(c); err != nil {
			return err
		}
	}
	for {
		select {
		case c := <-news:
			if c == nil {
				return fault.New(fault.Unavailable, "consumer-state went away")
			}
			if err := out.Send(c); err != nil {
				return err
			}
		case <-out.Context().Done():
			return out.Context().Err()
		}
	}
}

// issue tells a command to every gateway that watches; nil breaks the watches.
func (k *keeper) issue(c *consumerv1.WatchResetsResponse) {
	k.locked(func() {
		if c != nil {
			k.commands = append(k.commands, c)
		}
		for w := range k.watches {
			w <- c
		}
	})
}

// watched waits until a gateway watches.
func (k *keeper) watched(t testing.TB) {
	t.Helper()
	eventually(t, "the gateway watches", func() (ok bool) {
		k.locked(func() { ok = len(k.watches) == 1 })
		return ok
	})
}

func (k *keeper) Attach(_ context.Context, in *consumerv1.AttachRequest) (*consumerv1.AttachResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.incarnations[in.GetConsumerId()]++
	return &consumerv1.AttachResponse{Incarnation: k.incarnations[in.GetConsumerId()], Cursors: k.kept(in.GetConsumerId())}, nil
}

func (k *keeper) kept(id string) []*consumerv1.Cursor {
	return []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: k.cursors[id]}}}
}

func (k *keeper) check(id string, incarnation uint64) error {
	if k.down {
		return fault.New(fault.Unavailable, "consumer-state is down")
	}
	if k.incarnations[id] != incarnation {
		return fault.New(fault.ConsumerFenced, "incarnation %d is live", k.incarnations[id])
	}
	return nil
}

func (k *keeper) Checkpoint(_ context.Context, in *consumerv1.CheckpointRequest) (*consumerv1.CheckpointResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.check(in.GetConsumerId(), in.GetIncarnation()); err != nil {
		return nil, err
	}
	k.checkpoints++
	for _, c := range in.GetCursors() {
		k.cursors[in.GetConsumerId()] = max(k.cursors[in.GetConsumerId()], c.GetPosition().GetSequence())
	}
	k.tails = in.GetTails()
	return &consumerv1.CheckpointResponse{Cursors: k.kept(in.GetConsumerId())}, nil
}

func (k *keeper) Report(_ context.Context, in *consumerv1.ReportRequest) (*consumerv1.ReportResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.check(in.GetConsumerId(), in.GetIncarnation()); err != nil {
		return nil, err
	}
	k.health = in.GetHealth()
	return &consumerv1.ReportResponse{}, nil
}

func (k *keeper) Detach(_ context.Context, in *consumerv1.DetachRequest) (*consumerv1.DetachResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.detached = append(k.detached, in.GetIncarnation())
	return &consumerv1.DetachResponse{}, nil
}

func (k *keeper) locked(fn func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fn()
}

// house is a gateway among real gRPC neighbours and, if asked, a real NATS server.
type house struct {
	t       testing.TB
	store   *store
	keeper  *keeper
	gateway *gateway.Service
	bus     *notify.Bus
	nats    *server.Server
	stop    func()
}

func serve(t testing.TB, register func(*grpc.Server)) *grpc.ClientConn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := rpc.NewServer(rpc.ServerConfig{}, quiet, prometheus.NewRegistry())
	register(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rpc.Serve(ctx, s, l, 0) }()
	cc, err := rpc.Dial(l.Addr().String(), rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close(); cancel(); <-done })
	return cc
}

type option func(*gateway.Config, *house)

func withNATS(_ *gateway.Config, h *house) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		h.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		h.t.Fatal("the embedded NATS server did not start")
	}
	h.nats = s
	h.t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if h.bus, err = notify.Connect(notify.Config{InProcess: s, Name: "test"}, quiet); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.bus.Close)
}

func newHouse(t testing.TB, options ...option) *house {
	t.Helper()
	h := &house{
		t:      t,
		store:  &store{lane: lanetest.New(lane.ID{Stream: streamID}, "orders"), snaps: snaptest.New()},
		keeper: &keeper{incarnations: map[string]uint64{}, cursors: map[string]uint64{}},
	}
	cfg := gateway.Config{SnapshotDir: t.TempDir(), PollInterval: 20 * time.Millisecond, TouchInterval: 50 * time.Millisecond, DrainTimeout: time.Second, DrainSpread: time.Millisecond}
	var err error
	if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if cfg.WebSocketListener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		o(&cfg, h)
	}
	storage := serve(t, func(s *grpc.Server) {
		sequencerv1.RegisterSequencerServer(s, h.store)
		sequencerv1.RegisterCatalogueServer(s, h.store)
	})
	consumers := serve(t, func(s *grpc.Server) { consumerv1.RegisterConsumerStateServer(s, h.keeper) })
	h.gateway, err = gateway.New(cfg, gateway.Deps{Log: quiet, Metrics: prometheus.NewRegistry(), Storage: storage, Consumers: consumers, Bus: h.bus})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.gateway.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// hint says over NATS where the lane stands.
func (h *house) hint(inline []byte) {
	at := h.store.lane.Standing()
	_ = h.bus.Publish(&notifyv1.Notification{Stream: "orders", StreamId: streamID, Epoch: uint64(at.Epoch), Head: uint64(at.Head), Tail: uint64(at.Tail), Digest: at.Digest, Batch: inline})
}

func (h *house) address() string { return "tcp://" + h.gateway.Address().String() }

// metadata is the composite metadata of a request to a route.
func metadata(route string) []byte {
	n := len(route) + 1
	return append([]byte{0xFE, 0, byte(n >> 8), byte(n), byte(len(route))}, route...)
}

func message(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func setup(t testing.TB, hello *deliveryv1.Hello, token string) rsocket.ClientConfig {
	cfg := rsocket.ClientConfig{MetadataMIME: protocol.MetadataMIME, DataMIME: protocol.DataMIME, Setup: rsocket.Payload{Data: message(t, hello)}}
	if token != "" {
		n := len(token) + 1
		cfg.Setup.Metadata = append([]byte{0xFC, 0, byte(n >> 8), byte(n), 0x81}, token...)
	}
	return cfg
}

var current = &deliveryv1.Hello{Major: protocol.Current.Major, Minor: protocol.Current.Minor, Client: "test"}

func (h *house) dial() *rsocket.Conn {
	h.t.Helper()
	c, err := rsocket.Dial(h.t.Context(), h.address(), setup(h.t, current, ""))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close(); <-c.Done() })
	return c
}

// ask makes a request-response; the error is the fault the gateway answered.
func ask(t testing.TB, c *rsocket.Conn, route string, in, out proto.Message) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p, err := c.RequestResponse(ctx, rsocket.Payload{Metadata: metadata(route), Data: message(t, in)})
	if err != nil {
		return restored(err)
	}
	return proto.Unmarshal(p.Data, out)
}

func restored(err error) error {
	var e *rsocket.Error
	if errors.As(err, &e) {
		return fault.Parse(e.Data)
	}
	return err
}

// reading is a consumer of one stream of answers that checks the order of what it gets.
type reading struct {
	t      testing.TB
	in     *rsocket.Inbound
	cursor lane.Sequence
	began  bool
	last   *deliveryv1.Delivery
}

func open(t testing.TB, c *rsocket.Conn, route string, in proto.Message, credit uint32) *reading {
	t.Helper()
	s, err := c.RequestStream(t.Context(), rsocket.Payload{Metadata: metadata(route), Data: message(t, in)}, credit)
	if err != nil {
		t.Fatal(err)
	}
	return &reading{t: t, in: s}
}

func subscribe(t testing.TB, c *rsocket.Conn, after lane.Sequence, credit uint32) *reading {
	t.Helper()
	r := open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", After: &streamv1.Position{Epoch: 1, Sequence: uint64(after)}}, credit)
	r.cursor = after
	return r
}

// next receives one delivery, giving its credit back.
func (r *reading) next() (*deliveryv1.Delivery, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	p, err := r.in.Recv(ctx)
	if err != nil {
		return nil, nil, restored(err)
	}
	_ = r.in.Request(1) // fails only when the stream is over, which the next Recv tells
	d := new(deliveryv1.Delivery)
	if err := proto.Unmarshal(p.Metadata, d); err != nil {
		return nil, nil, err
	}
	if d.GetKind() == deliveryv1.Delivery_KIND_BATCH {
		h, err := batch.ParseHeader(p.Data)
		if err != nil {
			return nil, nil, err
		}
		first := lane.Sequence(d.GetFirst())
		if h.Base != first || uint64(h.Last()) != d.GetLast() || first > r.cursor+1 || r.began && first != r.cursor+1 || h.Last() <= r.cursor {
			r.t.Fatalf("after %d came [%d, %d], in the frame [%d, %d]", r.cursor, h.Base, h.Last(), d.GetFirst(), d.GetLast())
		}
		r.cursor, r.began = h.Last(), true
	}
	r.last = d
	return d, p.Data, nil
}

// until receives up to and including the record tail.
func (r *reading) until(tail lane.Sequence) {
	r.t.Helper()
	for r.cursor < tail {
		if _, _, err := r.next(); err != nil {
			r.t.Fatalf("at %d, waiting for %d: %v", r.cursor, tail, err)
		}
	}
}

// ends receives until the stream is over and says why; nil for its regular end.
func (r *reading) ends() error {
	r.t.Helper()
	for {
		if _, _, err := r.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// eventually waits for something another process-like part does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func (k *keeper) has(id string, cursor uint64) func() bool {
	return func() (ok bool) {
		k.locked(func() { ok = k.cursors[id] == cursor })
		return ok
	}
}

func (k *keeper) left(incarnation uint64) func() bool {
	return func() (ok bool) {
		k.locked(func() { ok = slices.Contains(k.detached, incarnation) })
		return ok
	}
}
