package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"unicode/utf8"
	"unsafe"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

const (
	rowColumns = "key,value,headers,seq,time"
	columns    = 5
)

// text views b as a string without copying; SQLite copies what is bound before the statement returns.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf views s as bytes without copying; they are only read.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// isText says how a value is stored (I5).
func isText(value []byte) bool { return utf8.Valid(value) && bytes.IndexByte(value, 0) < 0 }

// bindRow puts r into the five arguments of a statement that begin at args[0].
func bindRow(args []driver.NamedValue, r *record.Record) {
	args[0].Value = text(r.Key)
	if isText(r.Value) {
		args[1].Value = text(r.Value)
	} else {
		args[1].Value = r.Value
	}
	args[2].Value = nil
	if len(r.Headers) > 0 {
		args[2].Value = text(r.Headers)
	}
	args[3].Value = int64(r.Sequence)
	args[4].Value = r.TimeMS
}

// element hashes a row as it was read from the file; odd tells that no record has this shape (I5). The key aliases the row.
func element(h *digest.Hasher, row []driver.Value) (key []byte, e digest.Element, sequence uint64, odd bool) {
	var value, headers []byte
	switch k := row[0].(type) {
	case string:
		key = bytesOf(k)
	case []byte:
		key, odd = k, true
	default:
		odd = true
	}
	switch v := row[1].(type) {
	case string:
		value = bytesOf(v)
		odd = odd || !isText(value)
	case []byte:
		value = v
		odd = odd || isText(value)
	default:
		odd = true
	}
	switch t := row[2].(type) {
	case nil:
	case string:
		headers = bytesOf(t)
		odd = odd || len(headers) == 0
	default:
		odd = true
	}
	seq, ok1 := row[3].(int64)
	timeMS, ok2 := row[4].(int64)
	odd = odd || !ok1 || !ok2
	e = h.Row(key, uint64(seq), timeMS, headers, value)
	if odd {
		e.Hi, e.Lo = ^e.Hi, ^e.Lo // never what a record of the same bytes hashes to, in either half
	}
	return key, e, uint64(seq), odd
}

// each runs a query on a direct connection and visits its rows; they are only valid during the call.
func each(c *sqlite3.SQLiteConn, query string, width int, visit func([]driver.Value) error) error {
	rows, err := c.QueryContext(context.Background(), query, nil)
	if err != nil {
		return err
	}
	return drain(rows, width, visit)
}

func drain(rows driver.Rows, width int, visit func([]driver.Value) error) (err error) {
	defer func() { err = firstOf(err, rows.Close()) }()
	dest := make([]driver.Value, width)
	for {
		if err := rows.Next(dest); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := visit(dest); err != nil {
			return err
		}
	}
}
