package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/linxGnu/grocksdb"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Family names a column family.
type Family int

// The families, in the order they were created in; the order is part of the directory's format.
const (
	Default Family = iota // empty
	Log
	State
	Producers
	families = 4
)

var names = [families]string{"default", "log", "state", "producers"}

// Engine is an open database. Safe for concurrent use, except Close.
type Engine struct {
	dir     string
	db      *grocksdb.DB
	cf      [families]*grocksdb.ColumnFamilyHandle
	cache   *grocksdb.Cache
	options []*grocksdb.Options
	logged  *grocksdb.WriteOptions // with WAL, without sync
	light   *grocksdb.WriteOptions // without WAL
	read    *grocksdb.ReadOptions
	closing sync.Once
}

// Open opens the database in dir, making it unless cfg.ReadOnly. Faults: Corrupt when RocksDB finds damage, Internal otherwise.
func Open(dir string, cfg Config) (*Engine, error) {
	cfg.defaults()
	e := &Engine{dir: dir, cache: grocksdb.NewLRUCache(cfg.CacheBytes)}
	db, each, err := options(cfg, e.cache)
	if err != nil {
		e.cache.Destroy()
		return nil, fault.New(fault.Internal, "RocksDB does not take our options: the installed version is another than this program was built for: %w", err)
	}
	e.options = append(each[:], db)
	var handles []*grocksdb.ColumnFamilyHandle
	if cfg.ReadOnly {
		e.db, handles, err = grocksdb.OpenDbForReadOnlyColumnFamilies(db, dir, names[:], each[:], false)
	} else {
		e.db, handles, err = grocksdb.OpenDbColumnFamilies(db, dir, names[:], each[:])
	}
	if err != nil {
		for _, o := range e.options {
			o.Destroy()
		}
		e.cache.Destroy()
		return nil, translate("opening the database", err)
	}
	copy(e.cf[:], handles)
	e.logged = grocksdb.NewDefaultWriteOptions()
	e.light = grocksdb.NewDefaultWriteOptions()
	e.light.DisableWAL(true)
	e.read = grocksdb.NewDefaultReadOptions()
	e.read.SetVerifyChecksums(true) // I3
	return e, nil
}

// Close flushes nothing that needs flushing and ends the database. All iterators and snapshots must be closed before.
func (e *Engine) Close() {
	e.closing.Do(func() {
		for _, h := range e.cf {
			h.Destroy() // before the database, or a build with assertions aborts
		}
		e.db.Close()
		e.logged.Destroy()
		e.light.Destroy()
		e.read.Destroy()
		for _, o := range e.options {
			o.Destroy()
		}
		e.cache.Destroy()
	})
}

// Write applies b to memory and the WAL, without waiting for the disk (I1).
func (e *Engine) Write(b *Batch) error { return e.write(b, e.logged) }

// WriteLight applies b to memory only: it is lost in a crash unless the family was flushed meanwhile.
func (e *Engine) WriteLight(b *Batch) error { return e.write(b, e.light) }

func (e *Engine) write(b *Batch, how *grocksdb.WriteOptions) error {
	if b.Len() == 0 {
		return nil
	}
	wb := grocksdb.WriteBatchFrom(b.encoded())
	defer wb.Destroy()
	return translate("writing", e.db.Write(how, wb))
}

// Sync makes every Write that returned before it durable. After an error nothing is known about them: end the process.
func (e *Engine) Sync() error { return translate("fsync of the write-ahead log", e.db.FlushWAL(true)) }

// Flush writes a family's memory into files, so that WriteLight before it is durable.
func (e *Engine) Flush(f Family) error {
	o := grocksdb.NewDefaultFlushOptions()
	defer o.Destroy()
	o.SetWait(true)
	return translate("flushing "+names[f], e.db.FlushCF(e.cf[f], o))
}

// Get appends the value of key to buf; found is false when there is none.
func (e *Engine) Get(f Family, key, buf []byte) (value []byte, found bool, err error) {
	h, err := e.db.GetPinnedCF(e.read, e.cf[f], key)
	if err != nil {
		return buf, false, translate("reading "+names[f], err)
	}
	defer h.Destroy()
	if !h.Exists() {
		return buf, false, nil
	}
	return append(buf, h.Data()...), true, nil
}

// DeleteRange removes [from, to) from a family, through the WAL; Compact frees the space.
func (e *Engine) DeleteRange(f Family, from, to []byte) error {
	return translate("deleting a range of "+names[f], e.db.DeleteRangeCF(e.logged, e.cf[f], from, to))
}

// Compact rewrites the files that hold [from, to), freeing what was deleted.
func (e *Engine) Compact(f Family, from, to []byte) {
	e.db.CompactRangeCF(e.cf[f], grocksdb.Range{Start: from, Limit: to})
}

// LibraryVersion is the version of the RocksDB library that runs, as it wrote it down when opening; "unknown" when it did not.
func (e *Engine) LibraryVersion() string {
	v := e.written("rocksdb_version")
	if v == "" {
		return "unknown"
	}
	return v
}

// written gives the first value of a name in the newest OPTIONS file.
func (e *Engine) written(name string) string {
	files, err := filepath.Glob(filepath.Join(e.dir, "OPTIONS-*"))
	if err != nil || len(files) == 0 {
		return ""
	}
	slices.Sort(files) // names are zero-padded numbers
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// translate makes RocksDB's text a fault.
func translate(doing string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "Corruption"):
		return fault.New(fault.Corrupt, "%s: %w", doing, err)
	case strings.Contains(text, "No space left"):
		return fault.New(fault.DiskFull, "%s: %w", doing, err)
	case strings.Contains(text, "lock"):
		return fault.New(fault.InUse, "%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
