package consumerstate_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is moved by hand. It begins at 1,000 s.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(1_000_000)
	return c
}
func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// rig is a running service and a client over loopback.
type rig struct {
	consumerv1.ConsumerStateClient
	clock   *clock
	cfg     consumerstate.Config
	metrics *prometheus.Registry
	service *consumerstate.Service
	cc      *grpc.ClientConn
	cancel  context.CancelFunc
	done    chan error
}

type failer interface {
	Helper()
	Fatal(args ...any)
}

func newRig(t *testing.T, change func(*consumerstate.Config)) *rig {
	t.Helper()
	r := &rig{clock: newClock(), cfg: consumerstate.Config{DataDir: t.TempDir()}}
	if change != nil {
		change(&r.cfg)
	}
	r.start(t)
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *rig) start(t failer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Listener = l
	r.metrics = prometheus.NewRegistry()
	r.service, err = consumerstate.New(r.cfg, consumerstate.Deps{Log: slog.New(slog.DiscardHandler), Metrics: r.metrics, Now: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	r.done = make(chan error, 1)
	go func() { r.done <- r.service.Run(ctx) }()
	if r.cc, err = rpc.Dial(r.service.Address(), rpc.ClientConfig{}); err != nil {
		t.Fatal(err)
	}
	r.ConsumerStateClient = consumerv1.NewConsumerStateClient(r.cc)
}

func (r *rig) stop(t failer) {
	t.Helper()
	_ = r.cc.Close()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatal("Run:", err)
	}
}

func (r *rig) restart(t failer) {
	t.Helper()
	r.stop(t)
	r.start(t)
}

const (
	streamName = "orders"
	streamID   = uint64(7)
)

func (r *rig) attach(t failer, id string) *consumerv1.AttachResponse {
	t.Helper()
	answer, err := r.Attach(context.Background(), &consumerv1.AttachRequest{
		Stream: streamName, StreamId: streamID, ConsumerId: id, Kind: consumerv1.ConsumerKind_CONSUMER_KIND_LOG, Client: "test 1", Gateway: "gw-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (r *rig) checkpoint(id string, incarnation uint64, cursors ...*consumerv1.Cursor) ([]*consumerv1.Cursor, error) {
	answer, err := r.Checkpoint(context.Background(), &consumerv1.CheckpointRequest{
		Stream: streamName, StreamId: streamID, ConsumerId: id, Incarnation: incarnation, Cursors: cursors,
	})
	return answer.GetCursors(), err
}

func (r *rig) consumer(t failer, id string) *consumerv1.Consumer {
	t.Helper()
	answer, err := r.ListConsumers(context.Background(), &consumerv1.ListConsumersRequest{Stream: streamName, ConsumerId: id})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.GetConsumers()) != 1 {
		t.Fatal("want one consumer", id, "got", answer.GetConsumers())
	}
	return answer.GetConsumers()[0]
}

// tail tells of partition 0 of the stream and gives what consumers have passed.
func (r *rig) tail(t failer, epoch, tail uint64, timeMs int64) *consumerv1.LaneCursors {
	t.Helper()
	answer, err := r.ExchangeTails(context.Background(), &consumerv1.ExchangeTailsRequest{Lanes: []*consumerv1.LaneTail{
		{Stream: streamName, StreamId: streamID, Epoch: epoch, Head: 1, Tail: tail, TailTimeMs: timeMs},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetLanes()[0]
}

func cursor(partition uint32, epoch, sequence uint64) *consumerv1.Cursor {
	return &consumerv1.Cursor{Partition: partition, Position: &streamv1.Position{Epoch: epoch, Sequence: sequence}}
}
