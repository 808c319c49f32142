package jsonlines

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Line is one record to be: Value aliases nothing and may be kept.
type Line struct {
	// Number is 1-based and counts empty lines too.
	Number int
	Key    string
	Value  []byte
}

// BadLine says why a line was not taken (I2).
type BadLine struct {
	Number int
	Fault  *fault.Fault
}

func (b *BadLine) Error() string { return fmt.Sprintf("line %d: %v", b.Number, b.Fault) }

// Unwrap gives the fault.
func (b *BadLine) Unwrap() error { return b.Fault }

// Reader walks lines. One goroutine.
type Reader struct {
	r        *bufio.Reader
	keyField string
	number   int
}

// NewReader reads JSON lines from r. keyField names the top-level member that is the key; empty for records without keys.
func NewReader(r io.Reader, keyField string) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 256<<10), keyField: keyField}
}

// Next gives the next line, skipping empty ones; io.EOF at the end; a *BadLine for one that cannot be taken.
func (r *Reader) Next() (Line, error) {
	for {
		text, tooLong, err := r.line()
		if err != nil {
			return Line{}, err
		}
		r.number++
		if tooLong {
			return Line{}, r.bad(fault.New(fault.RecordTooLarge, "the value is larger than the %d bytes allowed", record.MaxValueBytes))
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		key, f := r.key(text)
		if f != nil {
			return Line{}, r.bad(f)
		}
		return Line{Number: r.number, Key: key, Value: text}, nil
	}
}

func (r *Reader) bad(f *fault.Fault) error { return &BadLine{r.number, f} }

// line gives the next line without its line feed. One that is too long is read to its end but not kept (I3).
func (r *Reader) line() (text []byte, tooLong bool, err error) {
	for {
		part, err := r.r.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !full {
			if !errors.Is(err, io.EOF) {
				return nil, false, fmt.Errorf("reading line %d: %w", r.number+1, err)
			}
			if len(part) == 0 && len(text) == 0 && !tooLong {
				return nil, false, io.EOF
			}
		}
		if len(text)+len(part) > record.MaxValueBytes+1 {
			text, tooLong = nil, true
		} else if !tooLong {
			text = append(text, part...)
		}
		if !full {
			return bytes.TrimSuffix(text, []byte{'\n'}), tooLong, nil
		}
	}
}

// key checks that text is a JSON object, and takes the key out of it. Text and numbers can be keys.
func (r *Reader) key(text []byte) (string, *fault.Fault) {
	if r.keyField == "" {
		if !json.Valid(text) {
			return "", fault.New(fault.Malformed, "not JSON: %w", json.Unmarshal(text, new(any)))
		}
		return "", nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return "", fault.New(fault.Malformed, "a JSON %s where an object is needed, since --key takes a field of it", kind.Value)
		}
		return "", fault.New(fault.Malformed, "not JSON: %w", err)
	}
	raw, ok := members[r.keyField]
	if !ok {
		return "", fault.New(fault.KeyMissing, "the object has no field %q, which is to be the key", r.keyField)
	}
	switch raw[0] {
	case '"':
		var key string
		if err := json.Unmarshal(raw, &key); err != nil {
			return "", fault.New(fault.Malformed, "the key: %w", err)
		}
		if key == "" {
			return "", fault.New(fault.KeyMissing, "the field %q, which is to be the key, is empty", r.keyField)
		}
		return key, nil
	case '{', '[', 't', 'f', 'n':
		return "", fault.New(fault.InvalidArgument, "the field %q is %.40s; a key is text or a number", r.keyField, raw)
	}
	return string(raw), nil
}
