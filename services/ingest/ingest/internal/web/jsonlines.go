package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// jsonRecord is one record as JSON.
type jsonRecord struct {
	Key       string            `json:"key"`
	Value     json.RawMessage   `json:"value"`
	Headers   map[string]string `json:"headers"`
	TimeMS    int64             `json:"time_ms"`
	Tombstone bool              `json:"tombstone"`
}

// jsonLines reads one record a line; empty lines are skipped but counted.
func jsonLines(body []byte) []item {
	var items []item
	for n := 1; len(body) > 0; n++ {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		body = rest
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		it := jsonItem(line)
		it.line = n
		items = append(items, it)
	}
	return items
}

// oneJSON reads one record from the whole body.
func oneJSON(body []byte) []item {
	it := jsonItem(bytes.TrimSpace(body))
	it.line = 1
	return []item{it}
}

func jsonItem(text []byte) item {
	rec, err := jsonToRecord(text)
	return item{rec: rec, err: err}
}

func jsonToRecord(text []byte) (record.Record, error) {
	if !utf8.Valid(text) {
		return record.Record{}, fault.New(fault.Malformed, "the record is not UTF-8 text")
	}
	if len(text) == 0 || text[0] != '{' {
		return record.Record{}, fault.New(fault.Malformed, `%.60q is not a record: write {"key":"...","value":...}`, text)
	}
	var j jsonRecord
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // most likely misspelt
	if err := d.Decode(&j); err != nil {
		return record.Record{}, fault.New(fault.Malformed, "the record is not JSON of the form {\"key\":\"...\",\"value\":...}: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return record.Record{}, fault.New(fault.Malformed, "something follows the record; write one record a line")
	}
	if len(j.Value) == 0 && !j.Tombstone {
		return record.Record{}, fault.New(fault.Malformed, `the record has no "value"; to delete the key say "tombstone":true`)
	}
	headers, err := record.NewHeaders(j.Headers)
	if err != nil {
		return record.Record{}, err
	}
	return record.Record{Key: []byte(j.Key), Value: j.Value, Headers: headers, TimeMS: j.TimeMS, Tombstone: j.Tombstone}, nil
}
