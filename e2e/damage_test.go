package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// storedRow is a row as a user of the file sees it.
type storedRow struct {
	value     any
	seq, time int64
}

func readRow(t *testing.T, file, table, key string) (r storedRow) {
	t.Helper()
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var value string
	if err := db.QueryRow("SELECT value, seq, time FROM "+table+" WHERE key = ?", key).Scan(&value, &r.seq, &r.time); err != nil {
		t.Fatal(err)
	}
	r.value = value
	return r
}

// change changes exactly one row of a file behind the replica's back.
func change(t *testing.T, file, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite3", file+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	done, err := db.Exec(statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := done.RowsAffected(); err != nil || n != 1 {
		t.Fatalf("%d rows were changed (%v)", n, err)
	}
}

// shaOf is a text that only this package's row has.
func shaOf(t *testing.T, value string) string {
	t.Helper()
	var one struct{ Sha256 string }
	if err := json.Unmarshal([]byte(value), &one); err != nil || len(one.Sha256) != 64 {
		t.Fatalf("%.200s has no sum: %v", value, err)
	}
	return one.Sha256
}

// flipIn flips the lowest bit of one byte of a text, as a disk might: in every place that holds it, since SQLite leaves copies behind in
// pages that it divides or frees.
func flipIn(t *testing.T, file, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for from := 0; ; found++ {
		at := bytes.Index(b[from:], []byte(text))
		if at < 0 {
			break
		}
		flipAt(t, file, int64(from+at)+7)
		from += at + len(text)
	}
	if found == 0 {
		t.Fatalf("%s does not hold %q in one piece", filepath.Base(file), text)
	}
}

// flipAt flips the lowest bit of a byte of a file, in place.
func flipAt(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var one [1]byte
	if _, err := f.ReadAt(one[:], at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 1
	if _, err := f.WriteAt(one[:], at); err != nil {
		t.Fatal(err)
	}
}
