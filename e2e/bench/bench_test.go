package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/replica"
)

const patience = 2 * time.Minute

// recordCount keeps one iteration between one and ten seconds.
var recordCount = map[int]int{128: 1_000_000, 1024: 200_000}

// Publish, four producers, every answer after its fsync.
func BenchmarkPublish(b *testing.B) {
	for _, bytes := range []int{128, 1024} {
		for _, keys := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("bytes=%d/keys=%d", bytes, keys), func(b *testing.B) {
				h := startHouse(b)
				idle, _ := residentMiB(b, h.pid)
				l := load{stream: "s", records: recordCount[bytes], recordBytes: bytes, producers: 4, perRequest: 500, inFlight: 16, distinctKeys: keys}
				n := 0
				before := processorTime(b, h.pid)
				var elapsed time.Duration
				for b.Loop() {
					l.stream = fmt.Sprintf("s%d", n)
					h.createStream(b, l.stream, keys > 0)
					start := time.Now()
					h.publish(b, l)
					elapsed += time.Since(start)
					n++
				}
				_, peak := residentMiB(b, h.pid)
				b.ReportMetric(float64(l.records*n)/elapsed.Seconds(), "records/s")
				b.ReportMetric((processorTime(b, h.pid)-before).Seconds()/float64(l.records*n)*1e6, "cpu-us/record")
				b.ReportMetric(idle, "idle-MiB")
				b.ReportMetric(peak, "peak-MiB")
			})
		}
	}
}

// Follow at the tail while four producers publish: every consumer decodes and checks every record.
func BenchmarkFollow(b *testing.B) {
	for _, bytes := range []int{128, 1024} {
		for _, consumers := range []int{1, 100} {
			b.Run(fmt.Sprintf("bytes=%d/consumers=%d", bytes, consumers), func(b *testing.B) {
				h := startHouse(b)
				l := load{stream: "s", records: recordCount[bytes], recordBytes: bytes, producers: 4, perRequest: 500, inFlight: 16}
				if consumers > 1 {
					l.records /= 4
				}
				h.createStream(b, l.stream, false)
				followers := make([]*follower, consumers)
				for i := range followers {
					followers[i] = h.follow(b, l.stream, 0)
				}
				n := 0
				var elapsed time.Duration
				for b.Loop() {
					n++
					start := time.Now()
					h.race(b, l, followers, lane.Sequence(n*l.records))
					elapsed += time.Since(start)
				}
				_, peak := residentMiB(b, h.pid)
				b.ReportMetric(float64(l.records*n*consumers)/elapsed.Seconds(), "deliveries/s")
				b.ReportMetric(peak, "peak-MiB")
			})
		}
	}
}

// race publishes the load while the followers read up to last.
func (h *house) race(b *testing.B, l load, followers []*follower, last lane.Sequence) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, len(followers))
	for _, f := range followers {
		wg.Go(func() {
			if err := f.until(ctx, last, func(*record.Record) {}); err != nil {
				failed <- err
			}
		})
	}
	h.publish(b, l)
	wg.Wait()
	close(failed)
	for err := range failed {
		b.Fatal(err)
	}
}

// Catch up with what is stored: one consumer from the first sequence.
func BenchmarkCatchUp(b *testing.B) {
	for _, bytes := range []int{128, 1024} {
		b.Run(fmt.Sprintf("bytes=%d", bytes), func(b *testing.B) {
			h := startHouse(b)
			l := load{stream: "s", records: recordCount[bytes], recordBytes: bytes, producers: 4, perRequest: 500, inFlight: 16}
			h.createStream(b, l.stream, false)
			h.publish(b, l)
			n := 0
			before := processorTime(b, h.pid)
			var elapsed time.Duration
			for b.Loop() {
				n++
				start := time.Now()
				f := h.follow(b, l.stream, 0)
				if err := f.until(b.Context(), lane.Sequence(l.records), func(*record.Record) {}); err != nil {
					b.Fatal(err)
				}
				elapsed += time.Since(start)
			}
			b.ReportMetric(float64(l.records*n)/elapsed.Seconds(), "deliveries/s")
			b.ReportMetric((processorTime(b, h.pid)-before).Seconds()/float64(l.records*n)*1e6, "cpu-us/record")
		})
	}
}

