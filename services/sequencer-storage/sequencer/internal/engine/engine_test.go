package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
)

func open(t *testing.T, dir string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(dir, engine.Config{CacheBytes: 8 << 20, LogBufferBytes: 4 << 20, StateBufferBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What durability hangs on is read back from what RocksDB itself says it runs with.
func TestPinnedOptions(t *testing.T) {
	e := open(t, t.TempDir())
	defer e.Close()
	for name, want := range map[string]string{
		"wal_recovery_mode": "kTolerateCorruptedTailRecords", "recycle_log_file_num": "0", "wal_bytes_per_sync": "0", "paranoid_checks": "true",
		"track_and_verify_wals_in_manifest": "true", "manual_wal_flush": "false", "use_fsync": "false", "unordered_write": "false",
	} {
		if got := e.Written(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if v := e.LibraryVersion(); !strings.HasPrefix(v, "7.") {
		t.Errorf("RocksDB %s runs, the binding is made for 7.8", v)
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
	s := e.Snapshot()
	defer s.Close()
	put("new")
	if v, found, err := s.Get(engine.State, []byte("k"), nil); string(v) != "old" || !found || err != nil {
		t.Fatal(string(v), found, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	defer e.Close()
	if _, err := engine.Open(dir, engine.Config{}); !errors.Is(err, fault.InUse) {
		t.Fatalf("opened twice: %v", err)
	}
}
