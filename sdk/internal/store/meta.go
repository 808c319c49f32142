package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Format is the layout this code reads and writes; a file of another is refused (I4).
const Format = 1

// Meta says whose copy a file is. It never changes during the life of a file.
type Meta struct {
	Stream     lane.StreamName
	StreamID   lane.StreamID
	Partitions uint32
	DigestSeed uint64
}

// Lane is how far one partition has been applied, and what its rows prove to be.
type Lane struct {
	Partition lane.Partition
	Cursor    lane.Position
	TimeMS    int64 // of the record at the cursor; 0 when unknown
	Set       digest.Set
}

const schemaOwn = `
CREATE TABLE _lockstep_meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE _lockstep_lanes(partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
	digest_sum TEXT NOT NULL, digest_count INTEGER NOT NULL);`

// querier is what reading needs of a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// executor is what writing needs.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// quoted gives a name as an SQL identifier.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Identify reads whose copy the file is. Faults: ForeignData (not a database, or not ours), UnsupportedVersion, Corrupt (a database whose
// bytes are damaged).
func Identify(file string) (Meta, error) {
	db := sql.OpenDB(connector{file, readOnly})
	defer db.Close()
	return readMeta(context.Background(), db, file)
}

func readMeta(ctx context.Context, q querier, file string) (Meta, error) {
	values := map[string]string{}
	rows, err := q.QueryContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name IN ('_lockstep_meta','_lockstep_lanes')")
	if code(err) == sqlite3.ErrNotADB {
		return Meta{}, fault.New(fault.ForeignData, "%s is not a database; it was left as it is: move it away or give another path", file)
	}
	if err != nil {
		return Meta{}, explain(err, "read "+file)
	}
	var tables int
	if rows.Next() {
		err = rows.Scan(&tables)
	}
	if err := firstOf(err, rows.Err(), rows.Close()); code(err) == sqlite3.ErrNotADB {
		return Meta{}, fault.New(fault.ForeignData, "%s is not a database; it was left as it is: move it away or give another path", file)
	} else if err != nil {
		return Meta{}, explain(err, "read "+file)
	}
	if tables != 2 {
		return Meta{}, fault.New(fault.ForeignData, "%s is a database, but not a replica; it was left as it is: move it away or give another path", file)
	}
	rows, err = q.QueryContext(ctx, "SELECT name, value FROM _lockstep_meta")
	if err != nil {
		return Meta{}, explain(err, "read "+file)
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return Meta{}, explain(err, "read "+file)
		}
		values[name] = value
	}
	if err := rows.Err(); err != nil {
		return Meta{}, explain(err, "read "+file)
	}
	if values["format"] != strconv.Itoa(Format) {
		return Meta{}, fault.New(fault.UnsupportedVersion, "%s is a replica of format %q, and this version knows format %d; it was left as it is: use the version that wrote it, or another path",
			file, values["format"], Format)
	}
	id, err1 := strconv.ParseUint(values["stream_id"], 10, 64)
	partitions, err2 := strconv.ParseUint(values["partitions"], 10, 32)
	seed, err3 := strconv.ParseUint(values["digest_seed"], 10, 64)
	if err := firstOf(err1, err2, err3); err != nil {
		return Meta{}, fault.New(fault.ForeignData, "%s does not say whose replica it is (%w); it was left as it is: move it away or give another path", file, err)
	}
	return Meta{Stream: lane.StreamName(values["stream"]), StreamID: lane.StreamID(id), Partitions: uint32(partitions), DigestSeed: seed}, nil
}

func writeMeta(ctx context.Context, e executor, m Meta) error {
	_, err := e.ExecContext(ctx, "INSERT INTO _lockstep_meta(name,value) VALUES('format',?),('stream',?),('stream_id',?),('partitions',?),('digest_seed',?)",
		strconv.Itoa(Format), string(m.Stream), strconv.FormatUint(uint64(m.StreamID), 10),
		strconv.FormatUint(uint64(m.Partitions), 10), strconv.FormatUint(m.DigestSeed, 10))
	return err
}

func readLanes(ctx context.Context, q querier, m Meta) ([]Lane, error) {
	rows, err := q.QueryContext(ctx, "SELECT partition, epoch, seq, time, digest_sum, digest_count FROM _lockstep_lanes ORDER BY partition")
	if err != nil {
		return nil, explain(err, "read the cursors")
	}
	defer rows.Close()
	var lanes []Lane
	for rows.Next() {
		var l Lane
		var sum string
		if err := rows.Scan(&l.Partition, &l.Cursor.Epoch, &l.Cursor.Sequence, &l.TimeMS, &sum, &l.Set.Count); err != nil {
			return nil, explain(err, "read the cursors")
		}
		if _, err := fmt.Sscanf(sum, "%016x%016x", &l.Set.Sum.Hi, &l.Set.Sum.Lo); err != nil {
			return nil, fault.New(fault.Corrupt, "the digest of partition %d is not readable: %w", l.Partition, err)
		}
		if int(l.Partition) != len(lanes) {
			return nil, fault.New(fault.Corrupt, "the cursor of partition %d is missing", len(lanes))
		}
		lanes = append(lanes, l)
	}
	if err := rows.Err(); err != nil {
		return nil, explain(err, "read the cursors")
	}
	if len(lanes) != int(m.Partitions) {
		return nil, fault.New(fault.Corrupt, "the file has cursors of %d partitions, and its stream has %d", len(lanes), m.Partitions)
	}
	return lanes, nil
}

func writeLane(ctx context.Context, e executor, l Lane) error {
	_, err := e.ExecContext(ctx, "INSERT OR REPLACE INTO _lockstep_lanes(partition,epoch,seq,time,digest_sum,digest_count) VALUES(?,?,?,?,?,?)",
		int64(l.Partition), int64(l.Cursor.Epoch), int64(l.Cursor.Sequence), l.TimeMS, l.Set.Sum.String(), int64(l.Set.Count))
	return err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
