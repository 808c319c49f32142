package store

import (
	"context"
	"database/sql/driver"
	"errors"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
)

// Survey is what one reading of all rows gives.
type Survey struct {
	// Sets are the digests the rows prove, by partition.
	Sets []digest.Set
	// IDs are the element IDs of the rows of those partitions that were asked for: 8 bytes a row.
	IDs map[lane.Partition][]sketch.ID
}

// Row is a row as it lies in a file, whatever its shape.
type Row struct {
	ID       int64 // SQLite's rowid
	Key      string
	Sequence lane.Sequence
	Element  digest.Element
}

// Survey reads every row. Of the partitions that want says, the IDs are kept; nil means of none.
func (g *Generation) Survey(want func(lane.Partition) bool) (Survey, error) {
	s, err := survey(g.raw, g.meta, want)
	return s, explain(err, "read the rows again")
}

// Survey is Generation's of a file seen at one moment.
func (v *View) Survey(want func(lane.Partition) bool) (Survey, error) {
	s, err := survey(v.raw, v.meta, want)
	return s, explain(err, "read the rows again")
}

func survey(c *sqlite3.SQLiteConn, m Meta, want func(lane.Partition) bool) (Survey, error) {
	s := Survey{Sets: make([]digest.Set, max(1, m.Partitions)), IDs: map[lane.Partition][]sketch.ID{}}
	wanted := make([]bool, len(s.Sets))
	for p := range wanted {
		wanted[p] = want != nil && want(lane.Partition(p))
	}
	h := digest.NewHasher(m.DigestSeed)
	err := each(c, "SELECT "+rowColumns+" FROM "+quoted(string(m.Stream)), columns, func(row []driver.Value) error {
		key, e, _, _ := element(h, row)
		p := lane.Of(key, m.Partitions)
		s.Sets[p].Add(e)
		if wanted[p] {
			s.IDs[p] = append(s.IDs[p], sketch.IDOf(e))
		}
		return nil
	})
	return s, err
}

// Locate visits the rows of a partition whose element IDs are among ids.
func (g *Generation) Locate(p lane.Partition, ids []sketch.ID, visit func(Row) error) error {
	return explain(locate(g.raw, g.meta, p, ids, visit), "find rows")
}

// Locate is Generation's of a file seen at one moment.
func (v *View) Locate(p lane.Partition, ids []sketch.ID, visit func(Row) error) error {
	return explain(locate(v.raw, v.meta, p, ids, visit), "find rows")
}

func locate(c *sqlite3.SQLiteConn, m Meta, p lane.Partition, ids []sketch.ID, visit func(Row) error) error {
	if len(ids) == 0 {
		return nil
	}
	wanted := make(map[sketch.ID]struct{}, len(ids))
	for _, id := range ids {
		wanted[id] = struct{}{}
	}
	h := digest.NewHasher(m.DigestSeed)
	return each(c, "SELECT "+rowColumns+",rowid FROM "+quoted(string(m.Stream)), columns+1, func(row []driver.Value) error {
		key, e, sequence, _ := element(h, row)
		if _, ok := wanted[sketch.IDOf(e)]; !ok || lane.Of(key, m.Partitions) != p {
			return nil
		}
		return visit(Row{ID: row[columns].(int64), Key: string(key), Sequence: lane.Sequence(sequence), Element: e})
	})
}

// DeleteRows removes rows by their rowid: also those whose key no statement could name.
func (t *Tx) DeleteRows(ids []int64) error {
	err := t.g.exec(func(n int) string {
		return "DELETE FROM " + t.g.table + " WHERE rowid IN " + placeholders(1, n)
	}, len(ids), 1, func(args []driver.NamedValue, i int) { args[0].Value = ids[i] })
	return explain(err, "delete rows")
}

// Slice is some rows that follow each other by key.
type Slice struct {
	// Last is the key of the last row; More tells that there may be more behind it.
	Last string
	More bool
	// Odd tells that a row had a shape no record has; the slice ends there.
	Odd bool
}

// errOdd ends a Slice.
var errOdd = errors.New("a row of a shape that no record has")

// Slice reads at most n rows behind the key after (from the first when it is empty) and visits their keys and elements.
func (g *Generation) Slice(after string, n int, visit func(key []byte, e digest.Element)) (Slice, error) {
	compare := ">"
	if after == "" {
		compare = ">="
	}
	stmt, err := g.prepared("SELECT " + rowColumns + " FROM " + g.table + " WHERE key " + compare + " ? ORDER BY key LIMIT ?")
	if err != nil {
		return Slice{}, explain(err, "read rows")
	}
	args := g.arguments(2)
	args[0].Value, args[1].Value = after, int64(n)
	rows, err := stmt.QueryContext(context.Background(), args)
	if err != nil {
		return Slice{}, explain(err, "read rows")
	}
	h := digest.NewHasher(g.meta.DigestSeed)
	s, read := Slice{Last: after}, 0
	err = drain(rows, columns, func(row []driver.Value) error {
		key, e, _, odd := element(h, row)
		if odd {
			return errOdd
		}
		visit(key, e)
		if read++; read == n {
			s.Last, s.More = string(key), true
		}
		return nil
	})
	if errors.Is(err, errOdd) {
		s.Odd, err = true, nil
	}
	return s, explain(err, "read rows")
}
