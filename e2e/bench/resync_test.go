package bench

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // the best that can be made of the same rows

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/sdk/producer"
	"github.com/lockstep-mq/lockstep/sdk/replica"
)

const (
	million       = 1_000_000
	keyedValue    = 160 // with key and the rest about 190 bytes a row
	benchPatience = 2 * time.Minute
)

// publishKeyed publishes one record for each key; half of a value can be compressed.
func (h *house) publishKeyed(b *testing.B, stream string, keys []int, round uint64) {
	b.Helper()
	p, err := producer.Open(b.Context(), producer.Config{Ingest: h.at.Ingest, Stream: stream})
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(round, 2))
	records := func(yield func(producer.Record) bool) {
		for _, n := range keys {
			value := make([]byte, keyedValue)
			for i := range value {
				value[i] = "0123456789abcdef"[rng.IntN(16)]
			}
			if !yield(producer.Record{Key: keyOf(n), Value: value}) {
				return
			}
		}
	}
	for outcomes, err := range p.PublishAll(b.Context(), records) {
		if err != nil {
			b.Fatal(err)
		}
		for _, o := range outcomes {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
	}
	if err := p.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func keyOf(n int) string { return fmt.Sprintf("package-%08d", n) }

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// replicate opens a replica and waits until it is proven equal.
func (h *house) replicate(b *testing.B, path string) *replica.Replica {
	b.Helper()
	r, err := replica.Open(b.Context(), replica.Config{Stream: "orders", Path: path, Gateways: []string{h.at.Gateway}, ConsumerID: "copy", ScrubRowsPerSecond: -1})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), benchPatience)
	defer cancel()
	if err := r.WaitSynced(ctx); err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkBootstrapBesideSQLite is a bootstrap of a million rows of about 190 bytes through all services, from Open to the new file verified,
