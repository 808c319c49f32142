package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// sample makes n records with keys rising and values of the given size.
func sample(n, valueBytes int) ([]record.Record, digest.Set) {
	rng := rand.New(rand.NewPCG(1, 2))
	h := digest.NewHasher(7)
	var set digest.Set
	records := make([]record.Record, n)
	for i := range records {
		value := make([]byte, valueBytes)
		for j := range value {
			value[j] = byte('a' + rng.IntN(26))
		}
		records[i] = record.Record{Key: fmt.Appendf(nil, "package-%08d", i), Value: value, Sequence: lane.Sequence(i + 1), TimeMS: 1700000000000}
		r := &records[i]
		set.Add(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))
	}
	return records, set
}

// feed yields records one by one.
func feed(records []record.Record) func(*record.Record) bool {
	i := 0
	return func(r *record.Record) bool {
		if i == len(records) {
			return false
		}
		*r = records[i]
		i++
		return true
	}
}

// BenchmarkTableShape measures what a table costs with and without rowids: build with read-back, then updates of random keys.
func BenchmarkTableShape(b *testing.B) {
	for _, shape := range []struct{ name, schema string }{
		{"rowid", tableSchema},
		{"without-rowid", tableSchema + " WITHOUT ROWID"},
	} {
		for _, size := range []int{128, 1024} {
			records, set := sample(50_000, size)
			meta := Meta{Stream: "orders", StreamID: 1, Partitions: 1, DigestSeed: 7}
			finish := Finish{Lanes: []Lane{{Cursor: lane.Position{Epoch: 1, Sequence: 50_000}, Set: set}}}
			built := func(b *testing.B) Place {
				p := PlaceOf(filepath.Join(b.TempDir(), "orders.db"))
				unlock, err := p.Lock()
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(unlock)
				build, err := p.newBuild(b.Context(), meta, fmt.Sprintf(shape.schema, `"orders"`))
				if err != nil {
					b.Fatal(err)
				}
				if err := build.Insert(feed(records)); err != nil {
					b.Fatal(err)
				}
				if _, err := build.Publish(b.Context(), finish); err != nil {
					b.Fatal(err)
				}
				return p
			}
			b.Run(fmt.Sprintf("%s/%dB/build", shape.name, size), func(b *testing.B) {
				for b.Loop() {
					built(b)
				}
				b.ReportMetric(float64(len(records)*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
			b.Run(fmt.Sprintf("%s/%dB/update", shape.name, size), func(b *testing.B) {
				p := built(b)
				file, err := p.Current()
				if err != nil {
					b.Fatal(err)
				}
				g, _, err := Open(b.Context(), file, "orders")
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
				rng := rand.New(rand.NewPCG(3, 4))
				h := digest.NewHasher(7)
				const perTx = 1000
				b.ResetTimer()
				for b.Loop() {
					tx, err := g.Begin()
					if err != nil {
						b.Fatal(err)
					}
					var keys []string
					var rows []*record.Record
					for range perTx {
						r := &records[rng.IntN(len(records))]
						keys, rows = append(keys, string(r.Key)), append(rows, r)
					}
					n := 0
					if err := tx.Elements(keys, h, func(string, digest.Element) { n++ }); err != nil {
						b.Fatal(err)
					}
					if err := tx.Upsert(rows); err != nil {
						b.Fatal(err)
					}
					if err := tx.Commit(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(perTx*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
