package engine_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
)

// RocksDB's checksums are computed by crc32c.c, and are CRC32C: the write-ahead log's first record carries the one Go computes.
func TestChecksumsAreOurs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("RocksDB chooses its checksum while it runs")
	}
	if !engine.OwnCRC() {
		t.Error("RocksDB does not call the program's CRC32C; a publish of 1 KiB records costs a fifth more")
	}
	dir := t.TempDir()
	e := open(t, dir)
	var b engine.Batch
	b.Put(engine.Log, []byte("k"), []byte("a value whose length is no multiple of eight"))
	if err := e.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := e.Sync(); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	for _, file := range files {
		wal, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(wal, []byte("no multiple of eight")) {
			continue
		}
		// One fragment: masked CRC32C (4 bytes), length (2), type (1), payload; the CRC covers type and payload.
		n := int(binary.LittleEndian.Uint16(wal[4:]))
		crc := crc32.Checksum(wal[6:7+n], crc32.MakeTable(crc32.Castagnoli))
		if masked := (crc>>15 | crc<<17) + 0xa282ead8; masked != binary.LittleEndian.Uint32(wal) {
			t.Errorf("the log's first record carries checksum %08x, want %08x", binary.LittleEndian.Uint32(wal), masked)
		}
		return
	}
	t.Fatal("the record is in no write-ahead log")
}
