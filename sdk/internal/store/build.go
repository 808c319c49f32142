package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/pages"
)

// ErrUnproven: the rows of a finished build are not what they must prove to be. It was put aside.
var ErrUnproven = errors.New("the rows received do not have the provider's digest")

// tableSchema is the table of a stream. It has rowids: with values of a kilobyte a table WITHOUT ROWID keeps three or four rows in
// an inner page and loses more in depth than it saves (BenchmarkTableShape). Package pages writes this table and no other.
const tableSchema = "CREATE TABLE %s(key TEXT PRIMARY KEY NOT NULL, value, headers TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL)"

// Build is a generation in the making: invisible until Publish (I2). One goroutine at a time; end it with Publish or Abandon.
type Build struct {
	place Place
	meta  Meta
	path  string
	file  *os.File
	rows  *pages.Writer
	done  bool
}

// NewBuild starts a new generation. Only the holder of the lock may.
func (p Place) NewBuild(m Meta) (*Build, error) {
	path, err := p.next()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return nil, explain(err, "make "+path)
	}
	table := pages.Table{Name: string(m.Stream), SQL: fmt.Sprintf(tableSchema, quoted(string(m.Stream)))}
	return &Build{place: p, meta: m, path: path, file: f, rows: pages.NewWriter(f, table)}, nil
}

// Add adds a row; keys rise, whatever their partition. Faults: Malformed when one does not, DiskFull.
func (b *Build) Add(r *record.Record) error {
	return explain(b.rows.Add(r), "write rows")
}

// Finish is what Publish needs to know.
type Finish struct {
	// Lanes: cursors and what the rows of each partition must prove to be.
	Lanes []Lane
	// Previous is the generation whose user objects are carried over; "" for none.
	Previous string
	// Rebuild lets the user make tables and indexes in the new generation, after the carry-over; nil for nothing.
	Rebuild func(ctx context.Context, tx *sql.Tx) error
}

// Publish writes the cursors, carries the user's objects over, reads all rows back and compares, fsyncs, and moves the link (I2).
// It answers what could not be carried over; then the previous generation is worth keeping. After an error the link is as it was and the
// build is gone, except that one whose rows are not what they must prove to be (ErrUnproven) is kept for diagnosis, instead of the one before.
func (b *Build) Publish(ctx context.Context, f Finish) (lost []string, err error) {
	defer b.Abandon()
	if err := b.rows.Finish(); err != nil {
		return nil, explain(err, "write rows")
	}
	synced := make(chan error, 1)
	go func() { synced <- b.file.Sync() }() // most of the way to the disk, while the rows are read back; it is waited for
	roots, lost, err := b.complete(ctx, f)
	if err == nil {
		err = b.prove(ctx, f.Lanes, roots)
	}
	if err := firstOf(err, <-synced); err != nil {
		return nil, explain(err, "complete "+b.path)
	}
	return lost, b.link()
}

// complete lets SQLite add everything beside the rows, and leaves the file as a generation is. It answers where the rows begin.
func (b *Build) complete(ctx context.Context, f Finish) (at roots, lost []string, err error) {
	g, err := open(ctx, b.path, building)
	if err != nil {
		return roots{}, nil, explain(err, "open "+b.path)
	}
	defer func() { err = firstOf(err, g.Close()) }()
	g.adopt(b.meta)
	if err := g.introduce(ctx, f.Lanes); err != nil {
		return roots{}, nil, err
	}
	if f.Previous != "" {
		if lost, err = g.carryOver(ctx, f.Previous); err != nil {
			return roots{}, nil, err
		}
	}
	if f.Rebuild != nil {
		if err := g.rebuild(ctx, f.Rebuild); err != nil {
			return roots{}, nil, err
		}
	}
	if err := g.conn.QueryRowContext(ctx, `SELECT t.rootpage, i.rootpage FROM sqlite_master t JOIN sqlite_master i ON i.tbl_name=t.name
		WHERE t.type='table' AND t.name=? AND i.type='index' AND i.sql IS NULL`, string(b.meta.Stream)).Scan(&at.table, &at.index); err != nil {
		return roots{}, nil, fault.New(fault.Internal, "the table of stream %q is not in the new generation any more: %w", b.meta.Stream, err)
	}
	var mode string
	if err := g.conn.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode); err != nil {
		return roots{}, nil, explain(err, "complete "+b.path)
	}
	if mode != "wal" {
		return roots{}, nil, fault.New(fault.Internal, "the new generation stays in journal mode %q", mode)
	}
	return at, lost, nil
}

