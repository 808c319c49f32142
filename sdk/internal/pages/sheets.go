package pages

import "io"

// sheets writes pages in rising order. After a failure it goes on without writing; err tells.
type sheets struct {
	to      io.WriterAt
	buffer  []byte
	flushed uint32 // the page the buffer begins with
	next    uint32
	lock    uint32 // the page that is left out
	err     error
}

// bufferBytes is how much is written at once (I2).
const bufferBytes = 1 << 20

func newSheets(to io.WriterAt, first uint32) *sheets {
	return &sheets{to: to, buffer: make([]byte, 0, bufferBytes), flushed: first, next: first, lock: lockByte/pageBytes + 1}
}

// upcoming is the number the next page will have.
func (s *sheets) upcoming() uint32 {
	if s.next == s.lock {
		return s.next + 1
	}
	return s.next
}

// page gives the next page to be filled by the caller, whole, before the next call.
func (s *sheets) page() (number uint32, b []byte) {
	if s.next == s.lock {
		clear(s.room())
	}
	number = s.next
	return number, s.room()
}

func (s *sheets) room() []byte {
	if len(s.buffer)+pageBytes > cap(s.buffer) {
		s.flush()
	}
	s.next++
	from := len(s.buffer)
	s.buffer = s.buffer[:from+pageBytes]
	return s.buffer[from:]
}

// write appends a page and answers its number.
func (s *sheets) write(page []byte) uint32 {
	number, b := s.page()
	copy(b, page)
	return number
}

func (s *sheets) flush() {
	if s.err == nil && len(s.buffer) > 0 {
		_, s.err = s.to.WriteAt(s.buffer, int64(s.flushed-1)*pageBytes)
	}
	s.buffer, s.flushed = s.buffer[:0], s.next
}

// overflow writes what does not fit into a cell to a chain of pages, and gives the first.
func (s *sheets) overflow(rest []byte) (first uint32) {
	first = s.upcoming()
	for len(rest) > 0 {
		_, b := s.page()
		n := copy(b[4:], rest)
		clear(b[4+n:])
		rest = rest[n:]
		following := uint32(0)
		if len(rest) > 0 {
			following = s.upcoming()
		}
		be.PutUint32(b, following)
	}
	return first
}
