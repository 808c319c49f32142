package replica_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

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

// BenchmarkBootstrapBesideSQLite is a bootstrap of a million rows of about 190 bytes, from Open to the new generation verified, fsynced and
// linked, and after each one the best that SQLite makes of the same rows, with no journal, one transaction and one fsync, neither received
// from anywhere nor read back: from Go with prepared statements of many rows (go-ratio), and with one INSERT ... SELECT from another
// file, so that no row leaves SQLite (inside-ratio). The medians are compared: 1 means as fast.
func BenchmarkBootstrapBesideSQLite(b *testing.B) {
	const rows = 1_000_000
	p := benchProvider(b)
	rng := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < rows; at += benchBatch {
		records := make([]sdktest.Record, benchBatch)
		for i := range records {
			value := make([]byte, benchValue)
			for j := range value { // half of it packs
				value[j] = "0123456789abcdef"[rng.IntN(16)]
			}
			records[i] = sdktest.Record{Key: fmt.Sprintf("package-%08d", at+i), Value: value}
		}
		if err := p.Publish("orders", records...); err != nil {
			b.Fatal(err)
		}
	}
	bootstrap := func() (string, time.Duration) {
		began := time.Now()
		r := openBench(b, p)
		syncBench(b, r)
		took := time.Since(began)
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		return r.Path(), took
	}
	path, _ := bootstrap() // the provider makes its snapshot
	table := rowsOfFile(b, path)
	if len(table) != rows {
		b.Fatalf("%d rows", len(table))
	}
	var ours, fromGo, inside []time.Duration
	for b.Loop() {
		_, took := bootstrap()
		ours = append(ours, took)
		fromGo = append(fromGo, throughSQLite(b, func(conn *sqlite3.SQLiteConn) { insertFromGo(b, conn, table) }))
		inside = append(inside, throughSQLite(b, func(conn *sqlite3.SQLiteConn) { // ordered, or SQLite copies the cells as they are
			execute(b, conn, "INSERT INTO orders SELECT key,value,headers,seq,time FROM source.orders ORDER BY rowid")
		}, path))
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	b.ReportMetric(rows/median(ours), "rows/s")
	b.ReportMetric(median(fromGo)/median(ours), "go-ratio")
	b.ReportMetric(median(inside)/median(ours), "inside-ratio")
}

// rowOfFile is a row as SQLite takes it.
type rowOfFile struct {
	key, value string
	seq, time  int64
}

func rowsOfFile(b *testing.B, path string) []rowOfFile {
	b.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT key,value,seq,time FROM orders ORDER BY key")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	var all []rowOfFile
	for rows.Next() {
		var r rowOfFile
		if err := rows.Scan(&r.key, &r.value, &r.seq, &r.time); err != nil {
			b.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return all
}

// throughSQLite builds the table of a replica; insert brings the rows, perhaps from the source.
func throughSQLite(b *testing.B, insert func(*sqlite3.SQLiteConn), source ...string) time.Duration {
	b.Helper()
	file := filepath.Join(b.TempDir(), "bulk.db")
	began := time.Now()
	c, err := (&sqlite3.SQLiteDriver{}).Open("file:" + file + "?_journal_mode=OFF&_synchronous=OFF&_cache_size=-65536")
	if err != nil {
		b.Fatal(err)
	}
	conn := c.(*sqlite3.SQLiteConn)
	for _, path := range source {
		execute(b, conn, "ATTACH 'file:"+path+"?mode=ro' AS source")
	}
	execute(b, conn, "CREATE TABLE orders(key TEXT PRIMARY KEY NOT NULL, value, headers TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL); BEGIN")
	insert(conn)
	execute(b, conn, "COMMIT")
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(conn.Close(), f.Sync(), f.Close()); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

func execute(b *testing.B, conn *sqlite3.SQLiteConn, query string) {
	b.Helper()
	if _, err := conn.Exec(query, nil); err != nil {
		b.Fatal(err)
	}
}

// insertFromGo binds rows that rise by key, many to a statement.
func insertFromGo(b *testing.B, conn *sqlite3.SQLiteConn, rows []rowOfFile) {
	b.Helper()
	const perStatement = 32
	insert, err := conn.Prepare("INSERT INTO orders VALUES" + strings.Repeat(",(?,?,?,?,?)", perStatement)[1:])
	if err != nil {
		b.Fatal(err)
	}
	defer insert.Close()
	args := make([]driver.NamedValue, 5*perStatement)
	for i := range args {
		args[i].Ordinal = i + 1
	}
	for at := 0; at < len(rows); at += perStatement {
		for i := range perStatement {
			r, a := &rows[at+i], args[5*i:]
			a[0].Value, a[1].Value, a[3].Value, a[4].Value = r.key, r.value, r.seq, r.time
		}
		if _, err := insert.(*sqlite3.SQLiteStmt).ExecContext(context.Background(), args); err != nil {
			b.Fatal(err)
		}
	}
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
