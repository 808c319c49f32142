package record

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Headers are a record's headers as canonical JSON: one object of text to text, names rising, no white space; empty for none.
type Headers []byte

// NewHeaders makes the canonical form. An empty map gives nil; text that is not UTF-8 is refused.
func NewHeaders(headers map[string]string) (Headers, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	for name, text := range headers {
		if name == "" {
			return nil, fault.New(fault.InvalidArgument, "a header has no name")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(text) {
			return nil, fault.New(fault.InvalidArgument, "the header %.60q is not UTF-8 text", name)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(headers); err != nil { // names come out sorted
		return nil, fault.New(fault.InvalidArgument, "headers: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Map parses the headers; nil for none.
func (h Headers) Map() (map[string]string, error) {
	if len(h) == 0 {
		return nil, nil
	}
	var m map[string]string
	if err := json.Unmarshal(h, &m); err != nil {
		return nil, fault.New(fault.Malformed, "headers are not a JSON object of text: %w", err)
	}
	return m, nil
}

// Check returns a fault unless h is empty or canonical (I2). It parses, so it is for boundaries, not for inner loops.
func (h Headers) Check() error {
	if len(h) == 0 {
		return nil
	}
	m, err := h.Map()
	if err != nil {
		return err
	}
	again, err := NewHeaders(m)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, h) {
		return fault.New(fault.Malformed, "headers are not in canonical form: got %.120s, want %.120s", h, again)
	}
	return nil
}
