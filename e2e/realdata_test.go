package e2e

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The Debian package index as JSON lines: four keys come twice.
const (
	packagesLines = 63_437
	packagesKeys  = 63_433
)

// packages gives the lines, and the last line of each key.
func packages(t *testing.T) (text []byte, last map[string]string) {
	t.Helper()
	file := repository("..", "shared", "data", "debian-packages.jsonl.zst")
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: the real input %s is not on this machine; nothing else is skipped for it", filepath.Base(file))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	last = map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(b.Bytes()))
	lines.Buffer(nil, 16<<20)
	count := 0
	for lines.Scan() {
		var one struct{ Package string }
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("line %d: %v", count+1, err)
		}
		last[one.Package] = lines.Text()
		count++
	}
	if lines.Err() != nil || count != packagesLines || len(last) != packagesKeys {
		t.Fatalf("the input has %d lines and %d keys, %d and %d were expected (%v)", count, len(last), packagesLines, packagesKeys, lines.Err())
	}
	return b.Bytes(), last
}

// TestRealInput publishes the package index, keeps a replica, and compares it with the input byte for byte (S9).
func TestRealInput(t *testing.T) {
	text, last := packages(t)
	dir := t.TempDir()
	h := newHouse(t, filepath.Join(dir, "data"))
	file := filepath.Join(dir, "p.db")

	publish := h.lockstep("publish", "packages", "-", "--key", "package")
	publish.Stdin = bytes.NewReader(text)
	if r := finish(t, publish); r.code != 0 || !strings.Contains(r.stderr, fmt.Sprintf("published %d records", packagesLines)) {
		t.Fatalf("publish: exit code %d\n%s", r.code, r.stderr)
	}
	h.must(t, "replica", "packages", file, "--once")
	compareRows(t, file, "packages", last)
	h.must(t, "verify", "packages", file)

	if _, err := query(file, "UPDATE packages SET value = value || ' ' WHERE key = 'bash' RETURNING key"); err != nil {
		t.Fatal(err)
	}
	if r := finish(t, h.lockstep("verify", "packages", file)); r.code != 1 || !strings.HasPrefix(r.stdout, fmt.Sprintf("different: 1 of %d rows", packagesKeys)) {
		t.Fatalf("verify after a row was changed: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	h.must(t, "replica", "packages", file, "--once")
	h.must(t, "verify", "packages", file)
	compareRows(t, file, "packages", last)
}

// compareRows fails unless the table has exactly the wanted keys and values, byte for byte.
func compareRows(t *testing.T, file, table string, want map[string]string) {
	t.Helper()
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT key, CAST(value AS BLOB) FROM " + table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var key string
		var value []byte
		if err := rows.Scan(&key, &value); err != nil {
			t.Fatal(err)
		}
		seen++
		if wanted, ok := want[key]; !ok || wanted != string(value) {
			t.Fatalf("key %q: the row has %.200q, the input's last line is %.200q (there: %v)", key, value, wanted, ok)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if seen != len(want) {
		t.Fatalf("the table has %d rows, the input %d keys", seen, len(want))
	}
}
