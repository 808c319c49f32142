// Package composite reads and writes RSocket's standard composite metadata
// (message/x.rsocket.composite-metadata.v0): a list of entries, each with a MIME type, among them
// routing (message/x.rsocket.routing.v0) and authentication (message/x.rsocket.authentication.v0).
//
// It knows nothing of connections. Reading never allocates for an entry's content and never trusts
// a length; writing gives bytes that every RSocket library reads.
package composite

import (
	"errors"
	"fmt"
	"iter"
)

// MIME types of the entries this package knows.
const (
	MIME               = "message/x.rsocket.composite-metadata.v0"
	MIMERouting        = "message/x.rsocket.routing.v0"
	MIMEAuthentication = "message/x.rsocket.authentication.v0"
)

// ErrMalformed: the bytes are not composite metadata, or an entry is not of its type's form.
var ErrMalformed = errors.New("composite metadata: malformed")

const (
	mimeKnownFlag = 0x80 // the entry's MIME type is an id of the protocol's table, not text
	mimeMaxBytes  = 128
	entryMaxBytes = 1<<24 - 1
)

// Entry is one part of composite metadata. Content aliases the bytes it was read from.
type Entry struct {
	MIME    string
	Content []byte
}

// Entries reads b from its start and stops after an error, which it yields once. An entry whose
// MIME id is not in the protocol's table has the name "unknown/N".
func Entries(b []byte) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for len(b) > 0 {
			var e Entry
			var err error
			if e, b, err = next(b); !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func next(b []byte) (Entry, []byte, error) {
	var e Entry
	first := b[0]
	b = b[1:]
	if first&mimeKnownFlag != 0 {
		e.MIME = knownName(first &^ mimeKnownFlag)
	} else {
		n := int(first) + 1
		if len(b) < n {
			return Entry{}, nil, fmt.Errorf("%w: MIME type cut short", ErrMalformed)
		}
		for _, ch := range b[:n] {
			if ch >= 0x80 {
				return Entry{}, nil, fmt.Errorf("%w: MIME type is not ASCII", ErrMalformed)
			}
		}
		e.MIME, b = string(b[:n]), b[n:]
	}
	if len(b) < 3 {
		return Entry{}, nil, fmt.Errorf("%w: entry length cut short", ErrMalformed)
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	b = b[3:]
	if len(b) < n {
		return Entry{}, nil, fmt.Errorf("%w: entry of %d bytes has %d", ErrMalformed, n, len(b))
	}
	e.Content, b = b[:n:n], b[n:]
	return e, b, nil
}

// Append adds an entry to dst. MIME types of the protocol's table are written as their id, others
// as 1 to 128 bytes of ASCII.
func Append(dst []byte, mime string, content []byte) ([]byte, error) {
	if len(content) > entryMaxBytes {
		return dst, fmt.Errorf("composite metadata: entry of %d bytes is above %d", len(content), entryMaxBytes)
	}
	if id, ok := knownID(mime); ok {
		dst = append(dst, mimeKnownFlag|id)
	} else {
		if len(mime) == 0 || len(mime) > mimeMaxBytes {
			return dst, fmt.Errorf("composite metadata: MIME type of %d bytes, 1 to %d are possible", len(mime), mimeMaxBytes)
		}
		for i := range len(mime) {
			if mime[i] >= 0x80 {
				return dst, fmt.Errorf("composite metadata: MIME type %q is not ASCII", mime)
			}
		}
		dst = append(dst, byte(len(mime)-1))
		dst = append(dst, mime...)
	}
	n := len(content)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n))
	return append(dst, content...), nil
}
