package staterow_test

import (
	"bytes"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

func FuzzParseMark(f *testing.F) {
	f.Add(staterow.Mark{Epoch: 1, Sequence: 7, Set: digest.Set{Sum: digest.Sum{Hi: 3, Lo: 4}, Count: 2}}.Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := staterow.ParseMark(b)
		if err == nil && !bytes.Equal(m.Encode(), b) {
			t.Fatalf("%x reads as %+v", b, m)
		}
	})
}

// FuzzCheckRow: a row that passes was written by AppendRow under that key and seed.
func FuzzCheckRow(f *testing.F) {
	h := digest.NewHasher(9)
	r := record.Record{Sequence: 5, TimeMS: 6, Key: []byte("key"), Value: []byte("value")}
	f.Add("key", staterow.AppendRow(nil, h.Row(r.Key, 5, 6, nil, r.Value), &r))
	f.Add("", []byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		e, err := staterow.CheckRow(staterow.RowKey(nil, 1, []byte(key)), value, digest.NewHasher(9))
		if err == nil && !bytes.Equal(e.Append(nil), value[:digest.Bytes]) {
			t.Fatal("passed with another element")
		}
	})
}