// fsynced and linked, and after each one the best that SQLite makes of the same rows, with no journal, one transaction and one fsync, neither
// received from anywhere nor read back: from Go with prepared statements of many rows (go-ratio), and with one INSERT ... SELECT (inside-ratio). The medians are compared: 1 means as fast.
func BenchmarkBootstrapBesideSQLite(b *testing.B) {
	h := startHouse(b)
	h.createStream(b, "orders", true)
	h.publishKeyed(b, "orders", upTo(million), 1)
	dir := b.TempDir()
	bootstrap := func(n int) (string, time.Duration) {
		path := filepath.Join(dir, fmt.Sprintf("r%d.db", n))
		began := time.Now()
		r := h.replicate(b, path)
		took := time.Since(began)
		if s := r.Status(); s.Bootstraps != 1 || s.Lanes[0].Digest.Count != million {
			b.Fatalf("%+v", s)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		return path, took
	}
	spent := processorTime(b, h.pid)
	path, first := bootstrap(0) // the snapshot is made
	build := processorTime(b, h.pid) - spent
	rows := rowsOf(b, path, "")
	var ours, fromGo, inside []float64
	bulk := filepath.Join(dir, "bulk.db")
	spent = processorTime(b, h.pid)
	for n := 1; b.Loop(); n++ {
		path, took := bootstrap(n)
		ours = append(ours, took.Seconds())
		fromGo = append(fromGo, throughSQLite(b, bulk, func(tx *sql.Tx) error { return insertAll(tx, rows) }).Seconds())
		inside = append(inside, throughSQLite(b, bulk, func(tx *sql.Tx) error { // no row leaves SQLite
			_, err := tx.Exec("INSERT INTO orders SELECT key,value,headers,seq,time FROM source.orders ORDER BY rowid")
			return err
		}, path).Seconds())
		if err := errors.Join(os.RemoveAll(path+".lockstep"), os.Remove(path)); err != nil {
			b.Fatal(err)
		}
	}
	serve := (processorTime(b, h.pid) - spent) / time.Duration(b.N)
	b.ReportMetric(median(fromGo, itself)/median(ours, itself), "go-ratio")
	b.ReportMetric(median(inside, itself)/median(ours, itself), "inside-ratio")
	b.ReportMetric(median(ours, itself), "bootstrap-s")
	b.ReportMetric(first.Seconds(), "first-s")
	b.ReportMetric(build.Seconds(), "first-house-cpu-s")
	b.ReportMetric(serve.Seconds(), "later-house-cpu-s")
}

func itself(x float64) float64 { return x }

// rowsOf gives the rows of a replica, rising by key.
func rowsOf(b *testing.B, path, where string) []record.Record {
	b.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT key, CAST(value AS BLOB), seq, time FROM orders " + where + " ORDER BY key")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	var all []record.Record
	for rows.Next() {
		var r record.Record
		var seq int64
		if err := rows.Scan(&r.Key, &r.Value, &seq, &r.TimeMS); err != nil {
			b.Fatal(err)
		}
		r.Sequence = lane.Sequence(seq)
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return all
}

// throughSQLite builds the table of a replica; insert brings the rows, perhaps from the source.
func throughSQLite(b *testing.B, file string, insert func(*sql.Tx) error, source ...string) time.Duration {
	b.Helper()
	began := time.Now()
	db, err := sql.Open("sqlite3", "file:"+file+"?_journal_mode=OFF&_synchronous=OFF&_cache_size=-65536")
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(1) // the one that has the source
	for _, path := range source {
		if _, err := db.Exec("ATTACH 'file:" + path + "?mode=ro' AS source"); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := db.Exec("CREATE TABLE orders(key TEXT PRIMARY KEY NOT NULL, value, headers TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL)"); err != nil {
		b.Fatal(err)
	}
	tx, err := db.Begin()
	if err == nil {
		err = errors.Join(insert(tx), tx.Commit())
	}
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(db.Close(), f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if err := os.Remove(file); err != nil {
		b.Fatal(err)
	}
	return took
}

// insertAll binds rows that rise by key, many to a statement.
func insertAll(tx *sql.Tx, rows []record.Record) error {
	const perStatement = 32
	insert, err := tx.Prepare("INSERT INTO orders VALUES" + strings.Repeat(",(?,?,?,?,?)", perStatement)[1:])
	if err != nil {
		return err
	}
	args := make([]any, 5*perStatement)
	for at := 0; at < len(rows); at += perStatement {
		for i := range perStatement {
			r, a := &rows[at+i], args[5*i:]
			a[0], a[1], a[3], a[4] = string(r.Key), string(r.Value), int64(r.Sequence), r.TimeMS
		}
		if _, err := insert.Exec(args...); err != nil {
			return err
		}
	}
	return insert.Close()
}

// BenchmarkBytesMoved: what changes (L1) and repair (L2) of some rows of a million move, both ways and with what frames it, beside the rows
// themselves, packed as they are on the way. Half of the rows of a repair have a wrong value, half are missing.
func BenchmarkBytesMoved(b *testing.B) {
	h := startHouse(b)
	h.createStream(b, "orders", true)
	h.publishKeyed(b, "orders", upTo(million), 1)
	path := filepath.Join(b.TempDir(), "r.db")
	r := h.replicate(b, path)
	b.Cleanup(func() { _ = r.Close() })
	rng := rand.New(rand.NewPCG(3, 4))
	tail := uint64(million)
	for b.Loop() {
		for round, differ := range []int{10, 1000, 10_000} {
			keys := rng.Perm(million)[:differ]
			h.publishKeyed(b, "orders", keys, uint64(100+round))
			ctx, cancel := context.WithTimeout(b.Context(), benchPatience)
			if err := r.WaitSynced(ctx); err != nil {
				b.Fatal(err)
			}
			cancel()
			rows := rowsOf(b, path, fmt.Sprintf("WHERE seq > %d", tail))
			if len(rows) != differ {
				b.Fatalf("%d rows came, %d were published", len(rows), differ)
			}
			bytes := packedBytes(b, rows)
			// Dry: what is there is not applied again.
			done := h.order(b, "from", strconv.FormatUint(tail+1, 10), "--dry-run")
			b.ReportMetric(float64(done.Moved)/bytes, fmt.Sprintf("L1-%d", differ))
			damage(b, path, tail, "UPDATE orders SET value = 'mine' WHERE seq > ?", differ)
			done = h.order(b, "repair")
			if done.Differing != uint64(differ) || done.Rung != "RUNG_REPAIR" {
				b.Fatalf("%d rows differ: %+v", differ, done)
			}
			b.ReportMetric(float64(done.Moved)/bytes, fmt.Sprintf("L2-%d-changed", differ))
			damage(b, path, tail, "DELETE FROM orders WHERE seq > ?", differ)
			done = h.order(b, "repair")
			if done.Missing != uint64(differ) || done.Rung != "RUNG_REPAIR" {
				b.Fatalf("%d rows are missing: %+v", differ, done)
			}
			b.ReportMetric(float64(done.Moved)/bytes, fmt.Sprintf("L2-%d-missing", differ))
			tail += uint64(differ)
		}
	}
}

// packedBytes is what rows take as they are sent.
func packedBytes(b *testing.B, rows []record.Record) float64 {
	b.Helper()
	var raw, packed []byte
	var err error
	for i := range rows {
		raw = state.AppendRow(raw, &rows[i])
		if len(raw) < state.TargetChunkBytes && i < len(rows)-1 {
			continue
		}
		if packed, err = snapshot.Pack(packed, raw); err != nil {
			b.Fatal(err)
		}
		raw = raw[:0]
	}
	return float64(len(packed))
}

// damage changes rows behind the replica's back.
func damage(b *testing.B, path string, beyond uint64, statement string, rows int) {
	b.Helper()
	db, err := sql.Open("sqlite3", path+"?_busy_timeout=10000")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	done, err := db.Exec(statement, int64(beyond))
	if err != nil {
		b.Fatal(err)
	}
	if n, err := done.RowsAffected(); err != nil || n != int64(rows) {
		b.Fatalf("%d rows were damaged (%v)", n, err)
	}
}

// obeyed is what came of a command.
type obeyed struct {
	State, Rung string
	Differing   uint64 `json:"differing,string"`
	Missing     uint64 `json:"missing,string"`
	Extra       uint64 `json:"extra,string"`
	Moved       uint64 `json:"moved_bytes,string"`
}

// order gives the replica a command and waits for what comes of it.
func (h *house) order(b *testing.B, args ...string) obeyed {
	b.Helper()
	cmd := exec.Command(filepath.Join(binaries(), "lockstep"), append([]string{"reset", "orders", "--consumer", "copy", "--wait", "--timeout", "2m", "--json",
		"--ingest", h.at.Ingest, "--consumer-state", h.at.Consumers}, args...)...)
	cmd.Stderr = io.Discard
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("reset %v: %v\n%s", args, err, out)
	}
	var answer struct{ Progress obeyed }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Progress.State != "RESET_STATE_DONE" {
		b.Fatalf("reset %v: %v\n%s", args, err, out)
	}
	return answer.Progress
}
