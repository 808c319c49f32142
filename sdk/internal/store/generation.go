package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// rowsPerStatement is how many rows one statement carries: beyond some tens the saving per row is gone.
const rowsPerStatement = 32

// Generation is one file open for writing. One goroutine at a time.
type Generation struct {
	file  string
	meta  Meta
	db    *sql.DB
	conn  *sql.Conn
	raw   *sqlite3.SQLiteConn // conn's own; nobody else uses it, so it may be kept
	stmts map[string]*sqlite3.SQLiteStmt
	table string // quoted
	args  []driver.NamedValue
}

// Open opens the file, which must hold the named stream, for writing and gives its lanes. Faults: ForeignData, UnsupportedVersion,
// Corrupt.
func Open(ctx context.Context, file string, stream lane.StreamName) (*Generation, []Lane, error) {
	meta, err := Identify(file) // looked at before anything can be written (I4)
	if err != nil {
		return nil, nil, err
	}
	if meta.Stream != stream {
		return nil, nil, foreign(file, meta, stream)
	}
	g, err := open(ctx, file, readWrite)
	if err != nil {
		return nil, nil, explain(err, "open "+file)
	}
	g.adopt(meta)
	lanes, err := readLanes(ctx, g.conn, meta)
	if err != nil {
		g.Close()
		return nil, nil, err
	}
	return g, lanes, nil
}

func open(ctx context.Context, file string, how access) (*Generation, error) {
	g := &Generation{file: file, db: sql.OpenDB(connector{file, how}), stmts: map[string]*sqlite3.SQLiteStmt{}}
	g.db.SetMaxOpenConns(1)
	var err error
	if g.conn, err = g.db.Conn(ctx); err != nil {
		_ = g.db.Close() // nothing is open
		return nil, err
	}
	err = g.conn.Raw(func(c any) error {
		g.raw = c.(*sqlite3.SQLiteConn)
		return nil
	})
	return g, err
}

func (g *Generation) adopt(m Meta) {
	g.meta, g.table = m, quoted(string(m.Stream))
}

// Meta says whose copy the file is.
func (g *Generation) Meta() Meta { return g.meta }

// File is the generation's own path.
func (g *Generation) File() string { return g.file }

// Close closes the file; what was not committed is rolled back.
func (g *Generation) Close() error {
	for _, s := range g.stmts {
		_ = s.Close() // only reading memory back
	}
	return firstOf(g.conn.Close(), g.db.Close())
}

// prepared keeps one statement per text for the life of the connection.
func (g *Generation) prepared(query string) (*sqlite3.SQLiteStmt, error) {
	if s := g.stmts[query]; s != nil {
		return s, nil
	}
	s, err := g.raw.Prepare(query)
	if err != nil {
		return nil, err
	}
	g.stmts[query] = s.(*sqlite3.SQLiteStmt)
	return g.stmts[query], nil
}

// arguments gives n arguments, numbered, to be filled.
func (g *Generation) arguments(n int) []driver.NamedValue {
	for len(g.args) < n {
		g.args = append(g.args, driver.NamedValue{Ordinal: len(g.args) + 1})
	}
	return g.args[:n]
}

// exec runs a statement made by query for groups of at most rowsPerStatement things.
func (g *Generation) exec(query func(n int) string, n, width int, bind func(args []driver.NamedValue, i int)) error {
	for i := 0; i < n; {
		group := min(rowsPerStatement, n-i)
		if group < rowsPerStatement {
			group = 1 // two statements per purpose are kept, not thirty-two
		}
		stmt, err := g.prepared(query(group))
		if err != nil {
			return err
		}
		args := g.arguments(group * width)
		for j := range group {
			bind(args[j*width:], i+j)
		}
		if _, err := stmt.ExecContext(context.Background(), args); err != nil {
			return err
		}
		i += group
	}
	return nil
}

func placeholders(n, width int) string {
	one := "(" + strings.TrimSuffix(strings.Repeat("?,", width), ",") + ")"
	return strings.TrimSuffix(strings.Repeat(one+",", n), ",")
}

// Tx is one step of a replica's life: rows, cursors and digests together (I1). End it with Commit or Rollback.
type Tx struct {
	g  *Generation
	tx *sql.Tx
}

// Begin starts a transaction; there is one at a time.
func (g *Generation) Begin() (*Tx, error) {
	tx, err := g.conn.BeginTx(context.Background(), nil)
	if err != nil {
		return nil, explain(err, "begin")
	}
	return &Tx{g, tx}, nil
}

// SQL gives the same transaction as database/sql knows it, for the user's own tables.
func (t *Tx) SQL() *sql.Tx { return t.tx }

// Elements hands out the element of every row that exists among keys.
func (t *Tx) Elements(keys []string, h *digest.Hasher, visit func(key string, e digest.Element)) error {
	for len(keys) > 0 {
		n := min(rowsPerStatement, len(keys))
		if n < rowsPerStatement {
			n = 1
		}
		stmt, err := t.g.prepared("SELECT " + rowColumns + " FROM " + t.g.table + " WHERE key IN " + placeholders(1, n))
		if err != nil {
			return explain(err, "read rows")
		}
		args := t.g.arguments(n)
		for i := range n {
			args[i].Value = keys[i]
		}
		rows, err := stmt.QueryContext(context.Background(), args)
		if err != nil {
			return explain(err, "read rows")
		}
		err = drain(rows, columns, func(row []driver.Value) error {
			key, e, _, _ := element(h, row)
			visit(string(key), e)
			return nil
		})
		if err != nil {
			return explain(err, "read rows")
		}
		keys = keys[n:]
	}
	return nil
}

// Upsert writes rows, each key at most once.
func (t *Tx) Upsert(rows []*record.Record) error {
	err := t.g.exec(func(n int) string {
		return "INSERT INTO " + t.g.table + "(" + rowColumns + ") VALUES " + placeholders(n, columns) +
			" ON CONFLICT(key) DO UPDATE SET value=excluded.value,headers=excluded.headers,seq=excluded.seq,time=excluded.time"
	}, len(rows), columns, func(args []driver.NamedValue, i int) { bindRow(args, rows[i]) })
	return explain(err, "write rows")
}

// Delete removes rows.
func (t *Tx) Delete(keys []string) error {
	err := t.g.exec(func(n int) string {
		return "DELETE FROM " + t.g.table + " WHERE key IN " + placeholders(1, n)
	}, len(keys), 1, func(args []driver.NamedValue, i int) { args[0].Value = keys[i] })
	return explain(err, "delete rows")
}

// SetLane moves a cursor and its digest.
func (t *Tx) SetLane(l Lane) error {
	return explain(writeLane(context.Background(), t.tx, l), "move the cursor")
}

// Commit makes the step durable.
func (t *Tx) Commit() error { return explain(t.tx.Commit(), "commit") }

// Rollback undoes the step; after Commit it does nothing.
func (t *Tx) Rollback() { _ = t.tx.Rollback() } // its only error is that it ended before

// Scan reads every row again and gives the digest of each partition: what the file proves to be, whatever it remembers.
func (g *Generation) Scan() ([]digest.Set, error) {
	sets, err := scan(g.raw, g.meta)
	return sets, explain(err, "read the rows again")
}

func scan(c *sqlite3.SQLiteConn, m Meta) ([]digest.Set, error) {
	s, err := survey(c, m, nil)
	return s.Sets, err
}
