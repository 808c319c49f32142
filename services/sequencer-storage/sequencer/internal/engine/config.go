package engine

import (
	"github.com/linxGnu/grocksdb"
)

// Config bounds the memory of an Engine. The zero value is the default of every field.
type Config struct {
	// CacheBytes is the block cache shared by both databases; 0 means 64 MiB.
	CacheBytes uint64
	// LogBufferBytes is one of at most three write buffers of the log; 0 means 32 MiB.
	LogBufferBytes uint64
	// StateBufferBytes is one of at most two write buffers of the state; 0 means 16 MiB.
	StateBufferBytes uint64
	// ReadOnly opens without writing anything; for checks of a stopped directory.
	ReadOnly bool
}

// blobBytes is the size from which a batch is kept in a blob file, so that compactions do not rewrite it.
const blobBytes = 4 << 10

// pinned are the options durability hangs on; a test reads them back from what RocksDB wrote down.
const pinned = "wal_recovery_mode=kTolerateCorruptedTailRecords;recycle_log_file_num=0;wal_bytes_per_sync=0;" +
	"paranoid_checks=true;track_and_verify_wals_in_manifest=true;manual_wal_flush=false;allow_mmap_reads=false;allow_mmap_writes=false"

func (c *Config) defaults() {
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.LogBufferBytes == 0 {
		c.LogBufferBytes = 32 << 20
	}
	if c.StateBufferBytes == 0 {
		c.StateBufferBytes = 16 << 20
	}
}

// Files in level 0 of the state. It is read by key seldom (whoever changes rows remembers what they were), so many files may wait for
// one compaction: with rows changed at random each one rewrites the whole state.
const (
	stateFilesCompact = 8
	stateFilesSlow    = 24
	stateFilesStop    = 36
)

// databaseOptions makes the options of a database. The caller destroys them.
func databaseOptions(cfg Config) (*grocksdb.Options, error) {
	base := grocksdb.NewDefaultOptions()
	defer base.Destroy()
	db, err := grocksdb.GetOptionsFromString(base, pinned)
	if err != nil {
		return nil, err
	}
	db.SetCreateIfMissing(!cfg.ReadOnly)
	db.SetCreateIfMissingColumnFamilies(!cfg.ReadOnly)
	db.SetMaxBackgroundJobs(2)
	db.SetMaxTotalWalSize(4 * cfg.LogBufferBytes)
	db.SetKeepLogFileNum(4)
	db.SetMaxLogFileSize(4 << 20)
	db.SetStatsDumpPeriodSec(0)
	db.SetMaxOpenFiles(512)
	return db, nil
}

// familyOptions makes the options of a family. The caller destroys them.
func familyOptions(f Family, cfg Config, cache *grocksdb.Cache) *grocksdb.Options {
	o := grocksdb.NewDefaultOptions()
	table := grocksdb.NewDefaultBlockBasedTableOptions()
	table.SetBlockCache(cache)
	table.SetFormatVersion(5)
	table.SetBlockSize(16 << 10)
	table.SetCacheIndexAndFilterBlocks(true)
	o.SetCompression(grocksdb.NoCompression)
	switch f {
	case Log:
		o.SetWriteBufferSize(cfg.LogBufferBytes)
		o.SetMaxWriteBufferNumber(3)
		o.EnableBlobFiles(true)
		o.SetMinBlobSize(blobBytes)
		o.SetBlobCompressionType(grocksdb.NoCompression) // batches are compressed already
		o.EnableBlobGC(true)
		o.SetBlobGCAgeCutoff(1.0) // a compaction over an expired segment frees all of it
	case State:
		o.SetWriteBufferSize(cfg.StateBufferBytes)
		o.SetMaxWriteBufferNumber(2)
		o.SetCompression(grocksdb.LZ4Compression)
		o.SetLevel0FileNumCompactionTrigger(stateFilesCompact)
		o.SetLevel0SlowdownWritesTrigger(stateFilesSlow)
		o.SetLevel0StopWritesTrigger(stateFilesStop)
		table.SetFilterPolicy(grocksdb.NewBloomFilter(10))
	default:
		o.SetWriteBufferSize(4 << 20)
	}
	o.SetBlockBasedTableFactory(table)
	return o
}