// From publish to delivery at 2,000 records a second, one record a request, beside fdatasync of 4 KiB in the same run.
func BenchmarkLatency(b *testing.B) {
	const rate, seconds = 2000, 3
	h := startHouse(b)
	var latencies, syncs []time.Duration
	n := 0
	for b.Loop() {
		stream := fmt.Sprintf("s%d", n)
		n++
		h.createStream(b, stream, false)
		f := h.follow(b, stream, 0)
		done := make(chan error, 1)
		go func() { // ends with the last record
			done <- f.until(b.Context(), rate*seconds, func(r *record.Record) { latencies = append(latencies, sinceStamp(r.Value)) })
		}()
		h.pace(b, stream, rate, rate*seconds)
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		syncs = append(syncs, fdatasyncs(b, 500)...)
	}
	reportQuantiles(b, latencies, "delivery")
	reportQuantiles(b, syncs, "fdatasync")
}

func reportQuantiles(b *testing.B, d []time.Duration, name string) {
	b.Helper()
	slices.Sort(d)
	b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, name+"-p50-ms")
	b.ReportMetric(float64(d[len(d)*99/100].Microseconds())/1000, name+"-p99-ms")
}

// pace publishes n stamped records, one a request, at rate a second; answers are read beside.
func (h *house) pace(b *testing.B, stream string, rate, n int) {
	b.Helper()
	call, err := ingestv1.NewIngestClient(h.ingest).PublishStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { // ends with the last answer
		for range n {
			answer, err := call.Recv()
			if err == nil && answer.GetOutcomes()[0].GetFault() != nil {
				err = fmt.Errorf("refused: %v", answer.GetOutcomes()[0].GetFault())
			}
			if err != nil {
				answered <- err
				return
			}
		}
		answered <- nil
	}()
	atRate(rate, n, func() {
		value := make([]byte, 128)
		stamp(value)
		if err := call.Send(&ingestv1.PublishRequest{Stream: stream, Records: []*ingestv1.Record{{Value: value}}}); err != nil {
			b.Fatal(err)
		}
	})
	if err := <-answered; err != nil {
		b.Fatal(err)
	}
	if err := call.CloseSend(); err != nil {
		b.Fatal(err)
	}
}

// atRate calls send n times, rate times a second, in steps of a millisecond.
func atRate(rate, n int, send func()) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for sent := 0; sent < n; {
		<-tick.C
		for due := min(n, int(time.Since(start).Seconds()*float64(rate))); sent < due; sent++ {
			send()
		}
	}
}

// fdatasyncs appends 4 KiB and syncs, n times.
func fdatasyncs(b *testing.B, n int) []time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	out := make([]time.Duration, n)
	for i := range out {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		out[i] = time.Since(start)
	}
	return out
}

// From nothing to a verified, switched database of the stream's state. The first bootstrap also waits until the provider's state has
// caught up with what was just published; it is reported by itself.
func BenchmarkBootstrap(b *testing.B) {
	const rows = 200_000
	h := startHouse(b)
	h.createStream(b, "s", true)
	h.publish(b, load{stream: "s", records: 4 * rows, recordBytes: 190, producers: 4, perRequest: 500, inFlight: 16, distinctKeys: rows})
	first, held := h.bootstrap(b)
	if held < rows*9/10 {
		b.Fatalf("the replica holds %d rows", held)
	}
	n := 0
	var elapsed time.Duration
	for b.Loop() {
		took, again := h.bootstrap(b)
		if again != held {
			b.Fatalf("the replica holds %d rows, the first held %d", again, held)
		}
		elapsed += took
		n++
	}
	b.ReportMetric(float64(held*n)/elapsed.Seconds(), "rows/s")
	b.ReportMetric(first.Seconds(), "first-s")
}

// bootstrap makes a replica of stream s from nothing and returns how long it took to be verified, and its rows.
func (h *house) bootstrap(b *testing.B) (took time.Duration, rows int) {
	b.Helper()
	start := time.Now()
	r, err := replica.Open(b.Context(), replica.Config{Stream: "s", Path: filepath.Join(b.TempDir(), "s.db"), Gateways: []string{h.at.Gateway}})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.WaitSynced(b.Context()); err != nil {
		b.Fatal(err)
	}
	took = time.Since(start)
	if err := r.DB().QueryRow(`SELECT count(*) FROM s`).Scan(&rows); err != nil {
		b.Fatal(err)
	}
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	return took, rows
}
