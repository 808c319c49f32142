package web

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// event is a CloudEvent of either mode: its attributes but datacontenttype, and its data.
type event struct {
	attributes  map[string]string
	contentType string
	data        []byte
}

// toItem checks the event and makes the record of it.
func (e *event) toItem(number int) item {
	it := item{event: number, id: e.attributes["id"]}
	it.rec, it.err = e.toRecord()
	return it
}

func (e *event) toRecord() (record.Record, error) {
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if e.attributes[name] == "" {
			return record.Record{}, fault.New(fault.Malformed, "the CloudEvent has no %q", name)
		}
	}
	if v := e.attributes["specversion"]; v != "1.0" {
		return record.Record{}, fault.New(fault.UnsupportedVersion, "the CloudEvent has specversion %.20q, and 1.0 is what is taken", v)
	}
	rec := record.Record{Value: e.data}
	switch {
	case e.attributes["partitionkey"] != "":
		rec.Key = []byte(e.attributes["partitionkey"])
	case e.attributes["subject"] != "":
		rec.Key = []byte(e.attributes["subject"])
	default:
		rec.Key = []byte(e.attributes["id"])
	}
	if text := e.attributes["time"]; text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return record.Record{}, fault.New(fault.Malformed, "the CloudEvent's time %.60q is not of RFC 3339", text)
		}
		rec.TimeMS = at.UnixMilli()
	}
	headers := make(map[string]string, len(e.attributes)+1)
	for name, text := range e.attributes {
		if !attributeName(name) {
			return record.Record{}, fault.New(fault.Malformed, "the CloudEvent's attribute %.60q has a name that is not of a-z and 0-9", name)
		}
		headers["ce-"+name] = text
	}
	if e.contentType != "" {
		headers["content-type"] = e.contentType
	}
	var err error
	rec.Headers, err = record.NewHeaders(headers)
	return rec, err
}

func attributeName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

func structuredEvent(body []byte) ([]item, error) {
	return []item{structuredItem(body, 1)}, nil
}

func eventBatch(body []byte) ([]item, error) {
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, fault.New(fault.Malformed, "the body is not a JSON array of CloudEvents; nothing of it was taken: %w", err)
	}
	items := make([]item, len(events))
	for i, e := range events {
		items[i] = structuredItem(e, i+1)
	}
	return items, nil
}

func structuredItem(text []byte, number int) item {
	e, err := parseStructured(text)
	if err != nil {
		return item{event: number, err: err}
	}
	return e.toItem(number)
}

func parseStructured(text []byte) (*event, error) {
	if !utf8.Valid(text) {
		return nil, fault.New(fault.Malformed, "the CloudEvent is not UTF-8 text")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return nil, fault.New(fault.Malformed, "the CloudEvent is not a JSON object: %w", err)
	}
	e := &event{attributes: make(map[string]string, len(fields))}
	for name, raw := range fields {
		if name == "data" || name == "data_base64" {
			continue
		}
		text, present, err := attribute(raw)
		if err != nil {
			return nil, fault.New(fault.Malformed, "the CloudEvent's attribute %.60q is not text, a number or a boolean", name)
		}
		if present {
			e.attributes[name] = text
		}
	}
	e.contentType = e.attributes["datacontenttype"]
	delete(e.attributes, "datacontenttype")
	data, hasData := fields["data"]
	encoded, hasEncoded := fields["data_base64"]
	switch {
	case hasData && hasEncoded:
		return nil, fault.New(fault.Malformed, "the CloudEvent has both data and data_base64")
	case hasEncoded:
		var text string
		err := json.Unmarshal(encoded, &text)
		if err == nil {
			e.data, err = base64.StdEncoding.DecodeString(text)
		}
		if err != nil {
			return nil, fault.New(fault.Malformed, "the CloudEvent's data_base64 does not decode: %w", err)
		}
	case hasData:
		e.data = data
		var text string
		// Text of a type that is not JSON stands in the event as a JSON string; its content is the data.
		if !isJSON(e.contentType) && bytes.HasPrefix(data, []byte(`"`)) && json.Unmarshal(data, &text) == nil {
			e.data = []byte(text)
		}
	}
	return e, nil
}

// attribute gives an attribute's text; a null is an absent one.
func attribute(raw json.RawMessage) (text string, present bool, err error) {
	switch raw[0] {
	case 'n':
		return "", false, nil
	case '"':
		err = json.Unmarshal(raw, &text)
		return text, true, err
	case '{', '[':
		return "", false, fault.Malformed
	}
	return string(raw), true, nil // number, true or false
}

func isJSON(contentType string) bool {
	if contentType == "" {
		return true // the default of structured mode
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}

func binaryEvent(header http.Header, body []byte) ([]item, error) {
	e := &event{attributes: make(map[string]string), contentType: header.Get("Content-Type"), data: body}
	for name, texts := range header {
		name, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		text, err := url.PathUnescape(texts[0])
		if err != nil {
			return nil, fault.New(fault.Malformed, "the header ce-%.60s has a bad percent escape", name)
		}
		e.attributes[name] = text
	}
	return []item{e.toItem(1)}, nil
}
