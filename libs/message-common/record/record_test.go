package record_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", record.MaxKeyBytes+1)
	for name, c := range map[string]struct {
		record record.Record
		want   fault.Reason
	}{
		"good":              {record.Record{Key: []byte("k"), Value: []byte("v")}, ""},
		"empty value":       {record.Record{Key: []byte("k")}, ""},
		"no key":            {record.Record{Value: []byte("v")}, fault.KeyMissing},
		"long key":          {record.Record{Key: []byte(long)}, fault.RecordTooLarge},
		"large value":       {record.Record{Key: []byte("k"), Value: make([]byte, record.MaxValueBytes+1)}, fault.RecordTooLarge},
		"large headers":     {record.Record{Key: []byte("k"), Headers: make([]byte, record.MaxHeadersBytes+1)}, fault.RecordTooLarge},
		"key not UTF-8":     {record.Record{Key: []byte{0xff}}, fault.InvalidArgument},
		"key with NUL":      {record.Record{Key: []byte("a\x00b")}, fault.InvalidArgument},
		"tombstone + value": {record.Record{Key: []byte("k"), Value: []byte("v"), Tombstone: true}, fault.InvalidArgument},
		"before 1970":       {record.Record{Key: []byte("k"), TimeMS: -1}, fault.InvalidArgument},
	} {
		if got := fault.ReasonOf(c.record.Check(true)); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	if err := (&record.Record{Value: []byte("v")}).Check(false); err != nil {
		t.Errorf("no key in a stream without keys: %v", err)
	}
}

func TestHeadersAreCanonical(t *testing.T) {
	h, err := record.NewHeaders(map[string]string{"b": "<2>", "a": "é\n"})
	if err != nil {
		t.Fatal(err)
	}
	if string(h) != `{"a":"é\n","b":"<2>"}` {
		t.Fatalf("got %s", h)
	}
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`{"b":"1","a":"2"}`, `{ "a":"1"}`, `{"a":1}`, `[]`, `{"a":"1","a":"2"}`, `{}`, `{"a":"\u0041"}`} {
		if err := record.Headers(bad).Check(); err == nil {
			t.Errorf("%s was taken as canonical", bad)
		}
	}
	if _, err := record.NewHeaders(map[string]string{"": "x"}); !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("a header without a name: %v", err)
	}
	if _, err := record.NewHeaders(map[string]string{"a": "\xff"}); !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("a header that is not UTF-8: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(record.Append(nil, &record.Record{TimeMS: 5, Key: []byte("k"), Headers: record.Headers(`{"a":"b"}`), Value: []byte("v")}, 0))
	f.Add(record.Append(nil, &record.Record{TimeMS: 5, Key: []byte("k"), Tombstone: true}, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := record.NewReader(body, 1)
		var rec record.Record
		var again []byte
		var previous int64
		for r.Next(&rec) {
			again = record.Append(again, &rec, previous)
			previous = rec.TimeMS
		}
		if r.Err() == nil {
			// What decodes encodes to something that decodes to the same (lengths may have been written long-winded).
			r2 := record.NewReader(again, 1)
			var a record.Record
			first := record.NewReader(body, 1)
			var b record.Record
			for first.Next(&b) {
				if !r2.Next(&a) || a.TimeMS != b.TimeMS || !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) || !bytes.Equal(a.Headers, b.Headers) || a.Tombstone != b.Tombstone {
					t.Fatalf("%+v became %+v", b, a)
				}
			}
		}
	})
}
