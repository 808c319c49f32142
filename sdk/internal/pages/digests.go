package pages

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Source is a file whose rows are to be read back.
type Source struct {
	File io.ReaderAt
	// Bytes is the file's length.
	Bytes int64
	// Root is the page of the table's root, Index that of the index of its keys.
	Root, Index uint32
	// Partitions and Seed say into which set a row belongs, and how it is hashed.
	Partitions uint32
	Seed       uint64
	// Workers is how many cores are used; 0 means one.
	Workers int
}

// leavesPerTask is how many leaves a worker takes at once.
const leavesPerTask = 64

// Digests reads every row of the table as it lies in the file, which nobody writes meanwhile, and gives the digest of each partition. It also
// reads the index: each row is found by its key. Fault: Corrupt when the file is not what the Writer makes (I4).
func Digests(ctx context.Context, s Source) ([]digest.Set, error) {
	leaves, err := s.leaves(ctx)
	if err != nil {
		return nil, err
	}
	total := make([]digest.Set, max(1, s.Partitions))
	var (
		taken   atomic.Int64
		workers sync.WaitGroup
		mu      sync.Mutex // protects total, rows and first
		rows    pairs
		first   error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range max(1, s.Workers) {
		workers.Go(func() { // ends with the leaves, or with ctx
			w := newLeafReader(s)
			err := w.run(ctx, leaves, &taken)
			mu.Lock()
			defer mu.Unlock()
			for p := range total {
				total[p].Merge(w.sets[p])
			}
			rows.merge(w.pairs)
			if err != nil && first == nil {
				first = err
				cancel()
			}
		})
	}
	index := indexReader{s: s}
	err = index.walk(ctx, s.Index, 0)
	workers.Wait()
	switch {
	case first != nil:
		return total, first
	case err != nil:
		return total, err
	case index.found != rows:
		return total, broken(s.Index, "the index does not lead to the rows")
	}
	return total, nil
}

// leafOf is a leaf with the rowids it must hold: (after, last]; last is 0 where the tree does not say.
type leafOf struct {
	page        uint32
	after, last int64
}

func broken(page uint32, what string) error {
	return fault.New(fault.Corrupt, "page %d of the new database is not what was written: %s", page, what)
}

func (s Source) pages() uint32 { return uint32(s.Bytes / pageBytes) }

// leaves lists the table's leaves from left to right by reading the pages above them. Leaves are all equally deep.
func (s Source) leaves(ctx context.Context) ([]leafOf, error) {
	if s.Bytes%pageBytes != 0 {
		return nil, fault.New(fault.Corrupt, "the new database has %d bytes, which are no whole pages", s.Bytes)
	}
	level := []leafOf{{page: s.Root}}
	for range maxDepth {
		first, err := s.read(level[0].page)
		if err != nil || first[0] == tableLeaf {
			return level, err
		}
		var below []leafOf
		after := int64(0)
		for _, parent := range level {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b, err := s.read(parent.page)
			if err != nil {
				return nil, err
			}
			children, err := childrenOf(parent.page, b, parent.last)
			if err != nil {
				return nil, err
			}
			for _, c := range children {
				c.after, after = after, c.last
				below = append(below, c)
			}
			if len(below) > int(s.pages()) {
				return nil, broken(parent.page, "the tree has more leaves than the file has pages")
			}
		}
		level = below
	}
	return nil, broken(s.Root, "the tree is too deep")
}

func (s Source) read(page uint32) ([]byte, error) {
	if page == 0 || page > s.pages() {
		return nil, broken(page, "the tree leads there, and there is none")
	}
	b := make([]byte, pageBytes)
	if _, err := s.File.ReadAt(b, int64(page-1)*pageBytes); err != nil {
		return nil, fault.New(fault.Corrupt, "page %d of the new database cannot be read back: %w", page, err)
	}
	return b, nil
}

// maxDepth is more than a tree of all pages there can be has.
const maxDepth = 20

// childrenOf reads an interior page whose rightmost child ends with last.
func childrenOf(page uint32, b []byte, last int64) ([]leafOf, error) {
	n := int(be.Uint16(b[3:]))
	if b[0] != tableInterior || 12+2*n > pageBytes {
		return nil, broken(page, "it belongs to another tree")
	}
	children := make([]leafOf, 0, n+1)
	for i := range n {
		at := int(be.Uint16(b[12+2*i:]))
		if at < 12+2*n || at+5 > pageBytes {
			return nil, broken(page, "a cell lies outside")
		}
		key, size := varint(b[at+4:])
		if size == 0 {
			return nil, broken(page, "a rowid is cut short")
		}
		children = append(children, leafOf{page: be.Uint32(b[at:]), last: int64(key)})
	}
	return append(children, leafOf{page: be.Uint32(b[8:]), last: last}), nil
}

// leafReader is one worker.
type leafReader struct {
	s       Source
	sets    []digest.Set
	pairs   pairs
	hasher  *digest.Hasher
	near    window // of leaves
	far     window // of overflow pages that lie elsewhere
	payload []byte // of a row with overflow pages
}

func newLeafReader(s Source) *leafReader {
	return &leafReader{s: s, sets: make([]digest.Set, max(1, s.Partitions)), hasher: digest.NewHasher(s.Seed),
		near: window{s: s}, far: window{s: s}}
}

func (r *leafReader) run(ctx context.Context, leaves []leafOf, taken *atomic.Int64) error {
	for {
		from := int(taken.Add(leavesPerTask)) - leavesPerTask
		if from >= len(leaves) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, l := range leaves[from:min(len(leaves), from+leavesPerTask)] {
			b, err := r.near.page(l.page, true)
			if err == nil {
				err = r.leaf(l, b)
			}
			if err != nil {
				return err
			}
		}
	}
}

// leaf reads the rows of one leaf.
func (r *leafReader) leaf(l leafOf, b []byte) error {
	n := int(be.Uint16(b[3:]))
	if b[0] != tableLeaf || 8+2*n > pageBytes {
		return broken(l.page, "it is no leaf")
	}
	want := l.after
	for i := range n {
		at := int(be.Uint16(b[8+2*i:]))
		if at < 8+2*n || at >= pageBytes {
			return broken(l.page, "a cell lies outside")
		}
		want++
		if err := r.cell(l.page, b, at, want); err != nil {
			return err
		}
	}
	if l.last != 0 && want != l.last {
		return broken(l.page, "rows are missing")
	}
	return nil
}

// cell reads the row at b[at:], whose rowid must be want: they follow each other (I4).
func (r *leafReader) cell(page uint32, b []byte, at int, want int64) error {
	size64, n := varint(b[at:])
	rowid, m := varint(b[at+n:])
	if n == 0 || m == 0 || int64(rowid) != want {
		return broken(page, "a rowid is another")
	}
	if size64 > maxPayload {
		return broken(page, "a row is too long")
	}
	at += n + m
	size := int(size64)
	local := localBytes(size, maxLocalTable)
	if local == size {
		if at+size > pageBytes {
			return broken(page, "a row does not end")
		}
		return r.row(page, want, b[at:at+size])
	}
	if at+local+4 > pageBytes {
		return broken(page, "a row does not end")
	}
	r.payload = append(r.payload[:0], b[at:at+local]...)
	next := be.Uint32(b[at+local:])
	for len(r.payload) < size {
		o, err := r.overflow(next)
		if err != nil {
			return err
		}
		next = be.Uint32(o)
		r.payload = append(r.payload, o[4:4+min(pageBytes-4, size-len(r.payload))]...)
	}
	if next != 0 {
		return broken(page, "a row goes on behind its end")
	}
	return r.row(page, want, r.payload)
}

// maxPayload is more than the largest record and its types have.
const maxPayload = 8 << 20

// overflow gives an overflow page: chains lie before the leaf they belong to, often in the same window, which stays where it is.
func (r *leafReader) overflow(page uint32) ([]byte, error) {
	if r.near.has(page) {
		return r.near.page(page, false)
	}
	return r.far.page(page, true)
}

// row hashes a row of the table.
func (r *leafReader) row(page uint32, rowid int64, b []byte) error {
	header, n := varint(b)
	if n != 1 || header == 0 || header > uint64(len(b)) {
		return broken(page, "a row has another header")
	}
	var types [5]uint64
	at := 1
	for i := range types {
		var n int
		if types[i], n = varint(b[at:header]); n == 0 {
			return broken(page, "a row has too few columns")
		}
		at += n
	}
	seqBytes, timeBytes := intBytes(types[3]), intBytes(types[4])
	if at != int(header) || seqBytes < 0 || timeBytes < 0 || types[0] < typeText || types[0]%2 == 0 || types[1] < typeBlob || types[2] != typeNull && (types[2] <= typeText || types[2]%2 == 0) {
		return broken(page, "a row has other types")
	}
	key := cut(b, &at, (types[0]-typeText)/2)
	value := cut(b, &at, (types[1]-typeBlob)/2)
	headers := []byte(nil)
	if types[2] != typeNull {
		headers = cut(b, &at, (types[2]-typeText)/2)
	}
	seq := cut(b, &at, uint64(seqBytes))
	time := cut(b, &at, uint64(timeBytes))
	if at != len(b) || types[1] != valueType(value) {
		return broken(page, "a row has other columns") // I3
	}
	r.pairs.add(key, rowid)
	sequence, timeMS := readInt(types[3], seq), readInt(types[4], time)
	r.sets[lane.Of(key, uint32(len(r.sets)))].Add(r.hasher.Row(key, uint64(sequence), timeMS, headers, value))
	return nil
}

// cut gives the next n bytes of b; too few make at larger than b, which is noticed at the end.
func cut(b []byte, at *int, n uint64) []byte {
	from := *at
	if from > len(b) || n > uint64(len(b)-from) {
		*at = len(b) + 1
		return nil
	}
	*at = from + int(n)
	return b[from:*at]
}
