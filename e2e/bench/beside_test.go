package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// pair is what Lockstep and JetStream took for the same, in one iteration, one after the other.
type pair struct{ ours, theirs time.Duration }

// beside runs ours and theirs in turn, once an iteration, and reports the medians of rates and of their ratio: a busy machine
// disturbs both sides of an iteration alike. Lockstep fsyncs before every answer.
func beside(b *testing.B, count int, unit string, ours, theirs func(b *testing.B, stream string) time.Duration) {
	var pairs []pair
	for b.Loop() {
		stream := fmt.Sprintf("s%d", len(pairs))
		pairs = append(pairs, pair{ours(b, stream), theirs(b, stream)})
	}
	b.ReportMetric(float64(count)/median(pairs, func(p pair) float64 { return p.ours.Seconds() }), "lockstep-"+unit)
	b.ReportMetric(float64(count)/median(pairs, func(p pair) float64 { return p.theirs.Seconds() }), "jetstream-"+unit)
	b.ReportMetric(median(pairs, func(p pair) float64 { return p.theirs.Seconds() / p.ours.Seconds() }), "ratio")
	b.ReportMetric(0, "ns/op") // both together: nothing
}

func median[T any, V cmp.Ordered](all []T, of func(T) V) V {
	values := make([]V, len(all))
	for i, x := range all {
		values[i] = of(x)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func peerLoad(stream string, bytes int) load {
	return load{stream: stream, records: recordCount[bytes], recordBytes: bytes, producers: 4, perRequest: 500, inFlight: 16}
}

// Publish beside JetStream, four producers each.
func BenchmarkBesidePublish(b *testing.B) {
	for _, c := range []struct {
		bytes, records int
		sync           bool
	}{{bytes: 128}, {bytes: 1024}, {bytes: 128, records: 10_000, sync: true}} {
		b.Run(fmt.Sprintf("bytes=%d/jetstream-sync=%s", c.bytes, syncName(c.sync)), func(b *testing.B) {
			h, j := startHouse(b), startJetStream(b, c.sync)
			l := peerLoad("", c.bytes)
			if c.records > 0 {
				l.records = c.records
			}
			beside(b, l.records, "records/s", func(b *testing.B, stream string) time.Duration {
				l := l
				l.stream = stream
				h.createStream(b, stream, false)
				return timed(func() { h.publish(b, l) })
			}, func(b *testing.B, stream string) time.Duration {
				l := l
				l.stream = stream
				j.createStream(b, stream)
				return timed(func() { j.publish(b, l) })
			})
			reportPeaks(b, h, j)
		})
	}
}

// Catch up with what is stored, from the first record: one consumer.
func BenchmarkBesideCatchUp(b *testing.B) {
	for _, bytes := range []int{128, 1024} {
		b.Run(fmt.Sprintf("bytes=%d", bytes), func(b *testing.B) {
			h, j := startHouse(b), startJetStream(b, false)
			l := peerLoad("s", bytes)
			h.createStream(b, l.stream, false)
			h.publish(b, l)
			j.createStream(b, l.stream)
			j.publish(b, l)
			beside(b, l.records, "deliveries/s", func(b *testing.B, _ string) time.Duration {
				return timed(func() { h.consume(b, l, 1, func() {}) })
			}, func(b *testing.B, _ string) time.Duration {
				return timed(func() { j.consume(b, l, 1, func() {}) })
			})
		})
	}
}

// Follow at the tail while four producers publish.
func BenchmarkBesideFollow(b *testing.B) {
	for _, bytes := range []int{128, 1024} {
		for _, consumers := range []int{1, 100} {
			b.Run(fmt.Sprintf("bytes=%d/consumers=%d", bytes, consumers), func(b *testing.B) {
				h, j := startHouse(b), startJetStream(b, false)
				l := peerLoad("", bytes)
				if consumers > 1 {
					l.records = 50_000
				}
				beside(b, l.records*consumers, "deliveries/s", func(b *testing.B, stream string) time.Duration {
					l := l
					l.stream = stream
					h.createStream(b, stream, false)
					return h.consume(b, l, consumers, func() { h.publish(b, l) })
				}, func(b *testing.B, stream string) time.Duration {
					l := l
					l.stream = stream
					j.createStream(b, stream)
					return j.consume(b, l, consumers, func() { j.publish(b, l) })
				})
				reportPeaks(b, h, j)
			})
		}
	}
}

// consume has consumers read the whole load while meanwhile runs, and gives the time from its start to the last delivery.
func (h *house) consume(b *testing.B, l load, consumers int, meanwhile func()) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	followers := make([]*follower, consumers)
	for i := range followers {
		followers[i] = h.follow(b, l.stream, 0)
	}
	failed := make(chan error, consumers)
	start := time.Now()
	for _, f := range followers {
		go func() { failed <- f.until(ctx, lane.Sequence(l.records), func(*record.Record) {}) }() // ends with the load, or with ctx
	}
	meanwhile()
	for range followers {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	took := time.Since(start)
	for _, f := range followers {
		f.conn.Close()
	}
	return took
}

func (j *jetStream) consume(b *testing.B, l load, consumers int, meanwhile func()) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	followers := make([]*jetStreamFollower, consumers)
	for i := range followers {
		followers[i] = j.follow(b, l.stream)
	}
	start := time.Now()
	waits := make([]func(context.Context) error, consumers)
	for i, f := range followers {
		wait, err := f.start(l.records, func([]byte) {})
		if err != nil {
			b.Fatal(err)
		}
		waits[i] = wait
	}
	meanwhile()
	for _, wait := range waits {
		if err := wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

// From publish to delivery at 2,000 records a second.
func BenchmarkBesideLatency(b *testing.B) {
	const rate, n = 2000, 6000
	for _, sync := range []bool{false, true} {
		b.Run("jetstream-sync="+syncName(sync), func(b *testing.B) {
			h, j := startHouse(b), startJetStream(b, sync)
			var ours, theirs []time.Duration
			i := 0
			for b.Loop() {
				stream := fmt.Sprintf("s%d", i)
				i++
				h.createStream(b, stream, false)
				f, done := h.follow(b, stream, 0), make(chan error, 1)
				go func() { // ends with the last record
					done <- f.until(b.Context(), n, func(r *record.Record) { ours = append(ours, sinceStamp(r.Value)) })
				}()
				h.pace(b, stream, rate, n)
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				j.createStream(b, stream)
				wait, err := j.follow(b, stream).start(n, func(value []byte) { theirs = append(theirs, sinceStamp(value)) })
				if err != nil {
					b.Fatal(err)
				}
				j.pace(b, stream, rate, n)
				if err := wait(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			reportQuantiles(b, ours, "lockstep")
			reportQuantiles(b, theirs, "jetstream")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func syncName(always bool) string {
	if always {
		return "always"
	}
	return "default"
}

func reportPeaks(b *testing.B, h *house, j *jetStream) {
	b.Helper()
	_, ours := residentMiB(b, h.pid)
	_, theirs := residentMiB(b, j.pid)
	b.ReportMetric(ours, "lockstep-peak-MiB")
	b.ReportMetric(theirs, "jetstream-peak-MiB")
}
