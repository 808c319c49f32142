package intake

import (
	"bytes"

	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// checkHeaders returns a fault unless h is canonical. Plain ASCII headers, nearly all there are, are checked without allocating;
// for anything else record.Headers decides.
func checkHeaders(h record.Headers) error {
	if len(h) == 0 || plainHeaders(h) {
		return nil
	}
	return h.Check()
}

// plainHeaders reports whether h is {"name":"text",...} with names rising and nothing that JSON would escape.
func plainHeaders(h []byte) bool {
	if len(h) < 2 || h[0] != '{' {
		return false
	}
	var previous []byte
	for rest := h[1:]; ; rest = rest[1:] {
		name, after, ok := plainText(rest)
		if !ok || len(name) == 0 || previous != nil && bytes.Compare(previous, name) >= 0 || len(after) == 0 || after[0] != ':' {
			return false
		}
		previous = name
		if _, after, ok = plainText(after[1:]); !ok || len(after) == 0 {
			return false
		}
		if after[0] == '}' {
			return len(after) == 1
		}
		if after[0] != ',' {
			return false
		}
		rest = after
	}
}

// plainText cuts a quoted text without escapes off b.
func plainText(b []byte) (text, after []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[1:i], b[i+1:], true
		case c < 0x20 || c > 0x7e || c == '\\':
			return nil, nil, false
		}
	}
	return nil, nil, false
}
