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

// The families. The numbers of those in the log's database are their creation order there and part of the directory's format.
const (
	Default Family = iota // empty
	Log
	State // in its own database; directories of format 1 have it in the log's
	Producers
	families = 4
)

var names = [families]string{"default", "log", "state", "producers"}

// Dirs are where the two databases lie.
type Dirs struct{ Log, State string }

// Engine is two open databases. Safe for concurrent use, except Close.
type Engine struct {
	dirs   Dirs
	log    database
	state  database       // its only family is State
	home   [families]home // where each family is
	cache  *grocksdb.Cache
	logged *grocksdb.WriteOptions // with WAL, without sync
	light  *grocksdb.WriteOptions // without WAL
	read   *grocksdb.ReadOptions
	once   sync.Once
}

// home is where a family is found.
type home struct {
	db *grocksdb.DB
	cf *grocksdb.ColumnFamilyHandle
}

// Open opens the databases in dirs, making them unless cfg.ReadOnly. A state that lies in the log's database, as format 1 had it, is
// moved out first; with ReadOnly it is read where it is. Faults: Corrupt when RocksDB finds damage, Internal otherwise.
func Open(dirs Dirs, cfg Config) (_ *Engine, err error) {
	cfg.defaults()
	e := &Engine{dirs: dirs, cache: grocksdb.NewLRUCache(cfg.CacheBytes), logged: grocksdb.NewDefaultWriteOptions(), light: grocksdb.NewDefaultWriteOptions(), read: grocksdb.NewDefaultReadOptions()}
	e.light.DisableWAL(true)
	e.read.SetVerifyChecksums(true) // I3
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if e.log, err = openDatabase(dirs.Log, names[:], []Family{Default, Log, State, Producers}, cfg, e.cache); err != nil {
		return nil, err
	}
	for f, cf := range e.log.cf {
		e.home[f] = home{e.log.db, cf}
	}
	if cfg.ReadOnly && !exists(dirs.State) {
		return e, nil
	}
	if err := e.moveState(cfg); err != nil {
		return nil, err
	}
	if e.state, err = openDatabase(dirs.State, []string{"default"}, []Family{State}, cfg, e.cache); err != nil {
		return nil, err
	}
	e.home[State] = home{e.state.db, e.state.cf[0]}
	return e, nil
}

// Close flushes nothing that needs flushing and ends the databases. All iterators and snapshots must be closed before.
func (e *Engine) Close() {
	e.once.Do(func() {
		e.log.close()
		e.state.close()
		e.logged.Destroy()
		e.light.Destroy()
		e.read.Destroy()
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
	if b.inLog && b.inState {
		return fault.New(fault.Internal, "a batch changes both databases, and nothing makes that one change") // I2
	}
	db := e.log.db
	if b.inState {
		db = e.state.db
	}
	wb := grocksdb.WriteBatchFrom(b.encoded())
	defer wb.Destroy()
	return translate("writing", db.Write(how, wb))
}

// Sync makes every Write to the log's database that returned before it durable. After an error nothing is known about them: end the process.
func (e *Engine) Sync() error {
	return translate("fsync of the write-ahead log", e.log.db.FlushWAL(true))
}

// Flush writes a family's memory into files, so that WriteLight before it is durable.
func (e *Engine) Flush(f Family) error {
	o := grocksdb.NewDefaultFlushOptions()
	defer o.Destroy()
	o.SetWait(true)
	return translate("flushing "+names[f], e.home[f].db.FlushCF(e.home[f].cf, o))
}

// Get appends the value of key to buf; found is false when there is none.
func (e *Engine) Get(f Family, key, buf []byte) (value []byte, found bool, err error) {
	h, err := e.home[f].db.GetPinnedCF(e.read, e.home[f].cf, key)
	if err != nil {
		return buf, false, translate("reading "+names[f], err)
	}
	defer h.Destroy()
	if !h.Exists() {
		return buf, false, nil
	}
	return append(buf, h.Data()...), true, nil
}

// GetEach reads many keys at once and calls visit with the index and value of each that is there, in order. The value is valid during
// the call.
func (e *Engine) GetEach(f Family, keys [][]byte, visit func(i int, value []byte) error) error {
	values, err := e.home[f].db.MultiGetCF(e.read, e.home[f].cf, keys...)
	if err != nil {
		return translate("reading "+names[f], err)
	}
	defer values.Destroy()
	for i, v := range values {
		if !v.Exists() {
			continue
		}
		if err := visit(i, v.Data()); err != nil {
			return err
		}
	}
	return nil
}

// DeleteRange removes [from, to) from a family, through the WAL; Compact frees the space.
func (e *Engine) DeleteRange(f Family, from, to []byte) error {
	return translate("deleting a range of "+names[f], e.home[f].db.DeleteRangeCF(e.logged, e.home[f].cf, from, to))
}

// Compact rewrites the files that hold [from, to), freeing what was deleted.
func (e *Engine) Compact(f Family, from, to []byte) {
	e.home[f].db.CompactRangeCF(e.home[f].cf, grocksdb.Range{Start: from, Limit: to})
}

// LibraryVersion is the version of the RocksDB library that runs, as it wrote it down when opening; "unknown" when it did not.
func (e *Engine) LibraryVersion() string {
	v := written(e.dirs.Log, "rocksdb_version")
	if v == "" {
		return "unknown"
	}
	return v
}

// written gives the first value of a name in a database's newest OPTIONS file.
func written(dir, name string) string {
	files, err := filepath.Glob(filepath.Join(dir, "OPTIONS-*"))
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
