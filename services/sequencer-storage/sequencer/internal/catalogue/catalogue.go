package catalogue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/mattn/go-sqlite3"
	"google.golang.org/protobuf/proto"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

const schema = `
CREATE TABLE IF NOT EXISTS streams (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	name        TEXT NOT NULL,
	spec        BLOB NOT NULL,              -- lockstep.stream.v1.StreamSpec
	created_ms  INTEGER NOT NULL,
	digest_seed INTEGER NOT NULL,
	deleted     INTEGER NOT NULL DEFAULT 0  -- its lanes are being freed
);
CREATE UNIQUE INDEX IF NOT EXISTS stream_names ON streams(name) WHERE deleted = 0;
CREATE TABLE IF NOT EXISTS lanes (
	number    INTEGER PRIMARY KEY AUTOINCREMENT,
	stream_id INTEGER NOT NULL REFERENCES streams(id),
	partition INTEGER NOT NULL,
	epoch     INTEGER NOT NULL DEFAULT 1,
	head      INTEGER NOT NULL DEFAULT 1,
	floor     INTEGER NOT NULL DEFAULT 0,              -- everything up to here was freed
	floor_chain BLOB NOT NULL DEFAULT (zeroblob(16)),  -- the chain value behind it
	UNIQUE (stream_id, partition)
);
CREATE TABLE IF NOT EXISTS segments (number INTEGER PRIMARY KEY, sealed_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS extents (
	segment  INTEGER NOT NULL,
	lane     INTEGER NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	first_ms INTEGER NOT NULL,
	last_ms  INTEGER NOT NULL,
	chain    BLOB NOT NULL,
	PRIMARY KEY (segment, lane)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
	id        BLOB PRIMARY KEY,              -- also the name of its file
	lane      INTEGER NOT NULL,
	epoch     INTEGER NOT NULL,
	sequence  INTEGER NOT NULL,
	row_count INTEGER NOT NULL,
	bytes     INTEGER NOT NULL,
	made_ms   INTEGER NOT NULL,
	leased_until_ms INTEGER NOT NULL         -- kept at least until then
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS producers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, opened_ms INTEGER NOT NULL) WITHOUT ROWID;
`

// Catalogue is the open file. Safe for concurrent use; changes are one after another.
type Catalogue struct{ db *sql.DB }

// Open opens the file, making it unless readOnly. Faults: ForeignData when it is something else, Corrupt.
func Open(path string, readOnly bool) (*Catalogue, error) {
	q := url.Values{"_busy_timeout": {"5000"}, "_foreign_keys": {"on"}, "_txlock": {"immediate"}}
	if readOnly {
		q.Set("mode", "ro")
	} else {
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", "FULL") // I1
	}
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("opening the catalogue: %w", err)
	}
	db.SetMaxOpenConns(1)
	if !readOnly {
		_, err = db.Exec(schema)
	} else {
		err = db.Ping()
	}
	if err != nil {
		db.Close()
		return nil, translate("opening the catalogue "+path, err)
	}
	return &Catalogue{db: db}, nil
}

// Close ends it.
func (c *Catalogue) Close() error { return c.db.Close() }

// Stream is a stream and its lanes as they are written down.
type Stream struct {
	ID         lane.StreamID
	Spec       *streamv1.StreamSpec
	CreatedMS  int64
	DigestSeed uint64
	Deleted    bool
	Lanes      []Lane
}

// Lane is what only the catalogue knows of a lane.
type Lane struct {
	Number     segment.LaneNumber
	Partition  lane.Partition
	Epoch      lane.Epoch
	Head       lane.Sequence
	Floor      lane.Sequence
	FloorChain batch.Chain
}

// Streams gives every stream, the deleted ones that are not freed yet too, by id.
func (c *Catalogue) Streams() ([]Stream, error) {
	rows, err := c.db.Query(`SELECT id, spec, created_ms, digest_seed, deleted FROM streams ORDER BY id`)
	if err != nil {
		return nil, translate("reading streams", err)
	}
	defer rows.Close()
	var streams []Stream
	byID := map[lane.StreamID]int{}
	for rows.Next() {
		var s Stream
		var spec []byte
		var seed int64
		if err := rows.Scan(&s.ID, &spec, &s.CreatedMS, &seed, &s.Deleted); err != nil {
			return nil, translate("reading streams", err)
		}
		s.DigestSeed, s.Spec = uint64(seed), new(streamv1.StreamSpec)
		if err := proto.Unmarshal(spec, s.Spec); err != nil {
			return nil, fault.New(fault.Corrupt, "the catalogue's row of stream %d does not decode: %w", s.ID, err)
		}
		byID[s.ID] = len(streams)
		streams = append(streams, s)
	}
	if err := rows.Err(); err != nil {
		return nil, translate("reading streams", err)
	}
	rows.Close()
	lanes, err := c.db.Query(`SELECT stream_id, number, partition, epoch, head, floor, floor_chain FROM lanes ORDER BY stream_id, partition`)
	if err != nil {
		return nil, translate("reading lanes", err)
	}
	defer lanes.Close()
	for lanes.Next() {
		var id lane.StreamID
		var l Lane
		var chain []byte
		if err := lanes.Scan(&id, &l.Number, &l.Partition, &l.Epoch, &l.Head, &l.Floor, &chain); err != nil {
			return nil, translate("reading lanes", err)
		}
		copy(l.FloorChain[:], chain)
		if at, ok := byID[id]; ok {
			streams[at].Lanes = append(streams[at].Lanes, l)
		}
	}
	return streams, translate("reading lanes", lanes.Err())
}

