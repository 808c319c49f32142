package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"sync/atomic"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Reader is a read-only database that follows the swaps: a connection made or taken from the pool after one reads the new
// generation, a query under way finishes on the old one. Safe for concurrent use.
type Reader struct {
	db      *sql.DB
	current atomic.Pointer[served]
	closed  chan struct{}
	closing sync.Once
}

// served is what queries get: a generation, or nothing for now.
type served struct {
	file string // "" for none
	// arrived is closed when there is something else, for queries that wait; nil when they are refused.
	arrived chan struct{}
}

// NewReader makes a Reader of nothing: queries are refused until Follow.
func NewReader() *Reader {
	r := &Reader{closed: make(chan struct{})}
	r.current.Store(&served{})
	r.db = sql.OpenDB(r)
	return r
}

// DB gives the database. It belongs to the Reader: close the Reader, not the DB.
func (r *Reader) DB() *sql.DB { return r.db }

// Follow makes file the generation new queries read, and lets go of idle connections to the one before.
func (r *Reader) Follow(file string) { r.serve(&served{file: file}) }

// Hold lets new queries wait, within their contexts, for the next Follow.
func (r *Reader) Hold() { r.serve(&served{arrived: make(chan struct{})}) }

// Refuse lets new queries fail with fault.Unavailable until the next Follow.
func (r *Reader) Refuse() { r.serve(&served{}) }

func (r *Reader) serve(s *served) {
	before := r.current.Swap(s)
	if before.arrived != nil {
		close(before.arrived)
	}
	r.db.SetMaxIdleConns(0)
	r.db.SetMaxIdleConns(idleReaders)
}

const idleReaders = 4

// Close closes the connections; queries that wait are refused.
func (r *Reader) Close() error {
	r.closing.Do(func() { close(r.closed) })
	return r.db.Close()
}

// Connect makes Reader a driver.Connector.
func (r *Reader) Connect(ctx context.Context) (driver.Conn, error) {
	for {
		s := r.current.Load()
		switch {
		case s.file != "":
			c, err := connect(s.file, readOnly)
			if err != nil {
				return nil, explain(err, "open "+s.file)
			}
			return &readerConn{SQLiteConn: c, of: r, serves: s}, nil
		case s.arrived == nil:
			return nil, fault.New(fault.Unavailable, "the replica has no verified rows yet: wait for WaitSynced, or ask again")
		}
		select {
		case <-s.arrived:
		case <-ctx.Done():
			return nil, fault.New(fault.Unavailable, "the replica is being made anew, and queries wait for that: %w", ctx.Err())
		case <-r.closed:
			return nil, fault.New(fault.Unavailable, "the replica was closed")
		}
	}
}

// Driver makes Reader a driver.Connector.
func (r *Reader) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

// readerConn is a connection that knows which generation it reads.
type readerConn struct {
	*sqlite3.SQLiteConn
	of     *Reader
	serves *served
}

// ResetSession refuses a pooled connection to an old generation: database/sql then takes another.
func (c *readerConn) ResetSession(context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return nil
}

// IsValid keeps connections to an old generation out of the pool.
func (c *readerConn) IsValid() bool { return c.of.current.Load() == c.serves }
