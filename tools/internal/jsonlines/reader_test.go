package jsonlines

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

func TestLines(t *testing.T) {
	long := `{"k":"long","v":"` + strings.Repeat("x", record.MaxValueBytes) + `"}`
	for _, c := range []struct {
		name, input, field string
		// want lists "number key value" for lines taken and "number reason" for those not.
		want []string
	}{
		{"bytes stay as they are", "{\"k\": \"a\",\t\"b\":1.00}\r\n{\"k\":\"ü\"}", "k", []string{"1 a {\"k\": \"a\",\t\"b\":1.00}\r", `2 ü {"k":"ü"}`}},
		{"empty lines count", "\n\n{\"k\":1e3}\n", "k", []string{`3 1e3 {"k":1e3}`}},
		{"the last of repeated members", `{"k":"a","k":"b"}`, "k", []string{`1 b {"k":"a","k":"b"}`}},
		{"bad lines do not stop the next", "{\"k\":\n[1]\n{\"x\":1}\n{\"k\":null}\n{\"k\":\"\"}\n{\"k\":\"z\"}\n", "k",
			[]string{"1 malformed", "2 malformed", "3 key_missing", "4 invalid_argument", "5 key_missing", `6 z {"k":"z"}`}},
		{"an endless line is not kept", long + "\n{\"k\":\"z\"}\n", "k", []string{"1 record_too_large", `2 z {"k":"z"}`}},
		{"without keys any JSON", "[1]\n{\n3\n", "", []string{"1  [1]", "2 malformed", "3  3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(c.input), c.field)
			var got []string
			for {
				l, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				var bad *BadLine
				switch {
				case errors.As(err, &bad):
					got = append(got, strings.Join([]string{itoa(bad.Number), string(fault.ReasonOf(err))}, " "))
				case err != nil:
					t.Fatal(err)
				default:
					got = append(got, strings.Join([]string{itoa(l.Number), l.Key, string(l.Value)}, " "))
				}
			}
			if strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func itoa(n int) string { return string(rune('0' + n)) }

func FuzzNext(f *testing.F) {
	f.Add("{\"k\":\"a\"}\n{}\n", "k")
	f.Fuzz(func(t *testing.T, input, field string) {
		r := NewReader(strings.NewReader(input), field)
		lines := strings.Count(input, "\n") + 1
		for range lines + 1 {
			l, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && !strings.Contains(input, string(l.Value)) {
				t.Fatalf("line %d has bytes that were not in the input", l.Number)
			}
		}
		t.Fatal("more lines than the input has")
	})
}
