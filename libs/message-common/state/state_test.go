package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
)

func TestRowsComeBackEqual(t *testing.T) {
	want := []record.Record{
		{Sequence: 1, TimeMS: 1_700_000_000_000, Key: []byte("a"), Value: []byte("v")},
		{Sequence: 1 << 40, TimeMS: 0, Key: []byte("b"), Headers: record.Headers(`{"x":"y"}`), Value: []byte{}},
		{Sequence: 9, TimeMS: 7, Key: bytes.Repeat([]byte("k"), record.MaxKeyBytes), Value: bytes.Repeat([]byte{0}, record.MaxValueBytes)},
	}
	var chunk []byte
	for i := range want {
		chunk = state.AppendRow(chunk, &want[i])
	}
	r := state.NewReader(chunk)
	var got record.Record
	for _, w := range want {
		if !r.Next(&got) || got.Sequence != w.Sequence || got.TimeMS != w.TimeMS || !bytes.Equal(got.Key, w.Key) || !bytes.Equal(got.Headers, w.Headers) || !bytes.Equal(got.Value, w.Value) {
			t.Fatalf("got %.80v, want %.80v, error %v", got, w, r.Err())
		}
	}
	if r.Next(&got) || r.Err() != nil {
		t.Fatalf("more than was written, error %v", r.Err())
	}
	for n := 1; n < 20; n++ {
		cut := state.NewReader(chunk[:n])
		for cut.Next(&got) {
		}
		if n != 11 && cut.Err() == nil && n < 11 {
			t.Fatalf("a chunk cut to %d bytes was taken", n)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(state.AppendRow(nil, &record.Record{Sequence: 3, TimeMS: 5, Key: []byte("k"), Headers: record.Headers(`{"a":"b"}`), Value: []byte("v")}))
	f.Fuzz(func(t *testing.T, chunk []byte) {
		r := state.NewReader(chunk)
		var rec record.Record
		for r.Next(&rec) {
			one := state.AppendRow(nil, &rec)
			back := state.NewReader(one)
			var again record.Record
			if !back.Next(&again) || again.Sequence != rec.Sequence || !bytes.Equal(again.Value, rec.Value) {
				t.Fatalf("%+v became %+v", rec, again)
			}
		}
	})
}

func TestTombstonesComeBackEqual(t *testing.T) {
	want := []state.Tombstone{{Key: []byte("a"), Sequence: 1}, {Key: bytes.Repeat([]byte("k"), record.MaxKeyBytes), Sequence: 1 << 50}}
	var chunk []byte
	for _, w := range want {
		chunk = state.AppendTombstone(chunk, w)
	}
	if got := fmt.Sprintf("%x", chunk[:3]); got != "016101" {
		t.Errorf("the wire format changed: %s", got)
	}
	r := state.NewTombstoneReader(chunk)
	var got state.Tombstone
	for _, w := range want {
		if !r.Next(&got) || !bytes.Equal(got.Key, w.Key) || got.Sequence != w.Sequence {
			t.Fatalf("got %+v, want %+v, error %v", got, w, r.Err())
		}
	}
	if r.Next(&got) || r.Err() != nil {
		t.Fatalf("more than was written, error %v", r.Err())
	}
	cut := state.NewTombstoneReader(chunk[:len(chunk)-1])
	for cut.Next(&got) {
	}
	if !errors.Is(cut.Err(), fault.Malformed) {
		t.Errorf("cut short: %v", cut.Err())
	}
}

func FuzzTombstoneReader(f *testing.F) {
	f.Add(state.AppendTombstone(nil, state.Tombstone{Key: []byte("k"), Sequence: 7}))
	f.Fuzz(func(t *testing.T, chunk []byte) {
		r := state.NewTombstoneReader(chunk)
		var one, again state.Tombstone
		for r.Next(&one) {
			back := state.NewTombstoneReader(state.AppendTombstone(nil, one))
			if !back.Next(&again) || again.Sequence != one.Sequence || !bytes.Equal(again.Key, one.Key) {
				t.Fatalf("%+v became %+v", one, again)
			}
		}
	})
}