// CreateStream writes a stream with its lanes down and gives it as written. Fault: StreamExists.
func (c *Catalogue) CreateStream(spec *streamv1.StreamSpec, createdMS int64, seed uint64) (Stream, error) {
	s := Stream{Spec: spec, CreatedMS: createdMS, DigestSeed: seed}
	text, err := proto.Marshal(spec)
	if err != nil {
		return s, err
	}
	err = c.change("creating a stream", func(tx *sql.Tx) error {
		r, err := tx.Exec(`INSERT INTO streams(name, spec, created_ms, digest_seed) VALUES (?, ?, ?, ?)`, spec.GetName(), text, createdMS, int64(seed))
		var exists sqlite3.Error
		if errors.As(err, &exists) && exists.Code == sqlite3.ErrConstraint {
			return fault.New(fault.StreamExists, "stream %q exists already", spec.GetName())
		}
		if err != nil {
			return err
		}
		id, err := r.LastInsertId()
		if err != nil {
			return err
		}
		s.ID = lane.StreamID(id)
		for p := range spec.GetPartitions() {
			r, err := tx.Exec(`INSERT INTO lanes(stream_id, partition) VALUES (?, ?)`, id, p)
			if err != nil {
				return err
			}
			number, err := r.LastInsertId()
			if err != nil {
				return err
			}
			s.Lanes = append(s.Lanes, Lane{Number: segment.LaneNumber(number), Partition: lane.Partition(p), Epoch: 1, Head: 1})
		}
		return nil
	})
	return s, err
}

// DeleteStream marks the stream: its name is free at once, its lanes are freed later.
func (c *Catalogue) DeleteStream(id lane.StreamID) error {
	return c.change("deleting a stream", func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE streams SET deleted = 1 WHERE id = ?`, int64(id))
		return err
	})
}

// ForgetStream removes a deleted stream whose lanes hold nothing any more.
func (c *Catalogue) ForgetStream(id lane.StreamID) error {
	return c.change("forgetting a stream", func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM lanes WHERE stream_id = ? AND EXISTS (SELECT 1 FROM streams WHERE id = ? AND deleted = 1)`, int64(id), int64(id)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM streams WHERE id = ? AND deleted = 1`, int64(id))
		return err
	})
}

// OpenProducer gives the producer's next epoch, 1 for the first.
func (c *Catalogue) OpenProducer(id string, nowMS int64) (epoch uint64, err error) {
	err = c.change("opening a producer", func(tx *sql.Tx) error {
		return tx.QueryRow(`INSERT INTO producers(id, epoch, opened_ms) VALUES (?, 1, ?)
			ON CONFLICT(id) DO UPDATE SET epoch = epoch + 1, opened_ms = excluded.opened_ms RETURNING epoch`, id, nowMS).Scan(&epoch)
	})
	return epoch, err
}

// ProducerEpoch gives the newest epoch of a producer, 0 when it was never opened.
func (c *Catalogue) ProducerEpoch(ctx context.Context, id string) (epoch uint64, err error) {
	err = c.db.QueryRowContext(ctx, `SELECT epoch FROM producers WHERE id = ?`, id).Scan(&epoch)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return epoch, translate("looking up a producer", err)
}

// change runs f in one durable transaction (I1).
func (c *Catalogue) change(what string, f func(*sql.Tx) error) error {
	tx, err := c.db.Begin()
	if err != nil {
		return translate(what, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := f(tx); err != nil {
		return translate(what, err)
	}
	return translate(what, tx.Commit())
}

// translate keeps faults and makes SQLite's errors ones.
func translate(doing string, err error) error {
	var f *fault.Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	var s sqlite3.Error
	if errors.As(err, &s) {
		switch s.Code {
		case sqlite3.ErrNotADB:
			return fault.New(fault.ForeignData, "%s: the file is not a database: %w", doing, err)
		case sqlite3.ErrCorrupt:
			return fault.New(fault.Corrupt, "%s: %w", doing, err)
		case sqlite3.ErrFull:
			return fault.New(fault.DiskFull, "%s: %w", doing, err)
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