// roots are the pages at which the stream's table and the index of its keys begin.
type roots struct{ table, index uint32 }

// introduce writes whose copy the file is, and its cursors.
func (g *Generation) introduce(ctx context.Context, lanes []Lane) error {
	tx, err := g.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.tx.ExecContext(ctx, schemaOwn); err != nil {
		return explain(err, "make the tables of a replica")
	}
	if err := writeMeta(ctx, tx.tx, g.meta); err != nil {
		return explain(err, "make the tables of a replica")
	}
	for _, l := range lanes {
		if err := tx.SetLane(l); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (g *Generation) rebuild(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	tx, err := g.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(ctx, tx.SQL()); err != nil {
		return fault.New(fault.Internal, "the Rebuild function failed, so the new generation was not put in place: %w", err)
	}
	return tx.Commit()
}

// prove reads all rows back from the file and compares; nobody has it open but us (I6). A build that is not proven is put aside.
func (b *Build) prove(ctx context.Context, lanes []Lane, at roots) error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	sets, err := pages.Digests(ctx, pages.Source{File: b.file, Bytes: info.Size(), Root: at.table, Index: at.index,
		Partitions: b.meta.Partitions, Seed: b.meta.DigestSeed, Workers: min(maxWorkers, runtime.GOMAXPROCS(0))})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = compare(lanes, sets)
	} else {
		err = fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	if err == nil {
		return nil
	}
	aside := b.place.unproven()
	if moveErr := os.Rename(b.path, aside); moveErr != nil {
		return fmt.Errorf("%w (and it cannot be kept for diagnosis: %w)", err, moveErr)
	}
	return fmt.Errorf("%w (it is kept for diagnosis: %s)", err, aside)
}

// maxWorkers is how many cores read a build back: beyond some the disk or the memory is the limit.
const maxWorkers = 4

func compare(lanes []Lane, sets []digest.Set) error {
	for _, l := range lanes {
		if got := sets[l.Partition]; got != l.Set {
			return fmt.Errorf("%w: partition %d at %v has %v, not %v", ErrUnproven, l.Partition, l.Cursor, got, l.Set)
		}
	}
	return nil
}

// link makes the build the generation people read (I2).
func (b *Build) link() error {
	if err := firstOf(b.file.Sync(), b.file.Close()); err != nil {
		return explain(err, "fsync "+b.path)
	}
	if err := b.place.publish(b.path); err != nil {
		return err
	}
	b.done = true
	return nil
}

// Abandon removes the build; after Publish it does nothing.
func (b *Build) Abandon() {
	if b.done {
		return
	}
	b.done = true
	_ = b.file.Close() // the file goes next
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		_ = os.Remove(b.path + suffix) // the next open removes what stays
	}
}

// foreign is the refusal of a replica of another stream.
func foreign(file string, m Meta, want lane.StreamName) error {
	return fault.New(fault.ForeignData, "%s is a replica of stream %q (id %d), not of %q; it was left as it is: give another path", file, m.Stream, m.StreamID, want).
		With("stream", string(m.Stream))
}

// CheckSame refuses a file that is a replica of another stream, or of a stream of the same name that was made anew.
func CheckSame(file string, have, want Meta) error {
	if have.Stream != want.Stream {
		return foreign(file, have, want.Stream)
	}
	if have != want {
		return fault.New(fault.ForeignData, "%s is a replica of an earlier stream %q (id %d); the provider's has id %d. The file was left as it is: remove it to begin anew, or give another path",
			file, have.Stream, have.StreamID, want.StreamID).With("stream", string(have.Stream))
	}
	return nil
}
