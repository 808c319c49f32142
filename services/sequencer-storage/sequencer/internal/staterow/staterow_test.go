package staterow_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

func FuzzParseMark(f *testing.F) {
	f.Add(staterow.Mark{Epoch: 1, Sequence: 7, Set: digest.Set{Sum: digest.Sum{Hi: 3, Lo: 4}, Count: 2}}.Encode())
	f.Add(make([]byte, 40))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := staterow.ParseMark(b)
		if err == nil && !bytes.Equal(m.Encode()[:len(b)], b) { // format 1 had less
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

func FuzzSplitTombstone(f *testing.F) {
	f.Add(staterow.AppendTombstone(nil, 7, 1_700_000_000_000))
	f.Add([]byte("t"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sequence, timeMS, ok := staterow.SplitTombstone(b)
		if ok && !bytes.Equal(staterow.AppendTombstone(nil, sequence, timeMS), b) {
			t.Fatalf("%x reads as %d at %d", b, sequence, timeMS)
		}
		if _, err := staterow.CheckRow(staterow.RowKey(nil, 1, []byte("k")), b, digest.NewHasher(9)); ok && err == nil {
			t.Fatalf("%x is a row too", b)
		}
	})
}

func FuzzParseOrder(f *testing.F) {
	f.Add(staterow.OrderKey(nil, 3, 7), staterow.AppendOrder(nil, 1_700_000_000_000, []byte("key")))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		x, err := staterow.ParseOrder(key, value)
		if err != nil || !staterow.IsOrder(key, 3) {
			return
		}
		if !bytes.Equal(staterow.OrderKey(nil, 3, x.Sequence), key) || !bytes.Equal(staterow.AppendOrder(nil, x.TimeMS, x.Key), value) {
			t.Fatalf("%x %x reads as %+v", key, value, x)
		}
	})
}

// What lies in directories must read the same for ever.
func TestGoldenForms(t *testing.T) {
	r := record.Record{Sequence: 5, TimeMS: 6, Key: []byte("key"), Value: []byte("v")}
	mark := staterow.Mark{Epoch: 1, Sequence: 7, Set: digest.Set{Sum: digest.Sum{Hi: 3, Lo: 4}, Count: 2}, Floor: 5, Tombstones: 6}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"row key":         {staterow.RowKey(nil, 9, r.Key), "000000096b6b6579"},
		"row":             {staterow.AppendRow(nil, digest.Element{Hi: 1, Lo: 2}, &r), "00000000000000010000000000000002036b6579050c000176"},
		"tombstone":       {staterow.AppendTombstone(nil, 5, 6), "7400000000000000050000000000000006"},
		"by order, key":   {staterow.OrderKey(nil, 9, 5), "00000009740000000000000005"},
		"by order, value": {staterow.AppendOrder(nil, 6, r.Key), "00000000000000066b6579"},
		"mark key":        {staterow.MarkKey(9), "000000096d"},
		"mark":            {mark.Encode(), "0000000000000001000000000000000700000000000000030000000000000004000000000000000200000000000000050000000000000006"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is %s, want %s", name, got, c.want)
		}
	}
	if m, err := staterow.ParseMark(mark.Encode()); err != nil || m != mark {
		t.Errorf("the mark reads as %+v, %v", m, err)
	}
	if m, err := staterow.ParseMark(mark.Encode()[:40]); err != nil || m.Sequence != 7 || m.Floor != 7 || m.Tombstones != 0 || m.Set != mark.Set {
		t.Errorf("the mark of format 1 reads as %+v, %v", m, err)
	}
	if _, err := staterow.ParseMark(staterow.Mark{Sequence: 7, Floor: 8}.Encode()); err == nil {
		t.Error("a floor above the mark was taken")
	}
}
