package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// ErrUnproven: the rows of a finished build are not what they must prove to be. It was removed.
var ErrUnproven = errors.New("the rows received do not have the provider's digest")

// tableSchema is the table of a stream. It has rowids: with values of a kilobyte a table WITHOUT ROWID keeps three or four rows in
// an inner page and loses more in depth than it saves (BenchmarkTableShape).
const tableSchema = "CREATE TABLE %s(key TEXT PRIMARY KEY NOT NULL, value, headers TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL)"

// Build is a generation in the making: invisible until Publish (I2). One goroutine at a time; end it with Publish or Abandon.
type Build struct {
	place Place
	g     *Generation
	tx    *Tx
	// group gathers rows to one statement. Its records alias the chunk given to Insert, which flushes before it returns.
	group []record.Record
	done  bool
}

// NewBuild starts a new generation. Only the holder of the lock may.
func (p Place) NewBuild(ctx context.Context, m Meta) (*Build, error) {
	return p.newBuild(ctx, m, fmt.Sprintf(tableSchema, quoted(string(m.Stream))))
}

func (p Place) newBuild(ctx context.Context, m Meta, schema string) (*Build, error) {
	file, err := p.next()
	if err != nil {
		return nil, err
	}
	g, err := open(ctx, file, building)
	if err != nil {
		return nil, explain(err, "make "+file)
	}
	g.adopt(m)
	b := &Build{place: p, g: g}
	if b.tx, err = g.Begin(); err == nil {
		if _, err = b.tx.tx.ExecContext(ctx, schemaOwn+schema); err == nil {
			err = writeMeta(ctx, b.tx.tx, m)
		}
	}
	if err != nil {
		b.Abandon()
		return nil, explain(err, "make "+file)
	}
	return b, nil
}

// Insert adds rows that rise by key within their partition; next yields them and answers false at the end. A key that is there
// already is a fault.
func (b *Build) Insert(next func(*record.Record) bool) error {
	if b.group == nil {
		b.group = make([]record.Record, rowsPerStatement)
	}
	for more := true; more; {
		n := 0
		for n < len(b.group) {
			if more = next(&b.group[n]); !more {
				break
			}
			n++
		}
		err := b.g.exec(func(n int) string {
			return "INSERT INTO " + b.g.table + "(" + rowColumns + ") VALUES " + placeholders(n, columns)
		}, n, columns, func(args []driver.NamedValue, i int) { bindRow(args, &b.group[i]) })
		if err != nil {
			return explain(err, "write rows")
		}
	}
	return nil
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
// It answers what could not be carried over; then the previous generation is worth keeping. After an error the build is gone and the
// link is as it was.
func (b *Build) Publish(ctx context.Context, f Finish) (lost []string, err error) {
	defer b.Abandon()
	for _, l := range f.Lanes {
		if err := b.tx.SetLane(l); err != nil {
			return nil, err
		}
	}
	if err := b.tx.Commit(); err != nil {
		return nil, err
	}
	if f.Previous != "" {
		if lost, err = b.g.carryOver(ctx, f.Previous); err != nil {
			return nil, err
		}
	}
	if f.Rebuild != nil {
		tx, err := b.g.Begin()
		if err != nil {
			return nil, err
		}
		if err := f.Rebuild(ctx, tx.SQL()); err != nil {
			tx.Rollback()
			return nil, fault.New(fault.Internal, "the Rebuild function failed, so the new generation was not put in place: %w", err)
		}
		if err := tx.Commit(); err != nil {
			return nil, err
		}
	}
	sets, err := b.g.Scan()
	if err != nil {
		return nil, err
	}
	if err := compare(f.Lanes, sets); err != nil {
		return nil, err
	}
	return lost, b.settle()
}

func compare(lanes []Lane, sets []digest.Set) error {
	for _, l := range lanes {
		if got := sets[l.Partition]; got != l.Set {
			return fmt.Errorf("%w: partition %d at %v has %v, not %v", ErrUnproven, l.Partition, l.Cursor, got, l.Set)
		}
	}
	return nil
}

// settle turns the build into a generation and links it.
func (b *Build) settle() error {
	var mode string
	if err := b.g.conn.QueryRowContext(context.Background(), "PRAGMA journal_mode=WAL").Scan(&mode); err != nil || mode != "wal" {
		return fault.New(fault.Internal, "the new generation stays in journal mode %q: %w", mode, err)
	}
	if err := b.g.Close(); err != nil {
		return explain(err, "close the build")
	}
	b.done = true
	if err := firstOf(syncFile(b.g.file), b.place.publish(b.g.file)); err != nil { // I6: nobody has opened it yet
		_ = os.Remove(b.g.file) // the next open removes it otherwise
		return err
	}
	return nil
}

// Abandon removes the build; after Publish it does nothing.
func (b *Build) Abandon() {
	if b.done {
		return
	}
	b.done = true
	if b.tx != nil {
		b.tx.Rollback()
	}
	_ = b.g.Close() // the file goes next
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		_ = os.Remove(b.g.file + suffix) // the next open removes what stays
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
