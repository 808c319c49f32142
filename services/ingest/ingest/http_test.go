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
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/streams/"+stream+"/records", strings.NewReader(body))
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
