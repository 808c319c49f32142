package engine

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/linxGnu/grocksdb"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// database is one RocksDB. The zero database is closed.
type database struct {
	db      *grocksdb.DB
	cf      []*grocksdb.ColumnFamilyHandle
	options []*grocksdb.Options
}

// openDatabase opens dir, whose column families have the given names and the options of the given families.
func openDatabase(dir string, columns []string, kinds []Family, cfg Config, cache *grocksdb.Cache) (d database, err error) {
	options, err := databaseOptions(cfg)
	if err != nil {
		return d, fault.New(fault.Internal, "RocksDB does not take our options: the installed version is another than this program was built for: %w", err)
	}
	var each []*grocksdb.Options
	for _, f := range kinds {
		each = append(each, familyOptions(f, cfg, cache))
	}
	d.options = append(each[:len(each):len(each)], options)
	if cfg.ReadOnly {
		d.db, d.cf, err = grocksdb.OpenDbForReadOnlyColumnFamilies(options, dir, columns, each, false)
	} else {
		d.db, d.cf, err = grocksdb.OpenDbColumnFamilies(options, dir, columns, each)
	}
	if err != nil {
		d.db, d.cf = nil, nil
		d.close()
		return database{}, translate("opening the database", err)
	}
	return d, nil
}

func (d *database) close() {
	for _, h := range d.cf {
		h.Destroy() // before the database, or a build with assertions aborts
	}
	if d.db != nil {
		d.db.Close()
	}
	for _, o := range d.options {
		o.Destroy()
	}
	*d = database{}
}

// moveBytes is about how much of a state is moved in one write.
const moveBytes = 4 << 20

// moveState moves what the log's database has of the state into a database of its own. The new one gets its name when it is whole and
// on the disk, so that an interrupted move begins anew; what is left behind is deleted after that, however often it takes.
func (e *Engine) moveState(cfg Config) error {
	it := e.Scan(State) // still at home in the log's database
	defer it.Close()
	some := it.Seek(nil)
	if err := it.Err(); err != nil || !some || cfg.ReadOnly {
		return err
	}
	if !exists(e.dirs.State) {
		if err := e.copyState(it, cfg); err != nil {
			return err
		}
	}
	return e.DeleteRange(State, nil, []byte{0xff, 0xff, 0xff, 0xff, 0xff})
}

// copyState writes everything from it on into a new database.
func (e *Engine) copyState(it *Iterator, cfg Config) error {
	unfinished := e.dirs.State + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	to, err := openDatabase(unfinished, []string{"default"}, []Family{State}, cfg, e.cache)
	if err != nil {
		return err
	}
	defer to.close()
	moved := &Engine{state: to, home: [families]home{State: {to.db, to.cf[0]}}, light: e.light}
	var b Batch
	for ok := true; ok; {
		b.Put(State, it.Key(), it.Value())
		if ok = it.Next(); b.Size() >= moveBytes || !ok {
			if err := moved.WriteLight(&b); err != nil {
				return err
			}
			b.Reset()
		}
	}
	if err := errors.Join(it.Err(), moved.Flush(State)); err != nil {
		return err
	}
	to.close()
	if err := os.Rename(unfinished, e.dirs.State); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(e.dirs.State))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}
