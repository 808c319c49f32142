package replica_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

const (
	benchRows  = 100_000
	benchBatch = 1000
	benchValue = 160 // with key and the rest about 200 bytes a row
)

func benchProvider(b *testing.B) *sdktest.Provider {
	b.Helper()
	p, err := sdktest.New()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	if err := p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		b.Fatal(err)
	}
	return p
}

// publishRows publishes n records in batches; round makes the values differ. Their keys are spread over benchRows.
func publishRows(b *testing.B, p *sdktest.Provider, n, round int) {
	b.Helper()
	value := make([]byte, benchValue)
	for i := range value {
		value[i] = byte('a' + (i*7+round)%26)
	}
	for at := 0; at < n; at += benchBatch {
		records := make([]sdktest.Record, benchBatch)
		for i := range records {
			records[i] = sdktest.Record{Key: fmt.Sprintf("package-%08d", (at+i)*7919%benchRows), Value: value}
		}
		if err := p.Publish("orders", records...); err != nil {
			b.Fatal(err)
		}
	}
}

func openBench(b *testing.B, p *sdktest.Provider) *replica.Replica {
	b.Helper()
	r, err := replica.Open(b.Context(), replica.Config{Stream: "orders", Path: filepath.Join(b.TempDir(), "orders.db"), Gateways: []string{p.Gateway()}})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func syncBench(b *testing.B, r *replica.Replica) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := r.WaitSynced(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBootstrap is Open to WaitSynced on a fresh path: received, written, read back, compared, fsynced, swapped.
func BenchmarkBootstrap(b *testing.B) {
	p := benchProvider(b)
	publishRows(b, p, benchRows, 0)
	for b.Loop() {
		r := openBench(b, p)
		syncBench(b, r)
		b.StopTimer()
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkApply is a live replica catching up with updates of random keys in batches of 1000: read old rows, write new ones, digest,
// one fsync a transaction. The provider's own cost of making the batches is in it.
func BenchmarkApply(b *testing.B) {
	p := benchProvider(b)
	publishRows(b, p, benchRows, 0)
	r := openBench(b, p)
	defer r.Close()
	syncBench(b, r)
	round := 0
	for b.Loop() {
		round++
		publishRows(b, p, benchRows, round)
		syncBench(b, r)
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkVerify compares a file at rest whose digest the provider knows.
func BenchmarkVerify(b *testing.B) {
	p := benchProvider(b)
	publishRows(b, p, benchRows, 0)
	r := openBench(b, p)
	defer r.Close()
	syncBench(b, r)
	cfg := replica.Config{Stream: "orders", Gateways: []string{p.Gateway()}}
	for b.Loop() {
		c, err := replica.Verify(b.Context(), cfg, r.Path())
		if err != nil || c.Verdict != replica.Equal {
			b.Fatal(c, err)
		}
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
