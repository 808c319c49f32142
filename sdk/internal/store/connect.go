package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/url"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// busyTimeoutMS is how long SQLite waits for a lock another connection holds.
const busyTimeoutMS = "10000"

// access is how a connection is opened.
type access int

const (
	readOnly access = iota
	readWrite
	building // a new file nobody else sees: speed before durability, fsynced as a whole at the end
)

func dsn(file string, how access) string {
	q := url.Values{"_busy_timeout": {busyTimeoutMS}}
	switch how {
	case readOnly:
		q.Set("mode", "ro")
		q.Set("_query_only", "1")
	case readWrite:
		q.Set("mode", "rw")
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", "FULL")
		q.Set("_txlock", "immediate")
		q.Set("_cache_size", "-32768")
	case building:
		q.Set("mode", "rwc")
		q.Set("_journal_mode", "MEMORY")
		q.Set("_synchronous", "OFF")
		q.Set("_cache_size", "-65536")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: q.Encode()}
	return u.String()
}

func connect(file string, how access) (*sqlite3.SQLiteConn, error) {
	c, err := (&sqlite3.SQLiteDriver{}).Open(dsn(file, how))
	if err != nil {
		return nil, err
	}
	conn := c.(*sqlite3.SQLiteConn)
	if how == readWrite {
		// A checkpoint writes every changed page once more and waits for the disk: with larger steps pages changed twice are written once.
		if _, err := conn.Exec("PRAGMA wal_autocheckpoint=8192; PRAGMA journal_size_limit=67108864", nil); err != nil {
			return nil, firstOf(err, conn.Close())
		}
	}
	return conn, nil
}

// connector opens connections to one file for database/sql.
type connector struct {
	file string
	how  access
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return connect(c.file, c.how) }
func (c connector) Driver() driver.Driver                        { return &sqlite3.SQLiteDriver{} }

// isHeld reports whether any connection, of this process or another, has the file open. A database in WAL mode can leave that mode
// only while nobody else is connected, and whoever is connected keeps a lock that says so.
func isHeld(file string) bool {
	db := sql.OpenDB(connector{file, readWrite})
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("PRAGMA busy_timeout=0"); err != nil {
		return isBusy(err)
	}
	var mode string
	if err := db.QueryRow("PRAGMA journal_mode=DELETE").Scan(&mode); err != nil {
		return isBusy(err) // a file that is no database is held by nobody
	}
	return mode == "wal"
}
