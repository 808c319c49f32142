package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

func TestBothModesOfACloudEventMakeTheSameRecord(t *testing.T) {
	structured, err := structuredEvent([]byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t","subject":"ä b","time":"2024-01-02T03:04:05.006Z","comexampleext":5,"datacontenttype":"application/json","data":{"a": 1}}`))
	if err != nil || structured[0].err != nil {
		t.Fatal(err, structured[0].err)
	}
	header := http.Header{}
	for name, text := range map[string]string{
		"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/s", "ce-type": "t", "ce-subject": "%C3%A4%20b", "ce-time": "2024-01-02T03:04:05.006Z", "ce-comexampleext": "5",
		"content-type": "application/json",
	} {
		header.Set(name, text)
	}
	binary, err := binaryEvent(header, []byte(`{"a": 1}`))
	if err != nil || binary[0].err != nil {
		t.Fatal(err, binary[0].err)
	}
	if diff := cmp.Diff(structured[0].rec, binary[0].rec); diff != "" {
		t.Fatal(diff)
	}
	want := record.Record{
		Key: []byte("ä b"), Value: []byte(`{"a": 1}`), TimeMS: 1704164645006,
		Headers: record.Headers(`{"ce-comexampleext":"5","ce-id":"7","ce-source":"/s","ce-specversion":"1.0","ce-subject":"ä b","ce-time":"2024-01-02T03:04:05.006Z","ce-type":"t","content-type":"application/json"}`),
	}
	if diff := cmp.Diff(want, binary[0].rec); diff != "" {
		t.Fatal(diff)
	}
}

func TestCloudEventKeyAndData(t *testing.T) {
	const head = `{"specversion":"1.0","id":"i","source":"s","type":"t"`
	for _, c := range []struct{ rest, key, value string }{
		{`}`, "i", ""},
		{`,"subject":"u","data":null}`, "u", "null"},
		{`,"subject":"u","partitionkey":"p","data":"x"}`, "p", `"x"`},
		{`,"datacontenttype":"text/plain","data":"x\ny"}`, "i", "x\ny"},
		{`,"datacontenttype":"application/vnd.a+json","data":"x"}`, "i", `"x"`},
		{`,"data_base64":"AAE="}`, "i", "\x00\x01"},
	} {
		got, err := structuredEvent([]byte(head + c.rest))
		if err != nil || got[0].err != nil {
			t.Errorf("%s: %v %v", c.rest, err, got[0].err)
			continue
		}
		if string(got[0].rec.Key) != c.key || string(got[0].rec.Value) != c.value {
			t.Errorf("%s: key %q value %q, want %q %q", c.rest, got[0].rec.Key, got[0].rec.Value, c.key, c.value)
		}
	}
	for _, bad := range []string{
		``, `[]`, `null`, `{}`, `{"specversion":"0.3","id":"i","source":"s","type":"t"}`, head + `,"Upper":"x"}`, head + `,"time":"now"}`,
		head + `,"data":1,"data_base64":""}`, head + `,"data_base64":"*"}`, head + `,"ext":{}}`,
	} {
		if got, err := structuredEvent([]byte(bad)); err == nil && got[0].err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// FuzzJSONLines holds the decoder to: no panic, a line for every line that is not empty, a taken value is JSON and stands in the body
// byte for byte, and what was taken can be said again.
func FuzzJSONLines(f *testing.F) {
	f.Add([]byte("{\"key\":\"a\",\"value\":{\"b\": [1, 2]}}\n\n{\"key\":\"a\",\"tombstone\":true}\n"))
	f.Add([]byte(`{"key":"a","value":1,"headers":{"x":"y"},"time_ms":5}{}`))
	f.Add([]byte("{\"key\":\"\\ud800\",\"value\":null}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		items := jsonLines(body)
		wanted := 0
		for _, line := range bytes.Split(body, []byte("\n")) {
			if len(bytes.TrimSpace(line)) > 0 {
				wanted++
			}
		}
		if len(items) != wanted {
			t.Fatalf("%d items of %d lines", len(items), wanted)
		}
		for _, it := range items {
			if it.err != nil {
				continue
			}
			if len(it.rec.Value) > 0 && (!json.Valid(it.rec.Value) || !bytes.Contains(body, it.rec.Value)) {
				t.Fatalf("value %q is not what was sent", it.rec.Value)
			}
			if err := it.rec.Headers.Check(); err != nil {
				t.Fatal(err)
			}
			headers, _ := it.rec.Headers.Map()
			text, err := json.Marshal(jsonRecord{Key: string(it.rec.Key), Value: it.rec.Value, Headers: headers, TimeMS: it.rec.TimeMS, Tombstone: it.rec.Tombstone})
			if err != nil {
				continue // a tombstone without value marshals to null; a RawMessage of none does too
			}
			again, err := jsonToRecord(text)
			if err != nil || string(again.Key) != string(it.rec.Key) || again.TimeMS != it.rec.TimeMS {
				t.Fatalf("%q said again as %q: %v", it.rec.Key, text, err)
			}
		}
	})
}

// FuzzCloudEvent holds the decoder to: no panic, and a taken event has a key and canonical headers.
func FuzzCloudEvent(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"7","source":"/s","type":"t","subject":"x","time":"2024-01-02T03:04:05Z","n":5,"b":true,"data":{"a":1}}`))
	f.Add([]byte(`[{"specversion":"1.0","id":"7","source":"/s","type":"t","data_base64":"AAE="}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		one, _ := structuredEvent(body)
		many, _ := eventBatch(body)
		for _, it := range append(one, many...) {
			if it.err != nil {
				continue
			}
			if len(it.rec.Key) == 0 {
				t.Fatal("an event without a key")
			}
			if err := it.rec.Headers.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
