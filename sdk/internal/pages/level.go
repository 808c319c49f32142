package pages

// level is one level of a tree, filled from left to right. A leaf of an index, and an interior page of any tree, gives the cell behind its
// last one to the level above, as what separates it from the next.
//
// The page that is full waits until the next one has a cell: a page without one is not allowed, and if no more comes the last cell of the
// full page becomes the separator, and the separator the next page's cell.
type level struct {
	out       *sheets
	kind      byte
	open      node
	full      node
	waits     bool // full holds a page
	separator []byte
	up        *level // nil while this is the root
}

func newLevel(out *sheets, kind byte) *level {
	return &level{out: out, kind: kind, open: newNode(kind, 0), full: newNode(kind, 0)}
}

func (l *level) isLeaf() bool { return l.kind == indexLeaf }

// add appends a cell: what separates child from what comes next. A leaf has no children.
func (l *level) add(child uint32, cell []byte) {
	size := len(cell)
	if !l.isLeaf() {
		size += 4
	}
	if l.open.fits(size) {
		l.put(child, cell)
		return
	}
	l.release()
	if !l.isLeaf() {
		l.open.setRight(child)
	}
	l.open, l.full = l.full, l.open
	l.open.reset()
	l.waits, l.separator = true, append(l.separator[:0], cell...)
}

func (l *level) put(child uint32, cell []byte) {
	if l.isLeaf() {
		copy(l.open.take(len(cell)), cell)
		return
	}
	b := l.open.take(4 + len(cell))
	be.PutUint32(b, child)
	copy(b[4:], cell)
}

// release writes the page that waits.
func (l *level) release() {
	if !l.waits {
		return
	}
	l.waits = false
	l.parent().add(l.out.write(l.full.sealed()), l.separator)
}

func (l *level) parent() *level {
	if l.up == nil {
		kind := l.kind
		if kind == indexLeaf {
			kind = indexInterior
		}
		l.up = newLevel(l.out, kind)
	}
	return l.up
}

// finish writes what is left, with last as the rightmost child, and gives the tree's root page, which it does not write.
func (l *level) finish(last uint32) []byte {
	if l.open.n == 0 && l.waits {
		cell := l.full.pop()
		if l.isLeaf() {
			l.put(0, l.separator)
		} else {
			l.put(l.full.right(), l.separator)
			l.full.setRight(be.Uint32(cell))
			cell = cell[4:]
		}
		l.separator = cell
	}
	if !l.isLeaf() {
		l.open.setRight(last)
	}
	if !l.waits && l.up == nil {
		return l.open.sealed()
	}
	l.release()
	return l.parent().finish(l.out.write(l.open.sealed()))
}
