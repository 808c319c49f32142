package gateway_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/depot"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/snaptest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/supply"
)

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// drain takes what a Source has, as a connection's writer would, until its end.
type drain struct {
	source *supply.Source
	wake   chan struct{}
	bytes  int
}

func (d *drain) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
func (d *drain) Complete()  { d.source.Closed(); d.Wake() }
func (d *drain) Fail(error) { d.source.Closed(); d.Wake() }
func (d *drain) run() {
	for range d.wake {
		for {
			p, signal := d.source.Next()
			d.bytes += len(p.Data)
			if signal == rsocket.Wait {
				break
			}
			if signal == rsocket.EmitAndComplete {
				d.source.Closed()
				return
			}
		}
		if d.source.Context().Err() != nil {
			return
		}
	}
}

// BenchmarkServeBesideBuild: processor time of serving a snapshot of a million rows from the depot, beside that of making it through
// snapshot.Writer (from rows in memory: what the state costs to read is not counted). Once up to where the connection takes over, and once
// over loopback with the consumer's own reading counted too. One iteration is one of each.
func BenchmarkServeBesideBuild(b *testing.B) {
	const rows = 1_000_000
	h := newHouse(b, func(c *gateway.Config, _ *house) { c.ResyncBytesPerSecond = 10 << 30 })
	k := h.keep(rows, rows)
	d, err := depot.New(depot.Config{Dir: b.TempDir()}, h.store.snaps, quiet)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	copy, release, err := d.Open(b.Context(), storage.Wanted{Stream: "orders", Lane: lane.ID{Stream: streamID}, ID: k.ID}, func(uint64, uint64) {})
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	s := snaptest.State{Stream: "orders", Lane: lane.ID{Stream: streamID}, Epoch: 1, Rows: rows, ValueBytes: 190, At: rows}
	conn := h.dial()
	if _, _, err := manifest(b, conn, &deliveryv1.SnapshotRequest{}); err != nil { // pulled before it is measured
		b.Fatal(err)
	}
	var build, serve, loopback []float64
	for b.Loop() {
		build = append(build, float64(buildCPU(b, s, k)))

		began := cpu(b)
		out := &drain{wake: make(chan struct{}, 1)}
		out.source = supply.New(b.Context(), out)
		go out.source.Make(func(ctx context.Context) error {
			for n := range k.Chunks() {
				data, err := copy.Chunk(ctx, n, false)
				if err == nil {
					err = out.source.Offer(rsocket.Payload{Data: data})
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		out.run()
		serve = append(serve, float64(cpu(b)-began))
		if out.bytes != len(k.File) {
			b.Fatalf("%d of %d bytes were served", out.bytes, len(k.File))
		}

		began = cpu(b)
		if got := swallow(b, h.dial(), k); got != len(k.File) {
			b.Fatalf("%d of %d bytes came", got, len(k.File))
		}
		loopback = append(loopback, float64(cpu(b)-began))
	}
	b.ReportMetric(float64(len(k.File))/1e6, "snapshot-MB")
	b.ReportMetric(median(build)/1e6, "build-cpu-ms")
	b.ReportMetric(median(serve)/1e6, "serve-cpu-ms")
	b.ReportMetric(100*median(serve)/median(build), "serve/build-%")
	b.ReportMetric(100*median(loopback)/median(build), "with-sockets-and-consumer/build-%")
}

// buildCPU makes the snapshot from rows that are made before, in parts, so that making them does not count.
func buildCPU(b *testing.B, s snaptest.State, k *snaptest.Kept) (used time.Duration) {
	b.Helper()
	const part = 10_000
	h := digest.NewHasher(snaptest.Seed)
	var file bytes.Buffer
	file.Grow(len(k.File))
	w := snapshot.NewWriter(&file, snapshot.Manifest{Stream: s.Stream, Lane: s.Lane, Seed: snaptest.Seed, At: k.At, Set: k.Set})
	for from := 0; from < s.Rows; from += part {
		records := s.Records(from, from+part)
		began := cpu(b)
		for i := range records {
			if err := w.AddRecord(h, &records[i]); err != nil {
				b.Fatal(err)
			}
		}
		used += cpu(b) - began
	}
	began := cpu(b)
	if _, err := w.Finish(); err != nil {
		b.Fatal(err)
	}
	return used + cpu(b) - began
}

// swallow takes all chunks and looks at none.
func swallow(b *testing.B, c *rsocket.Conn, k *snaptest.Kept) (n int) {
	request := message(b, &deliveryv1.ChunksRequest{Stream: "orders", Id: k.ID[:], Ranges: []uint32{0, uint32(k.Chunks())}})
	in, err := c.RequestStream(b.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteChunks), Data: request}, 8)
	if err != nil {
		return 0
	}
	for {
		p, err := in.Recv(b.Context())
		if err != nil {
			if err != io.EOF && b.Context().Err() == nil {
				return -1
			}
			return n
		}
		n += len(p.Data)
		_ = in.Request(1) // fails only when the stream is over, which the next Recv tells
	}
}

// BenchmarkTailBesideBootstraps: the time from a batch's commit to its arrival at a consumer, at 1,000 a second, idle and beside 16
// consumers that bootstrap again and again, in turns of a second each. One iteration is one turn of each.
func BenchmarkTailBesideBootstraps(b *testing.B) {
	const greedy, perSecond = 16, 1000
	h := newHouse(b, withNATS, func(c *gateway.Config, _ *house) { c.MaxBootstraps = greedy })
	k := h.keep(200_000, 200_000)
	if _, _, err := manifest(b, h.dial(), &deliveryv1.SnapshotRequest{}); err != nil {
		b.Fatal(err)
	}
	tail := subscribe(b, h.dial(), 0, 1<<16)
	turn := func(bootstraps int) (p99 time.Duration, moved int) {
		over := make(chan struct{})
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range bootstraps {
			c := h.dial()
			wg.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
						n := swallow(b, c, k)
						mu.Lock()
						moved += n
						mu.Unlock()
					}
				}
			})
		}
		took := make([]time.Duration, 0, perSecond)
		sent := make(chan time.Time, perSecond)
		wg.Go(func() {
			for at := range sent {
				if _, _, err := tail.next(); err != nil {
					b.Error(err)
					return
				}
				for tail.last.GetKind() != deliveryv1.Delivery_KIND_BATCH {
					if _, _, err := tail.next(); err != nil {
						b.Error(err)
						return
					}
				}
				took = append(took, time.Since(at))
			}
		})
		tick := time.NewTicker(time.Second / perSecond)
		for range perSecond {
			<-tick.C
			at := time.Now()
			h.hint(h.store.lane.Append(1, 128).Data)
			sent <- at
		}
		tick.Stop()
		close(sent)
		close(over)
		wg.Wait()
		slices.Sort(took)
		return took[len(took)*99/100], moved
	}
	var idle, beside, ratio []float64
	bytes := 0
	var loaded time.Duration
	for b.Loop() {
		quietly, _ := turn(0)
		from := time.Now()
		loudly, moved := turn(greedy)
		loaded += time.Since(from)
		bytes += moved
		idle, beside, ratio = append(idle, float64(quietly)), append(beside, float64(loudly)), append(ratio, float64(loudly)/float64(quietly))
	}
	b.ReportMetric(median(idle)/1e6, "idle-p99-ms")
	b.ReportMetric(median(beside)/1e6, "beside-p99-ms")
	b.ReportMetric(median(ratio), "beside/idle")
	b.ReportMetric(float64(bytes)/loaded.Seconds()/1e6, "resync-MB/s")
}
