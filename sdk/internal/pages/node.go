package pages

// node is a page of a tree while it fills: cell pointers grow from the front, cells from the back.
type node struct {
	b   []byte
	at  int // where the page's own header begins: behind the file's header on page 1
	top int // where the cells begin
	n   int // cells
}

func newNode(kind byte, at int) node {
	p := node{b: make([]byte, pageBytes), at: at, top: pageBytes}
	p.b[at] = kind
	return p
}

func (p *node) reset() { p.n, p.top = 0, pageBytes }

// pointers is where the cell pointers begin.
func (p *node) pointers() int {
	if p.b[p.at] == indexInterior || p.b[p.at] == tableInterior {
		return p.at + 12
	}
	return p.at + 8
}

func (p *node) fits(size int) bool { return p.pointers()+2*(p.n+1)+size <= p.top }

// take makes room for one more cell, which fits.
func (p *node) take(size int) []byte {
	p.top -= size
	be.PutUint16(p.b[p.pointers()+2*p.n:], uint16(p.top))
	p.n++
	return p.b[p.top : p.top+size]
}

// pop takes the last cell out again.
func (p *node) pop() []byte {
	end := pageBytes
	if p.n > 1 {
		end = int(be.Uint16(p.b[p.pointers()+2*(p.n-2):]))
	}
	cell := append([]byte(nil), p.b[p.top:end]...)
	p.top, p.n = end, p.n-1
	return cell
}

func (p *node) right() uint32         { return be.Uint32(p.b[p.at+8:]) }
func (p *node) setRight(child uint32) { be.PutUint32(p.b[p.at+8:], child) }
func (p *node) setCount()             { be.PutUint16(p.b[p.at+3:], uint16(p.n)) }
func (p *node) setTop()               { be.PutUint16(p.b[p.at+5:], uint16(p.top)) }
func (p *node) clearGap()             { clear(p.b[p.pointers()+2*p.n : p.top]) }

// sealed gives the page as it is written.
func (p *node) sealed() []byte {
	p.setCount()
	p.setTop()
	p.clearGap()
	return p.b
}
