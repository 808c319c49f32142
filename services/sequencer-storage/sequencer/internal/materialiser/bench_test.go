package materialiser_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/materialiser"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// BenchmarkApply applies batches of 100 records with keys drawn at random and writes the windows; one operation is 50 batches, handed
// over and settled. The log is not written: only the state's work is measured.
func BenchmarkApply(b *testing.B) {
	for _, bytes := range []int{128, 1024} {
		for _, keys := range []int{10_000, 200_000, 1_000_000} {
			b.Run(fmt.Sprintf("%dB/%dk", bytes, keys/1000), func(b *testing.B) { benchApply(b, bytes, keys) })
		}
	}
}

func benchApply(b *testing.B, bytes, keys int) {
	e, err := engine.Open(engine.Dirs{Log: b.TempDir(), State: b.TempDir()}, engine.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	m := materialiser.New(materialiser.Env{
		Engine: e, Passed: func(lane.ID) (lane.Sequence, bool) { return 0, false }, Digested: func(*ledger.Lane) {}, Log: slog.New(slog.DiscardHandler),
	}, materialiser.Config{})
	l := &ledger.Lane{ID: lane.ID{Stream: 1}, Number: 1, Stream: "bench", Keyed: true, Seed: 1, Epoch: 1}
	l.Restore(1, 0, batch.Chain{}, nil)
	m.Add(l, staterow.Mark{Epoch: 1})
	const perBatch, perOp = 100, 50
	random := rand.New(rand.NewPCG(1, uint64(keys)))
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var next lane.Sequence = 1
	var chain batch.Chain
	feed := func(key func() int, batches int) {
		for range batches {
			var d batch.Builder
			for range perBatch {
				at := random.IntN(len(noise) - bytes)
				d.Add(&record.Record{TimeMS: 1_700_000_000_000, Key: fmt.Appendf(nil, "key-%09d", key()), Value: noise[at:][:bytes]})
			}
			raw := d.Build(l.ID)
			chain = batch.Stamp{Epoch: 1, Base: next, Previous: chain}.Apply(raw)
			h, err := batch.ParseHeader(raw)
			if err != nil {
				b.Fatal(err)
			}
			next = h.Next()
			l.Publish(segment.Number(1), &h, len(raw), chain)
			m.Published(l, raw)
		}
	}
	settle := func() {
		if err := m.SettleHanded(); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; i < keys; { // every key is there before the measuring begins
		feed(func() int { i++; return i - 1 }, min(perOp, (keys-i+perBatch-1)/perBatch))
		settle()
	}
	defer func() {
		if err := m.Idle(); err != nil { // before the engine closes
			b.Error(err)
		}
	}()
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		feed(func() int { return random.IntN(keys) }, perOp)
		b.StartTimer()
		settle()
	}
	b.ReportMetric(float64(b.N*perOp*perBatch)/b.Elapsed().Seconds(), "records/s")
}
