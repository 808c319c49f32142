package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Reader is a read-only database that follows the swaps: a connection made or taken from the pool after one reads the new
// generation, a query under way finishes on the old one. Safe for concurrent use.
type Reader struct {
	db      *sql.DB
	current atomic.Pointer[string]
}

// NewReader makes a Reader of nothing: queries are refused until Follow.
func NewReader() *Reader {
	r := &Reader{}
	r.db = sql.OpenDB(r)
	return r
}

// DB gives the database. It belongs to the Reader: close the Reader, not the DB.
func (r *Reader) DB() *sql.DB { return r.db }

// Follow makes file the generation new queries read, and lets go of idle connections to the one before.
func (r *Reader) Follow(file string) {
	r.current.Store(&file)
	r.db.SetMaxIdleConns(0)
	r.db.SetMaxIdleConns(idleReaders)
}

const idleReaders = 4

// Close closes the connections.
func (r *Reader) Close() error { return r.db.Close() }

// Connect makes Reader a driver.Connector.
func (r *Reader) Connect(context.Context) (driver.Conn, error) {
	file := r.current.Load()
	if file == nil {
		return nil, fault.New(fault.Unavailable, "the replica has no verified rows yet: wait for WaitSynced, or ask again")
	}
	c, err := connect(*file, readOnly)
	if err != nil {
		return nil, explain(err, "open "+*file)
	}
	return &readerConn{SQLiteConn: c, of: r, file: file}, nil
}

// Driver makes Reader a driver.Connector.
func (r *Reader) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

// readerConn is a connection that knows which generation it reads.
type readerConn struct {
	*sqlite3.SQLiteConn
	of   *Reader
	file *string
}

// ResetSession refuses a pooled connection to an old generation: database/sql then takes another.
func (c *readerConn) ResetSession(context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return nil
}

// IsValid keeps connections to an old generation out of the pool.
func (c *readerConn) IsValid() bool { return c.of.current.Load() == c.file }
