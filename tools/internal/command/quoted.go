package command

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"
)

// quoted gives text as a JSON string.
func quoted(text string) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return json.RawMessage(`""`) // a string always encodes
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// addValue puts a record's value into members: as JSON under "value" when it is JSON, else as "value_text" or "value_base64".
func addValue(members map[string]any, value []byte) {
	switch {
	case json.Valid(value):
		members["value"] = json.RawMessage(value)
	case utf8.Valid(value):
		members["value_text"] = string(value)
	default:
		members["value_base64"] = base64.StdEncoding.EncodeToString(value)
	}
}
