package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	// applicationID marks our files: "LKcs".
	applicationID = 0x4c4b6373
	// schemaVersion rises with every change of schema.
	schemaVersion = 1
)

// Unsigned 64-bit ids are stored as the signed number of the same bits; no query compares them by size.
const schema = `
CREATE TABLE consumer (
	stream_id     INTEGER NOT NULL,
	consumer_id   TEXT    NOT NULL,
	stream        TEXT    NOT NULL,
	kind          INTEGER NOT NULL,
	incarnation   INTEGER NOT NULL,
	left          INTEGER NOT NULL,
	client        TEXT    NOT NULL,
	gateway       TEXT    NOT NULL,
	first_seen_ms INTEGER NOT NULL,
	last_seen_ms  INTEGER NOT NULL,
	health        BLOB,
	PRIMARY KEY (stream_id, consumer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursor (
	stream_id   INTEGER NOT NULL,
	consumer_id TEXT    NOT NULL,
	partition   INTEGER NOT NULL,
	epoch       INTEGER NOT NULL,
	sequence    INTEGER NOT NULL,
	time_ms     INTEGER NOT NULL,
	PRIMARY KEY (stream_id, consumer_id, partition),
	FOREIGN KEY (stream_id, consumer_id) REFERENCES consumer ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The highest cursor ever stored of a lane; it outlives the consumer.
CREATE TABLE highest (
	stream_id INTEGER NOT NULL,
	partition INTEGER NOT NULL,
	epoch     INTEGER NOT NULL,
	sequence  INTEGER NOT NULL,
	PRIMARY KEY (stream_id, partition)
) STRICT, WITHOUT ROWID;

-- One row. The floor is at or above every incarnation of deleted consumers.
CREATE TABLE floor (
	one         INTEGER PRIMARY KEY CHECK (one = 1),
	incarnation INTEGER NOT NULL
) STRICT;
INSERT INTO floor VALUES (1, 0);
`

// prepare makes the schema in an empty file and refuses a file that is not ours (I3). Only then may anything be written, and choosing
// the journal is a write.
func prepare(ctx context.Context, db *sql.DB, path string) error {
	empty, err := check(ctx, db, path)
	if err != nil {
		return err
	}
	var journal string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&journal); err != nil {
		return err
	}
	if journal != "wal" {
		return fmt.Errorf("%s: the file system does not let SQLite keep a write-ahead log (journal mode %s): put the data directory on a local disk", path, journal)
	}
	if !empty {
		return nil
	}
	return inTransaction(ctx, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion))
		return err
	})
}

func check(ctx context.Context, db *sql.DB, path string) (empty bool, err error) {
	var application, version, tables int64
	for pragma, into := range map[string]*int64{
		"PRAGMA application_id":              &application,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := db.QueryRowContext(ctx, pragma).Scan(into); err != nil {
			return false, err
		}
	}
	if application == 0 && version == 0 && tables == 0 {
		return true, nil
	}
	if application != applicationID {
		return false, fault.New(fault.ForeignData, "%s is a database of another program: give another data directory; it was not changed", path)
	}
	if version != schemaVersion {
		return false, fault.New(fault.UnsupportedVersion, "%s has schema version %d and this program reads version %d: start the program that wrote it, or a newer one; it was not changed", path, version, schemaVersion)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return false, err
	}
	if verdict != "ok" {
		return false, fault.New(fault.Corrupt, "%s is damaged (%s): restore it from a copy, or move it away to begin without cursors; it was not changed", path, verdict)
	}
	return false, nil
}
