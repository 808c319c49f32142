package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
)

func dirs(dir string) engine.Dirs {
	return engine.Dirs{Log: filepath.Join(dir, "log"), State: filepath.Join(dir, "state")}
}

func open(t *testing.T, dir string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(dirs(dir), engine.Config{CacheBytes: 8 << 20, LogBufferBytes: 4 << 20, StateBufferBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What durability hangs on is read back from what RocksDB itself says it runs with.
func TestPinnedOptions(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	defer e.Close()
	for name, want := range map[string]string{
		"wal_recovery_mode": "kTolerateCorruptedTailRecords", "recycle_log_file_num": "0", "wal_bytes_per_sync": "0", "paranoid_checks": "true",
		"track_and_verify_wals_in_manifest": "true", "manual_wal_flush": "false", "use_fsync": "false", "unordered_write": "false",
	} {
		for _, dir := range []string{dirs(dir).Log, dirs(dir).State} {
			if got := engine.Written(dir, name); got != want {
				t.Errorf("%s: %s = %q, want %q", dir, name, got, want)
			}
		}
	}
	// The lines of tools/setup/rocksdb-line.sh: on another one what the options above mean was never looked at.
	line := e.LibraryVersion()
	line = line[:max(0, strings.LastIndexByte(line, '.'))]
	if !slices.Contains([]string{"7.8", "8.9", "9.10", "9.11"}, line) {
		t.Errorf("RocksDB %s runs, which is none of the lines tried", e.LibraryVersion())
	}
}

func TestBatchesAcrossReopen(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	var b engine.Batch
	large := strings.Repeat("x", 100<<10) // goes to a blob file
	b.Put(engine.Log, []byte("b"), []byte(large))
	b.Put(engine.Log, []byte("a"), []byte("1"))
	b.Put(engine.Producers, []byte("p"), nil)
	b.Put(engine.Log, []byte("c"), []byte("gone"))
	b.Delete(engine.Log, []byte("c"))
	if err := e.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := e.Sync(); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.Put(engine.State, []byte("s"), []byte("light"))
	if err := e.WriteLight(&b); err != nil {
		t.Fatal(err)
	}
	if err := e.Flush(engine.State); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e = open(t, dir)
	defer e.Close()
	for _, c := range []struct {
		f          engine.Family
		key, value string
		found      bool
	}{{engine.Log, "a", "1", true}, {engine.Log, "b", large, true}, {engine.Log, "c", "", false}, {engine.Producers, "p", "", true}, {engine.State, "s", "light", true}, {engine.State, "a", "", false}} {
		got, found, err := e.Get(c.f, []byte(c.key), nil)
		if err != nil || found != c.found || string(got) != c.value {
			t.Errorf("%v %q: %.20q %v %v", c.f, c.key, got, found, err)
		}
	}
	it := e.Scan(engine.Log)
	var keys []string
	for ok := it.Seek(nil); ok; ok = it.Next() {
		keys = append(keys, string(it.Key()))
	}
	if it.Err() != nil || fmt.Sprint(keys) != "[a b]" {
		t.Error(keys, it.Err())
	}
	if !it.SeekBack([]byte("az")) || string(it.Key()) != "a" {
		t.Error("seek back")
	}
	it.Close()
}

func TestSnapshotKeepsItsMoment(t *testing.T) {
	e := open(t, t.TempDir())
	defer e.Close()
	put := func(v string) {
		var b engine.Batch
		b.Put(engine.State, []byte("k"), []byte(v))
		if err := e.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	put("old")
	s := e.Snapshot(engine.State)
	defer s.Close()
	put("new")
	if v, found, err := s.Get([]byte("k"), nil); string(v) != "old" || !found || err != nil {
		t.Fatal(string(v), found, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	defer e.Close()
	if _, err := engine.Open(dirs(dir), engine.Config{}); !errors.Is(err, fault.InUse) {
		t.Fatalf("opened twice: %v", err)
	}
}

// A state that lies where format 1 had it is moved out once, read-only opening reads it in place, and nothing of it comes back.
func TestStateOfFormat1(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	const rows = 100
	for i := range rows {
		if err := e.PutInFormat1(fmt.Appendf(nil, "%03d", i), []byte(strings.Repeat("v", 100<<10))); err != nil { // more than one write
			t.Fatal(err)
		}
	}
	e.Close()
	if err := os.RemoveAll(dirs(dir).State); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dirs(dir).State+".new/left/by/a/crash", 0o750); err != nil {
		t.Fatal(err)
	}
	count := func(e *engine.Engine) (n int) {
		it := e.Scan(engine.State)
		defer it.Close()
		for ok := it.Seek(nil); ok; ok = it.Next() {
			n++
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	e, err := engine.Open(dirs(dir), engine.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := count(e); n != rows {
		t.Errorf("%d rows read in place", n)
	}
	e.Close()
	e = open(t, dir)
	if n := count(e); n != rows {
		t.Errorf("%d rows after the move", n)
	}
	var b engine.Batch
	b.Delete(engine.State, []byte("000"))
	if err := errors.Join(e.WriteLight(&b), e.Flush(engine.State)); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e = open(t, dir)
	defer e.Close()
	if n := count(e); n != rows-1 {
		t.Errorf("%d rows at the end", n)
	}
}

func TestOneBatchOneDatabase(t *testing.T) {
	e := open(t, t.TempDir())
	defer e.Close()
	var b engine.Batch
	b.Put(engine.Log, []byte("k"), nil)
	b.Put(engine.State, []byte("k"), nil)
	if err := e.Write(&b); !errors.Is(err, fault.Internal) {
		t.Fatalf("written: %v", err)
	}
}
