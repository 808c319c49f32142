package ingest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

// post sends body and gives status, header and text of the answer.
func (h *house) post(t *testing.T, stream, contentType, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	return h.postTo(t, "/v1/streams/"+stream+"/records", contentType, body, headers...)
}

func (h *house) postTo(t *testing.T, path, contentType, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

func TestPosts(t *testing.T) {
	h := open(t, ingest.Config{MaxRequestBytes: 4 << 10})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	h.sequencer.create(&streamv1.StreamSpec{Name: "counts", Keyed: true, JsonSchema: `{"type":"integer"}`})
	const ndjson = "application/x-ndjson"
	const event = `{"specversion":"1.0","id":"7","source":"s","type":"t","data":{"a":1}}`
	for _, c := range []struct {
		name, stream, contentType, body string
		headers                         []string
		status                          int
		want                            []string // each is in the answer, in this order
	}{
		{"lines", "orders", ndjson, "{\"key\":\"a\",\"value\":{\"n\": 1}}\n\n{\"key\":\"b\",\"value\":2,\"headers\":{\"x\":\"y\"}}", nil, 200, []string{`{"line":1,"partition":0,"epoch":1,"sequence":1}`, `{"line":3,"partition":0,"epoch":1,"sequence":2}`}},
		{"one bad line", "orders", ndjson, "{\"key\":\"a\"\n{\"key\":\"b\",\"value\":2}\n{\"kee\":\"b\",\"value\":2}\n{\"key\":\"c\"}", nil, 207, []string{`{"line":1,"fault":{"reason":"malformed"`, `{"line":2,"partition":0,"epoch":1,"sequence":3}`, `"line":3`, `unknown field`, `"line":4`, `tombstone`}},
		{"all bad", "orders", ndjson, "nonsense", nil, 400, []string{`"line":1`, `malformed`}},
		{"no key", "orders", ndjson, `{"value":1}`, nil, 400, []string{"key_missing"}},
		{"tombstone", "orders", "application/json", "{\n\"key\":\"a\",\n\"tombstone\":true}", nil, 200, []string{`{"line":1,"partition":0,"epoch":1,"sequence":4}`}},
		{"empty", "orders", ndjson, "", nil, 200, nil},
		{"schema", "counts", ndjson, `{"key":"a","value":"x"}`, nil, 422, []string{"schema_mismatch"}},
		{"structured event", "orders", "application/cloudevents+json; charset=utf-8", event, nil, 200, []string{`{"event":1,"id":"7","partition":0,"epoch":1,"sequence":5}`}},
		{"event batch", "orders", "application/cloudevents-batch+json", "[" + event + ",{}," + event + "]", nil, 207, []string{`"event":1`, `{"event":2,"fault"`, `{"event":3,"id":"7"`}},
		{"binary event", "orders", "text/plain", "hello", []string{"ce-specversion", "1.0", "ce-id", "8", "ce-source", "s", "ce-type", "t"}, 200, []string{`{"event":1,"id":"8"`}},
		{"binary event without id", "orders", "text/plain", "hello", []string{"ce-specversion", "1.0"}, 400, []string{`no \"id\"`}},
		{"unknown stream", "order", ndjson, `{"key":"a","value":1}`, nil, 404, []string{`did you mean \"orders\"?`}},
		{"bad name", "or%2Fder", ndjson, `{"key":"a","value":1}`, nil, 400, []string{"invalid_name"}},
		{"large", "orders", ndjson, strings.Repeat(" ", 5<<10), nil, 413, []string{"record_too_large"}},
		{"form", "orders", "application/x-www-form-urlencoded", "a=b", nil, 415, []string{"invalid_argument", "application/x-ndjson"}},
		{"compressed", "orders", ndjson, "x", []string{"Content-Encoding", "gzip"}, 415, []string{"gzip"}},
	} {
		status, _, text := h.post(t, c.stream, c.contentType, c.body, c.headers...)
		if status != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, status, c.status, text)
		}
		rest := text
		for _, want := range c.want {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: the answer has no %s in its place:\n%s", c.name, want, text)
			}
			rest = after
		}
	}
	if got := h.sequencer.stored(1, 0)[0]; string(got.Value) != `{"n": 1}` {
		t.Errorf("the value was stored as %q", got.Value)
	}
}

