package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// View is a file seen at one moment: one read transaction. One goroutine at a time. For comparing; nothing is written.
type View struct {
	db    *sql.DB
	conn  *sql.Conn
	raw   *sqlite3.SQLiteConn
	meta  Meta
	lanes []Lane
}

// OpenView opens the replica at path (a link or a plain copy), whoever writes it meanwhile.
func OpenView(ctx context.Context, path string) (*View, error) {
	meta, err := Identify(path)
	if err != nil {
		return nil, err
	}
	v := &View{db: sql.OpenDB(connector{path, readOnly}), meta: meta}
	v.db.SetMaxOpenConns(1)
	if v.conn, err = v.db.Conn(ctx); err != nil {
		_ = v.db.Close() // nothing is open
		return nil, explain(err, "open "+path)
	}
	err = v.conn.Raw(func(c any) error {
		v.raw = c.(*sqlite3.SQLiteConn)
		return nil
	})
	if err == nil {
		_, err = v.conn.ExecContext(ctx, "BEGIN")
	}
	if err == nil {
		v.lanes, err = readLanes(ctx, v.conn, meta)
	}
	if err != nil {
		return nil, firstOf(explain(err, "open "+path), v.Close())
	}
	return v, nil
}

// Meta says whose copy the file is.
func (v *View) Meta() Meta { return v.meta }

// Lanes gives the cursors and digests the file remembers.
func (v *View) Lanes() []Lane { return v.lanes }

// Scan gives the digests the rows prove.
func (v *View) Scan() ([]digest.Set, error) {
	sets, err := scan(v.raw, v.meta)
	return sets, explain(err, "read the rows again")
}

// ViewRow is a row without its bytes.
type ViewRow struct {
	Key      string
	Element  digest.Element
	Sequence lane.Sequence
}

// Rows visits the rows of one partition, rising by the bytes of their keys.
func (v *View) Rows(p lane.Partition, visit func(ViewRow) error) error {
	h := digest.NewHasher(v.meta.DigestSeed)
	query := fmt.Sprintf("SELECT %s FROM %s ORDER BY CAST(key AS BLOB)", rowColumns, quoted(string(v.meta.Stream)))
	if v.allText() {
		query = fmt.Sprintf("SELECT %s FROM %s ORDER BY key", rowColumns, quoted(string(v.meta.Stream))) // by the index
	}
	err := each(v.raw, query, columns, func(row []driver.Value) error {
		key, e, seq, _ := element(h, row)
		if lane.Of(key, v.meta.Partitions) != p {
			return nil
		}
		return visit(ViewRow{Key: string(key), Element: e, Sequence: lane.Sequence(seq)})
	})
	return explain(err, "read the rows")
}

// allText reports whether every key is TEXT, so that the index orders them by their bytes.
func (v *View) allText() bool {
	found := false
	err := each(v.raw, "SELECT 1 FROM "+quoted(string(v.meta.Stream))+" WHERE typeof(key)<>'text' LIMIT 1", 1, func([]driver.Value) error {
		found = true
		return nil
	})
	return err == nil && !found
}

// Close ends the transaction.
func (v *View) Close() error {
	return firstOf(v.conn.Close(), v.db.Close())
}
