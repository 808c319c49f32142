package pages

import (
	"bytes"
	"io"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Table is what the file will hold.
type Table struct {
	Name string
	// SQL is the statement that makes the table, as the schema keeps it.
	SQL string
}

// Writer makes the file of a database with one table: Add for every row, then Finish. One goroutine at a time.
type Writer struct {
	to      io.WriterAt
	table   Table
	out     *sheets
	leaf    node   // of the table
	rows    int64  // the last rowid given
	above   *level // of leaf; nil while that is the root
	index   *level
	lastKey []byte
	payload []byte // of a row that does not fit into a page
	entry   []byte // of the index
}

// NewWriter begins a file in to, which is empty.
func NewWriter(to io.WriterAt, t Table) *Writer {
	return newWriter(to, t, newSheets(to, IndexRoot+1))
}

func newWriter(to io.WriterAt, t Table, out *sheets) *Writer {
	return &Writer{to: to, table: t, out: out, leaf: newNode(tableLeaf, 0), index: newLevel(out, indexLeaf)}
}

// Rows is how many rows were added.
func (w *Writer) Rows() uint64 { return uint64(w.rows) }

// Bytes is how long the file is so far.
func (w *Writer) Bytes() int64 { return int64(w.out.next-1) * pageBytes }

// Add writes a row; its slices are only read. Fault: Malformed when its key does not rise above the one before.
func (w *Writer) Add(r *record.Record) error {
	if w.rows > 0 && bytes.Compare(r.Key, w.lastKey) <= 0 {
		return fault.New(fault.Malformed, "the rows do not rise by key: %.100q comes after %.100q", r.Key, w.lastKey)
	}
	w.lastKey = append(w.lastKey[:0], r.Key...)
	w.rows++
	w.addRow(r)
	w.addEntry(r.Key)
	return w.out.err
}

// addRow puts the row into the table.
func (w *Writer) addRow(r *record.Record) {
	var memory [64]byte
	seqType, seqSize := intType(int64(r.Sequence))
	timeType, timeSize := intType(r.TimeMS)
	types := appendVarint(memory[1:1], textType(r.Key))
	types = appendVarint(types, valueType(r.Value))
	types = appendVarint(types, headersType(r.Headers))
	types = append(types, byte(seqType), byte(timeType))
	header := memory[:1+len(types)] // at most 3+4+4+2 types: its length is one byte
	header[0] = byte(len(header))
	size := len(header) + len(r.Key) + len(r.Value) + len(r.Headers) + seqSize + timeSize

	var frame [18]byte
	prefix := appendVarint(frame[:0], uint64(size))
	prefix = appendVarint(prefix, uint64(w.rows))
	if size <= maxLocalTable {
		cell := w.room(len(prefix) + size)[:0]
		cell = append(cell, prefix...)
		_ = appendPayload(cell, header, r, seqSize, timeSize)
		return
	}
	w.payload = appendPayload(w.payload[:0], header, r, seqSize, timeSize)
	local := localBytes(size, maxLocalTable)
	first := w.out.overflow(w.payload[local:])
	cell := w.room(len(prefix) + local + 4)[:0]
	cell = append(cell, prefix...)
	cell = append(cell, w.payload[:local]...)
	_ = be.AppendUint32(cell, first)
}

func appendPayload(b, header []byte, r *record.Record, seqSize, timeSize int) []byte {
	b = append(b, header...)
	b = append(b, r.Key...)
	b = append(b, r.Value...)
	b = append(b, r.Headers...)
	b = appendInt(b, int64(r.Sequence), seqSize)
	return appendInt(b, r.TimeMS, timeSize)
}

// room makes a cell in the table's leaf, after writing it when it is full.
func (w *Writer) room(size int) []byte {
	if !w.leaf.fits(size) {
		w.flushLeaf(w.rows - 1)
	}
	return w.leaf.take(size)
}

// flushLeaf writes the leaf that ends with a rowid.
func (w *Writer) flushLeaf(last int64) {
	if w.above == nil {
		w.above = newLevel(w.out, tableInterior)
	}
	var memory [9]byte
	w.above.add(w.out.write(w.leaf.sealed()), appendVarint(memory[:0], uint64(last)))
	w.leaf.reset()
}

// addEntry puts (key, rowid) into the index.
func (w *Writer) addEntry(key []byte) {
	rowType, rowSize := intType(w.rows)
	var memory [8]byte
	types := appendVarint(memory[1:1], textType(key))
	types = append(types, byte(rowType))
	header := memory[:1+len(types)]
	header[0] = byte(len(header))
	size := len(header) + len(key) + rowSize
	b := appendVarint(w.entry[:0], uint64(size))
	from := len(b)
	b = append(b, header...)
	b = append(b, key...)
	b = appendInt(b, w.rows, rowSize)
	if size > maxLocalIndex {
		local := from + localBytes(size, maxLocalIndex)
		first := w.out.overflow(b[local:])
		b = be.AppendUint32(b[:local], first)
	}
	w.entry = b
	w.index.add(0, b)
}

// Finish writes what is left. The file is whole then, but not fsynced.
func (w *Writer) Finish() error {
	var table []byte
	if w.above == nil {
		table = w.leaf.sealed()
	} else {
		table = w.above.finish(w.out.write(w.leaf.sealed()))
	}
	index := w.index.finish(0)
	w.out.flush()
	if w.out.err != nil {
		return w.out.err
	}
	first, err := w.firstPage()
	if err != nil {
		return err
	}
	for i, page := range [][]byte{first, table, index} {
		if _, err := w.to.WriteAt(page, int64(i)*pageBytes); err != nil {
			return err
		}
	}
	return nil
}

// firstPage makes the file's header and its schema.
func (w *Writer) firstPage() ([]byte, error) {
	p := newNode(tableLeaf, headerBytes)
	auto := "sqlite_autoindex_" + w.table.Name + "_1"
	for i, row := range []struct {
		kind, name, sql string
		root            byte
	}{{"table", w.table.Name, w.table.SQL, TableRoot}, {"index", auto, "", IndexRoot}} {
		cell := schemaCell(int64(i+1), row.kind, row.name, w.table.Name, row.root, row.sql)
		if !p.fits(len(cell)) || len(cell) > maxLocalTable {
			return nil, fault.New(fault.InvalidArgument, "the schema of table %.100q does not fit into a page", w.table.Name)
		}
		copy(p.take(len(cell)), cell)
	}
	b := p.sealed()
	copy(b, "SQLite format 3\x00")
	be.PutUint16(b[16:], pageBytes)
	b[18], b[19] = 1, 1                // written and read as a rollback journal wants it; SQLite turns to WAL by itself
	b[21], b[22], b[23] = 64, 32, 32   // fixed by the format
	be.PutUint32(b[24:], 1)            // change counter
	be.PutUint32(b[28:], w.out.next-1) // pages
	be.PutUint32(b[40:], 1)            // schema cookie
	be.PutUint32(b[44:], 4)            // schema format
	be.PutUint32(b[56:], 1)            // UTF-8
	be.PutUint32(b[92:], 1)            // the change counter for which the version below is true
	be.PutUint32(b[96:], sqliteVersion)
	return b, nil
}

// schemaCell is a row of the schema: type, name, table, root page, SQL.
func schemaCell(rowid int64, kind, name, table string, root byte, sql string) []byte {
	types := appendVarint(nil, textType([]byte(kind)))
	types = appendVarint(types, textType([]byte(name)))
	types = appendVarint(types, textType([]byte(table)))
	types = append(types, 1)
	types = appendVarint(types, headersType([]byte(sql)))
	payload := append([]byte{byte(1 + len(types))}, types...)
	payload = append(payload, kind...)
	payload = append(payload, name...)
	payload = append(payload, table...)
	payload = append(payload, root)
	payload = append(payload, sql...)
	cell := appendVarint(nil, uint64(len(payload)))
	cell = appendVarint(cell, uint64(rowid))
	return append(cell, payload...)
}
