package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"os"
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

// throughSQLite builds a file of the records as fast as SQLite takes rows from Go: prepared statements of many rows, no journal, one
// transaction, one fsync.
func throughSQLite(b *testing.B, file, schema string, records []record.Record) {
	b.Helper()
	g, err := open(b.Context(), file, building)
	if err != nil {
		b.Fatal(err)
	}
	g.adopt(Meta{Stream: "orders", StreamID: 1, Partitions: 1, DigestSeed: 7})
	tx, err := g.Begin()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := tx.tx.ExecContext(context.Background(), fmt.Sprintf(schema, g.table)); err != nil {
		b.Fatal(err)
	}
	err = g.exec(func(n int) string {
		return "INSERT INTO " + g.table + "(" + rowColumns + ") VALUES " + placeholders(n, columns)
	},
		len(records), columns, func(args []driver.NamedValue, i int) { bindRow(args, &records[i]) })
	if err := firstOf(err, tx.Commit(), g.Close(), syncFile(file)); err != nil {
		b.Fatal(err)
	}
}

func syncFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// BenchmarkBuild is a generation of a million rows of about 190 bytes, written, read back, compared, fsynced and linked; and beside it the
// best that SQLite makes of the same rows, without reading them back.
func BenchmarkBuild(b *testing.B) {
	records, set := sample(1_000_000, 160)
	report := func(b *testing.B) {
		b.ReportMetric(float64(len(records)*b.N)/b.Elapsed().Seconds(), "rows/s")
	}
	b.Run("pages", func(b *testing.B) {
		for b.Loop() {
			p := PlaceOf(filepath.Join(b.TempDir(), "orders.db"))
			unlock, err := p.Lock()
			if err != nil {
				b.Fatal(err)
			}
			meta := Meta{Stream: "orders", StreamID: 1, Partitions: 1, DigestSeed: 7}
			if _, err := built(b, p, meta, records).Publish(b.Context(), Finish{Lanes: []Lane{{Set: set}}}); err != nil {
				b.Fatal(err)
			}
			unlock()
		}
		report(b)
	})
	b.Run("sqlite", func(b *testing.B) {
		for b.Loop() {
			throughSQLite(b, filepath.Join(b.TempDir(), "orders.db"), tableSchema, records)
		}
		report(b)
	})
}

// BenchmarkTableShape measures what a table costs with and without rowids when random keys are updated.
func BenchmarkTableShape(b *testing.B) {
	for _, shape := range []struct{ name, schema string }{
		{"rowid", tableSchema},
		{"without-rowid", tableSchema + " WITHOUT ROWID"},
	} {
		for _, size := range []int{128, 1024} {
			records, _ := sample(50_000, size)
			b.Run(fmt.Sprintf("%s/%dB/update", shape.name, size), func(b *testing.B) {
				file := filepath.Join(b.TempDir(), "orders.db")
				throughSQLite(b, file, shape.schema, records)
				g, err := open(b.Context(), file, readWrite)
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
				g.adopt(Meta{Stream: "orders", StreamID: 1, Partitions: 1, DigestSeed: 7})
				rng := rand.New(rand.NewPCG(3, 4))
				h := digest.NewHasher(7)
				const perTx = 1000
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
