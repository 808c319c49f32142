package batch_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var id = lane.ID{Stream: 3, Partition: 1}

func records(n int) []record.Record {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]record.Record, n)
	for i := range out {
		out[i] = record.Record{Sequence: lane.Sequence(100 + i), TimeMS: 1_700_000_000_000 + int64(r.IntN(50)), Key: []byte("key-" + string(rune('a'+i%26)))}
		switch i % 4 {
		case 0:
			out[i].Tombstone = true
		case 1:
			out[i].Headers = record.Headers(`{"source":"test"}`)
			out[i].Value = []byte{}
		default:
			out[i].Value = bytes.Repeat([]byte{byte(i)}, r.IntN(300))
		}
	}
	return out
}

func stamped(t testing.TB, n int) []byte {
	t.Helper()
	var b batch.Builder
	for _, r := range records(n) {
		b.Add(&r)
	}
	draft := b.Build(id)
	if _, err := batch.ParseDraft(draft); err != nil {
		t.Fatal(err)
	}
	batch.Stamp{Epoch: 2, Base: 100, Previous: batch.Chain{1, 2, 3}}.Apply(draft)
	return draft
}

func TestRecordsComeBackEqual(t *testing.T) {
	for _, n := range []int{1, 2, 7, 100, 5000} {
		want := records(n)
		i := 0
		err := batch.Walk(stamped(t, n), nil, func(r *record.Record) error {
			w := want[i]
			if r.Sequence != w.Sequence || r.TimeMS != w.TimeMS || r.Tombstone != w.Tombstone ||
				!bytes.Equal(r.Key, w.Key) || !bytes.Equal(r.Headers, w.Headers) || !bytes.Equal(r.Value, w.Value) {
				t.Fatalf("record %d of %d: got %+v, want %+v", i, n, r, w)
			}
			i++
			return nil
		})
		if err != nil || i != n {
			t.Fatalf("%d of %d records, error %v", i, n, err)
		}
	}
}

// I1: whatever single byte changes, it is found.
func TestEveryFlippedByteIsFound(t *testing.T) {
	good := stamped(t, 40)
	for i := range good {
		for _, mask := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= mask
			if err := batch.Walk(bad, nil, func(*record.Record) error { return nil }); err == nil {
				t.Fatalf("byte %d xor %#x went unnoticed", i, mask)
			}
		}
	}
	for _, n := range []int{0, 1, 87, 88, len(good) - 1} {
		if _, err := batch.ParseHeader(good[:n]); err == nil {
			t.Fatalf("a batch cut to %d bytes was taken", n)
		}
	}
}

// I2: the chain notices another order, another lane, another content.
func TestChainCoversTheHeader(t *testing.T) {
	chain := func(s batch.Stamp, at lane.ID, value string) batch.Chain {
		var b batch.Builder
		b.Add(&record.Record{TimeMS: 1, Key: []byte("k"), Value: []byte(value)})
		return s.Apply(b.Build(at))
	}
	base := chain(batch.Stamp{Epoch: 1, Base: 1}, id, "v")
	for name, other := range map[string]batch.Chain{
		"previous": chain(batch.Stamp{Epoch: 1, Base: 1, Previous: batch.Chain{9}}, id, "v"),
		"epoch":    chain(batch.Stamp{Epoch: 2, Base: 1}, id, "v"),
		"base":     chain(batch.Stamp{Epoch: 1, Base: 2}, id, "v"),
		"lane":     chain(batch.Stamp{Epoch: 1, Base: 1}, lane.ID{Stream: 3, Partition: 2}, "v"),
		"content":  chain(batch.Stamp{Epoch: 1, Base: 1}, id, "w"),
	} {
		if other == base {
			t.Errorf("another %s gives the same chain", name)
		}
	}
	if again := chain(batch.Stamp{Epoch: 1, Base: 1}, id, "v"); again != base {
		t.Error("the same batch gives another chain")
	}
}

// I3: a small stored body that declares or unfolds to much more is refused without the memory.
func TestBombsAreRefused(t *testing.T) {
	zeros := make([]byte, 64<<20)
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		codec batch.Codec
		body  []byte
	}{"s2": {batch.CodecS2, s2.Encode(nil, zeros)}, "zstd": {batch.CodecZstd, zw.EncodeAll(zeros, nil)}} {
		h := batch.Header{Codec: c.codec, Count: 1, RawBytes: 1 << 20, BodyBytes: uint32(len(c.body)), BodyCRC: batch.CRC(c.body)}
		if _, err := batch.Body(&h, c.body, nil); !errors.Is(err, fault.Malformed) {
			t.Errorf("%s bomb: got %v", name, err)
		}
	}
}

func TestOtherVersionsAreNamed(t *testing.T) {
	b := stamped(t, 1)
	b[2] = 9
	if _, err := batch.ParseHeader(b); !errors.Is(err, fault.UnsupportedVersion) {
		t.Fatalf("got %v", err)
	}
	if _, err := batch.ParseDraft(stamped(t, 1)); !errors.Is(err, fault.Malformed) {
		t.Fatalf("a stamped batch was taken as a draft: %v", err)
	}
}

// The wire format is what testdata says it is, until somebody means to change it (-update).
func TestGoldenBytes(t *testing.T) {
	var b batch.Builder
	b.Add(&record.Record{TimeMS: 1_700_000_000_000, Key: []byte("apple"), Value: []byte(`{"price":3}`)})
	b.Add(&record.Record{TimeMS: 1_700_000_000_005, Key: []byte("pear"), Headers: record.Headers(`{"by":"me"}`), Value: []byte("x")})
	b.Add(&record.Record{TimeMS: 1_700_000_000_004, Key: []byte("apple"), Tombstone: true})
	small := b.Build(id)
	batch.Stamp{Epoch: 1, Base: 41, Previous: batch.Chain{0xaa, 15: 0xbb}}.Apply(small)
	golden(t, "testdata/small.hex", small)
	golden(t, "testdata/s2.hex", stamped(t, 30))
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	text := []byte(hex.Dump(got))
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, text) {
		t.Errorf("the bytes are not those of %s; if that is meant, readers of the old format need an answer first\n%s", path, text)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(stamped(f, 1))
	f.Add(stamped(f, 30))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = batch.Walk(b, nil, func(*record.Record) error { return nil })
		if h, err := batch.ParseDraft(b); err == nil {
			// Past the checksum: the body decoders must hold by themselves.
			h.BodyCRC = batch.CRC(b[len(b)-int(h.BodyBytes):])
			if raw, err := batch.Body(&h, b, nil); err == nil {
				r := record.NewReader(raw, 1)
				var rec record.Record
				for r.Next(&rec) {
				}
			}
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	rs := records(1000)
	var builder batch.Builder
	b.ReportAllocs()
	for b.Loop() {
		builder.Reset()
		for i := range rs {
			builder.Add(&rs[i])
		}
		b.SetBytes(int64(builder.Size()))
		builder.Build(id)
	}
}

func BenchmarkWalk(b *testing.B) {
	data := stamped(b, 1000)
	scratch := make([]byte, batch.MaxRawBytes)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := batch.Walk(data, scratch, func(*record.Record) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
