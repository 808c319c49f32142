package sequencer_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// BenchmarkFloor is what the disk itself gives: append to a file and fdatasync, in pieces of a batch.
func BenchmarkFloor(b *testing.B) {
	for _, c := range sizes {
		b.Run(c.name, func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			piece := []byte(incompressible(1, c.records*c.bytes))
			for b.Loop() {
				if _, err := f.Write(piece); err != nil {
					b.Fatal(err)
				}
				if err := unix.Fdatasync(int(f.Fd())); err != nil {
					b.Fatal(err)
				}
			}
			report(b, c)
		})
	}
}

type size struct {
	name           string
	records, bytes int
}

var sizes = []size{{"100x128B", 100, 128}, {"100x1KiB", 100, 1024}, {"1x128B", 1, 128}, {"1x1KiB", 1, 1024}}

func report(b *testing.B, c size) {
	n := float64(b.N*c.records) / b.Elapsed().Seconds()
	b.ReportMetric(n, "records/s")
	b.ReportMetric(n*float64(c.bytes)/1e6, "MB/s")
}

// BenchmarkAppend appends over gRPC with 16 lanes and 4 calls in flight per lane, fsync before every answer.
func BenchmarkAppend(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		for _, c := range sizes {
			b.Run(fmt.Sprintf("keyed=%v/%s", keyed, c.name), func(b *testing.B) {
				h := open(b, sequencer.Config{Dir: b.TempDir()})
				const lanes, inFlight = 16, 4
				s := h.create(b, &streamv1.StreamSpec{Name: "bench", Keyed: keyed, Partitions: lanes})
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				b.ResetTimer()
				for w := range lanes * inFlight {
					wg.Go(func() {
						template := benchDraft(s, w%lanes, w, c)
						for left.Add(-1) >= 0 {
							_, err := h.Append(b.Context(), &sequencerv1.AppendRequest{StreamId: s.GetId(), Partition: uint32(w % lanes), Batch: bytes.Clone(template), Runs: []*sequencerv1.ProducerRun{{Count: uint32(c.records)}}})
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				report(b, c)
			})
		}
	}
}

func benchDraft(s *streamv1.Stream, partition, salt int, c size) []byte {
	var d batch.Builder
	for i := range c.records {
		d.Add(&record.Record{TimeMS: 1, Key: fmt.Appendf(nil, "key-%d-%d", salt, i), Value: []byte(incompressible(salt*1000+i, c.bytes))})
	}
	return d.Build(lane.ID{Stream: lane.StreamID(s.GetId()), Partition: lane.Partition(partition)})
}

// BenchmarkRead reads the log back over gRPC, batches of 100.
func BenchmarkRead(b *testing.B) {
	h := open(b, sequencer.Config{Dir: b.TempDir()})
	s := h.create(b, &streamv1.StreamSpec{Name: "bench"})
	c := sizes[0]
	template := benchDraft(s, 0, 1, c)
	for range 500 {
		if _, err := h.Append(b.Context(), &sequencerv1.AppendRequest{StreamId: s.GetId(), Batch: bytes.Clone(template), Runs: []*sequencerv1.ProducerRun{{Count: uint32(c.records)}}}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		stream, err := h.Read(b.Context(), &sequencerv1.ReadRequest{StreamId: s.GetId(), From: 1})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			if _, err := stream.Recv(); err != nil {
				break
			}
		}
		if n != 500 {
			b.Fatalf("%d batches", n)
		}
	}
	b.ReportMetric(float64(b.N)*500*100/b.Elapsed().Seconds(), "records/s")
}
