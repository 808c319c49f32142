package pages

import (
	"bytes"
	"context"

	"github.com/zeebo/xxh3"
)

// pairs is the sum of the hashes of (key, rowid), whatever their order: the table's and the index's are equal exactly when each row is
// found by its key.
type pairs struct{ sum, count uint64 }

func (p *pairs) add(key []byte, rowid int64) {
	p.sum += xxh3.HashSeed(key, uint64(rowid))
	p.count++
}

func (p *pairs) merge(o pairs) {
	p.sum += o.sum
	p.count += o.count
}

// indexReader walks an index in its order, and refuses entries that do not rise.
type indexReader struct {
	s       Source
	found   pairs
	visited uint32
	before  []byte // the key before
	payload []byte // of an entry with overflow pages
}

// walk visits the subtree of a page.
func (r *indexReader) walk(ctx context.Context, page uint32, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.visited++; depth > maxDepth || r.visited > r.s.pages() {
		return broken(page, "the index goes in circles")
	}
	b, err := r.s.read(page)
	if err != nil {
		return err
	}
	pointers := 8
	switch b[0] {
	case indexLeaf:
	case indexInterior:
		pointers = 12
	default:
		return broken(page, "it belongs to another tree")
	}
	n := int(be.Uint16(b[3:]))
	if pointers+2*n > pageBytes {
		return broken(page, "it has too many cells")
	}
	for i := range n {
		at := int(be.Uint16(b[pointers+2*i:]))
		if at < pointers+2*n || at+4 > pageBytes {
			return broken(page, "a cell lies outside")
		}
		if b[0] == indexInterior {
			if err := r.walk(ctx, be.Uint32(b[at:]), depth+1); err != nil {
				return err
			}
			at += 4
		}
		if err := r.cell(page, b, at); err != nil {
			return err
		}
	}
	if b[0] == indexLeaf {
		return nil
	}
	return r.walk(ctx, be.Uint32(b[8:]), depth+1)
}

// cell reads the entry at b[at:].
func (r *indexReader) cell(page uint32, b []byte, at int) error {
	size64, n := varint(b[at:])
	if n == 0 || size64 > maxPayload {
		return broken(page, "an entry is too long")
	}
	at += n
	size := int(size64)
	local := localBytes(size, maxLocalIndex)
	if local == size {
		if at+size > pageBytes {
			return broken(page, "an entry does not end")
		}
		return r.entry(page, b[at:at+size])
	}
	if at+local+4 > pageBytes {
		return broken(page, "an entry does not end")
	}
	r.payload = append(r.payload[:0], b[at:at+local]...)
	next := be.Uint32(b[at+local:])
	for len(r.payload) < size {
		o, err := r.s.read(next)
		if err != nil {
			return err
		}
		next = be.Uint32(o)
		r.payload = append(r.payload, o[4:4+min(pageBytes-4, size-len(r.payload))]...)
	}
	if next != 0 {
		return broken(page, "an entry goes on behind its end")
	}
	return r.entry(page, r.payload)
}

// entry takes (key, rowid).
func (r *indexReader) entry(page uint32, b []byte) error {
	header, n := varint(b)
	if n != 1 || header == 0 || header > uint64(len(b)) {
		return broken(page, "an entry has another header")
	}
	keyType, n := varint(b[1:header])
	if n == 0 || keyType < typeText || keyType%2 == 0 {
		return broken(page, "an entry has other types")
	}
	rowType, m := varint(b[1+n : header])
	at := 1 + n + m
	size := intBytes(rowType)
	if m == 0 || at != int(header) || size < 0 {
		return broken(page, "an entry has other types")
	}
	key := cut(b, &at, (keyType-typeText)/2)
	rowid := cut(b, &at, uint64(size))
	if at != len(b) {
		return broken(page, "an entry has other columns")
	}
	if r.found.count > 0 && bytes.Compare(r.before, key) >= 0 {
		return broken(page, "entries do not rise")
	}
	r.before = append(r.before[:0], key...)
	r.found.add(key, readInt(rowType, rowid))
	return nil
}