func TestPostsAreToldWhenToTryAgain(t *testing.T) {
	for reason, status := range map[fault.Reason]int{
		fault.DiskFull: 507, fault.Unavailable: 503, fault.UnknownOutcome: 504, fault.Overloaded: 429, fault.LaneStopped: 500,
	} {
		h := open(t, ingest.Config{RetryFor: time.Millisecond})
		h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
		h.sequencer.before = func(int, *sequencerv1.AppendRequest) error { return fault.New(reason, "no") }
		got, header, text := h.post(t, "orders", "application/x-ndjson", `{"key":"a","value":1}`)
		retry := reason == fault.DiskFull || reason == fault.Unavailable || reason == fault.Overloaded
		if got != status || (header.Get("Retry-After") != "") != retry {
			t.Errorf("%s: status %d, want %d; Retry-After %q: %s", reason, got, status, header.Get("Retry-After"), text)
		}
	}
}

// S4 over HTTP: the same post again is answered with the same sequences, and stored once.
func TestAPostSentAgain(t *testing.T) {
	h := open(t, ingest.Config{})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	if status, text := h.openOverHTTP(t, "till-7"); status != 200 || text != `{"producer_id":"till-7","producer_epoch":1}`+"\n" {
		t.Fatalf("%d %s", status, text)
	}
	const body = "{\"key\":\"a\",\"value\":1}\nnonsense\n{\"key\":\"b\",\"value\":2}\n"
	post := func(epoch, sequence, body string) (int, string) {
		status, _, text := h.post(t, "orders", "application/x-ndjson", body,
			"Lockstep-Producer-Id", "till-7", "Lockstep-Producer-Epoch", epoch, "Lockstep-Producer-Sequence", sequence)
		return status, text
	}
	status, first := post("1", "1", body)
	if status != 207 || strings.Contains(first, "duplicate") || !strings.Contains(first, `{"line":1,"partition":0,"epoch":1,"sequence":1}`) {
		t.Fatalf("%d %s", status, first)
	}
	status, again := post("1", "1", body)
	if status != 207 || strings.ReplaceAll(again, `,"duplicate":true`, "") != first || strings.Count(again, `"duplicate":true`) != 2 {
		t.Errorf("again: %d %s\nwant what came first:\n%s", status, again, first)
	}
	if status, text := post("1", "4", `{"key":"c","value":3}`); status != 200 || !strings.Contains(text, `"sequence":3}`) {
		t.Errorf("the next: %d %s", status, text)
	}
	if n := len(h.sequencer.stored(1, 0)); n != 3 {
		t.Errorf("%d records are stored, want 3", n)
	}
	if _, text := h.openOverHTTP(t, "till-7"); !strings.Contains(text, `"producer_epoch":2`) {
		t.Errorf("opened again: %s", text)
	}
	if status, text := post("1", "5", `{"key":"c","value":3}`); status != 409 || !strings.Contains(text, "producer_fenced") {
		t.Errorf("of the older epoch: %d %s", status, text)
	}
	if status, text := h.openOverHTTP(t, "till%2F7"); status != 400 {
		t.Errorf("a producer of a bad name: %d %s", status, text)
	}
	for name, headers := range map[string][]string{
		"one alone":     {"Lockstep-Producer-Id", "p"},
		"no id":         {"Lockstep-Producer-Epoch", "1", "Lockstep-Producer-Sequence", "1"},
		"no number":     {"Lockstep-Producer-Id", "p", "Lockstep-Producer-Epoch", "one", "Lockstep-Producer-Sequence", "1"},
		"sequence zero": {"Lockstep-Producer-Id", "p", "Lockstep-Producer-Epoch", "1", "Lockstep-Producer-Sequence", "0"},
		"too far":       {"Lockstep-Producer-Id", "p", "Lockstep-Producer-Epoch", "1", "Lockstep-Producer-Sequence", "18446744073709551615"},
		"bad name":      {"Lockstep-Producer-Id", "p/7", "Lockstep-Producer-Epoch", "1", "Lockstep-Producer-Sequence", "1"},
	} {
		if status, _, text := h.post(t, "orders", "application/x-ndjson", body, headers...); status != 400 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// openOverHTTP opens a producer.
func (h *house) openOverHTTP(t *testing.T, id string, headers ...string) (int, string) {
	t.Helper()
	status, _, text := h.postTo(t, "/v1/producers/"+id, "", "", headers...)
	return status, text
}
