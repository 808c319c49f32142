package pages

import (
	"errors"
	"io"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// windowBytes is how much of a file is read at once.
const windowBytes = 256 << 10

// window holds some pages that follow each other.
type window struct {
	s     Source
	first uint32
	b     []byte
}

func (w *window) has(page uint32) bool {
	return page >= w.first && w.first > 0 && int(page-w.first) < len(w.b)/pageBytes
}

// page gives a page; with move the window goes there when it is elsewhere. What was given before is not valid then.
func (w *window) page(page uint32, move bool) ([]byte, error) {
	if !w.has(page) {
		if page == 0 || page > w.s.pages() || !move {
			return nil, broken(page, "it is named where none can be")
		}
		if w.b == nil {
			w.b = make([]byte, min(windowBytes, w.s.Bytes))
		}
		n, err := w.s.File.ReadAt(w.b[:cap(w.b)], int64(page-1)*pageBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fault.New(fault.Corrupt, "page %d of the new database cannot be read back: %w", page, err)
		}
		w.first, w.b = page, w.b[:n/pageBytes*pageBytes]
		if n < pageBytes {
			return nil, broken(page, "it is behind the end")
		}
	}
	from := int(page-w.first) * pageBytes
	return w.b[from : from+pageBytes], nil
}
