package intake

import (
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// FuzzPlainHeaders holds the quick check to the slow one: what it lets pass is canonical.
func FuzzPlainHeaders(f *testing.F) {
	for _, h := range []string{`{"a":"b"}`, `{"a":"","b":"c"}`, `{"b":"x","a":"y"}`, `{"a":"b"}x`, `{"":"b"}`, `{"a":"<"}`, `{"a":"é"}`, `{}`, `{"a":"b",}`, `{"a":"\u0041"}`, "{\"a\":\"\x7f\"}"} {
		f.Add([]byte(h))
	}
	f.Fuzz(func(t *testing.T, h []byte) {
		if plainHeaders(h) {
			if err := record.Headers(h).Check(); err != nil {
				t.Fatalf("%q passed, and is not canonical: %v", h, err)
			}
		}
	})
}

func TestCheckHeaders(t *testing.T) {
	for h, plain := range map[string]bool{`{"a":"b"}`: true, `{"a":"b","c":""}`: true, `{"a":"é"}`: false, `{"a":"\\"}`: false} {
		if got := plainHeaders([]byte(h)); got != plain {
			t.Errorf("%s: plain is %v", h, got)
		}
		if err := checkHeaders(record.Headers(h)); err != nil {
			t.Errorf("%s: %v", h, err)
		}
	}
	for _, h := range []string{`{"b":"x","a":"y"}`, `{"a":"x","a":"y"}`, `{"a": "b"}`, `{"a":"b"}x`, `{"a":1}`, `{`, `{"a":"b"`} {
		if checkHeaders(record.Headers(h)) == nil {
			t.Errorf("%s was taken", h)
		}
	}
	h := record.Headers(`{"trace":"0af7651916cd43dd","user":"x"}`)
	if n := testing.AllocsPerRun(100, func() { _ = checkHeaders(h) }); n > 0 {
		t.Errorf("plain headers cost %v allocations", n)
	}
}
