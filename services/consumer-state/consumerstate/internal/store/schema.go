package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	// applicationID marks our files: "LKcs".
	applicationID = 0x4c4b6373
	// schemaVersion rises with every change of schema.
	schemaVersion = 2
)

// Unsigned 64-bit ids are stored as the signed number of the same bits; no query compares them by size.
//
// The first version had no commands. Every change since is a step of its own, so that an older file becomes what a new one is.
const first = `
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

// steps[v-1] makes version v+1 of version v.
var steps = [schemaVersion - 1]string{`
ALTER TABLE consumer ADD COLUMN rewound INTEGER NOT NULL DEFAULT 0;

-- A command to a consumer. What of it was issued is the same in every row of its id.
CREATE TABLE reset (
	stream_id            INTEGER NOT NULL,
	consumer_id          TEXT    NOT NULL,
	command_id           TEXT    NOT NULL,
	action               INTEGER NOT NULL,
	from_sequence        INTEGER NOT NULL,
	from_time_ms         INTEGER NOT NULL,
	dry_run              INTEGER NOT NULL,
	max_bytes_per_second INTEGER NOT NULL,
	why                  TEXT    NOT NULL,
	issued_ms            INTEGER NOT NULL,
	to_all               INTEGER NOT NULL,
	number               INTEGER NOT NULL,
	state                INTEGER NOT NULL,
	progress             BLOB,
	updated_ms           INTEGER NOT NULL,
	PRIMARY KEY (stream_id, consumer_id, command_id),
	FOREIGN KEY (stream_id, consumer_id) REFERENCES consumer ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
`}

// prepare makes the schema in an empty file, brings an older one up to date, and refuses a file that is not ours (I3). Only then may anything be written, and choosing
// the journal is a write.
func prepare(ctx context.Context, db *sql.DB, path string) error {
	version, err := check(ctx, db, path)
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
	if version == schemaVersion {
		return nil
	}
	return inTransaction(ctx, db, func(tx *sql.Tx) error {
		statements := ""
		if version == 0 {
			statements, version = first, 1
		}
		statements += strings.Join(steps[version-1:], "")
		_, err := tx.ExecContext(ctx, statements+fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion))
		return err
	})
}

// check gives the schema's version; 0 is an empty file.
func check(ctx context.Context, db *sql.DB, path string) (version int64, err error) {
	var application, tables int64
	for pragma, into := range map[string]*int64{
		"PRAGMA application_id":              &application,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := db.QueryRowContext(ctx, pragma).Scan(into); err != nil {
			return 0, err
		}
	}
	if application == 0 && version == 0 && tables == 0 {
		return 0, nil
	}
	if application != applicationID {
		return 0, fault.New(fault.ForeignData, "%s is a database of another program: give another data directory; it was not changed", path)
	}
	if version < 1 || version > schemaVersion {
		return 0, fault.New(fault.UnsupportedVersion, "%s has schema version %d and this program reads versions 1 to %d: start the program that wrote it, or a newer one; it was not changed", path, version, schemaVersion)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return 0, err
	}
	if verdict != "ok" {
		return 0, fault.New(fault.Corrupt, "%s is damaged (%s): restore it from a copy, or move it away to begin without cursors; it was not changed", path, verdict)
	}
	return version, nil
}
