package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// FileName is the database within the data directory.
const FileName = "consumers.db"

// busyTimeoutMs is how long a commit waits for a person's own transaction on the file.
const busyTimeoutMs = 5000

// Store is an open database. Commit and Load are for one goroutine.
type Store struct {
	db   *sql.DB
	lock *os.File
}

// Open takes dir, which it makes when it is missing, and opens or makes the database in it.
func Open(ctx context.Context, dir string) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	held, err := lock(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, FileName)
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: fmt.Sprintf(
		"_synchronous=FULL&_foreign_keys=on&_txlock=immediate&_busy_timeout=%d", busyTimeoutMs)}
	db, err := sql.Open("sqlite3", dsn.String())
	if err != nil {
		_ = held.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // I4
	if err := prepare(ctx, db, path); err != nil {
		_, _ = db.Close(), held.Close()
		return nil, named(err, path)
	}
	return &Store{db: db, lock: held}, nil
}

// Close lets go of the database and then of the directory.
func (s *Store) Close() error { return errors.Join(s.db.Close(), s.lock.Close()) }

const (
	upsertConsumer = `INSERT INTO consumer VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET stream=excluded.stream, kind=excluded.kind,
		incarnation=excluded.incarnation, left=excluded.left, client=excluded.client, gateway=excluded.gateway,
		last_seen_ms=excluded.last_seen_ms, health=excluded.health, rewound=excluded.rewound`
	deleteConsumer = `DELETE FROM consumer WHERE stream_id=? AND consumer_id=?`
	upsertCursor   = `INSERT OR REPLACE INTO cursor VALUES (?,?,?,?,?,?)`
	upsertHighest  = `INSERT OR REPLACE INTO highest VALUES (?,?,?,?)`
	upsertReset    = `INSERT OR REPLACE INTO reset VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	deleteReset    = `DELETE FROM reset WHERE stream_id=? AND consumer_id=? AND command_id=?`
	updateFloor    = `UPDATE floor SET incarnation=?`
)

// Commit stores changes in one transaction (I1). An error with reason fault.DiskFull or fault.Unavailable leaves the store usable;
// after any other the caller must stop, since what the disk holds is no longer known.
func (s *Store) Commit(ctx context.Context, changes roster.Changes) error {
	err := inTransaction(ctx, s.db, func(tx *sql.Tx) error {
		statements := make(map[string]*sql.Stmt)
		exec := func(query string, args ...any) error {
			statement := statements[query]
			if statement == nil {
				var err error
				if statement, err = tx.PrepareContext(ctx, query); err != nil { // closed with tx
					return err
				}
				statements[query] = statement
			}
			_, err := statement.ExecContext(ctx, args...)
			return err
		}
		for key, change := range changes.Consumers {
			if err := storeConsumer(exec, key, change); err != nil {
				return err
			}
		}
		for id, p := range changes.Highest {
			if err := exec(upsertHighest, int64(id.Stream), int64(id.Partition), int64(p.Epoch), int64(p.Sequence)); err != nil {
				return err
			}
		}
		if changes.Floor != 0 {
			return exec(updateFloor, int64(changes.Floor))
		}
		return nil
	})
	return named(err, FileName)
}

func storeConsumer(exec func(string, ...any) error, key roster.Key, change roster.Change) error {
	c := change.Consumer
	if c == nil || change.Renewed {
		if err := exec(deleteConsumer, int64(key.Stream), string(key.ID)); err != nil {
			return err
		}
	}
	if c == nil {
		return nil
	}
	if err := exec(upsertConsumer, int64(key.Stream), string(key.ID), string(c.Name), int64(c.Kind), int64(c.Incarnation), c.Left,
		c.Client, c.Gateway, c.FirstSeenMs, c.LastSeenMs, c.Health, c.Rewound); err != nil {
		return err
	}
	for partition := range change.Moved {
		cursor := c.Cursors[partition]
		if err := exec(upsertCursor, int64(key.Stream), string(key.ID), int64(partition), int64(cursor.Position.Epoch),
			int64(cursor.Position.Sequence), cursor.TimeMs); err != nil {
			return err
		}
	}
	return storeResets(exec, c, change.Commands)
}

// storeResets stores the commands of c that are named, and deletes those it has no more.
func storeResets(exec func(string, ...any) error, c *roster.Consumer, ids map[string]struct{}) error {
	for id := range ids {
		if err := exec(deleteReset, int64(c.Stream), string(c.ID), id); err != nil {
			return err
		}
	}
	for _, r := range c.Resets {
		if _, ok := ids[r.ID]; !ok {
			continue
		}
		if err := exec(upsertReset, int64(c.Stream), string(c.ID), r.ID, int64(r.Action), int64(r.FromSequence), r.FromTimeMs, r.DryRun,
			int64(r.MaxBytesPerSecond), r.Why, r.IssuedMs, r.All, int64(r.Number), int64(r.State), r.Progress, r.UpdatedMs); err != nil {
			return err
		}
	}
	return nil
}

func inTransaction(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// named gives an error of the driver the reason a caller can act on.
func named(err error, path string) error {
	var e sqlite3.Error
	if !errors.As(err, &e) || fault.ReasonOf(err) != fault.Internal {
		return err
	}
	switch e.Code {
	case sqlite3.ErrNotADB:
		return fault.New(fault.ForeignData, "%s is not a database: give another data directory; it was not changed (%w)", path, err)
	case sqlite3.ErrCorrupt:
		return fault.New(fault.Corrupt, "%s is damaged: restore it from a copy, or move it away to begin without cursors (%w)", path, err)
	case sqlite3.ErrFull:
		return fault.New(fault.DiskFull, "the disk of %s is full; nothing was stored: free some space and try again (%w)", path, err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fault.New(fault.Unavailable, "%s is held by a transaction of another program; nothing was stored: end it and try again (%w)", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
