package snapshot_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
)

func seal(t testing.TB, out, raw []byte, content snapshot.Chunk) ([]byte, snapshot.Chunk) {
	t.Helper()
	offset := uint64(len(out))
	out, c, err := snapshot.Seal(out, raw, content)
	if err != nil {
		t.Fatal(err)
	}
	c.Offset = offset
	return out, c
}

// sample is a snapshot of two row chunks and one of tombstones, with its file.
func sample(t testing.TB) (*snapshot.Manifest, []byte) {
	var file []byte
	m := &snapshot.Manifest{
		Stream: "orders", Lane: lane.ID{Stream: 7, Partition: 3}, Seed: 0x0123456789abcdef,
		At: lane.Position{Epoch: 2, Sequence: 1000}, AtTimeMS: 1_700_000_000_000,
		Set: digest.Set{Sum: digest.Sum{Hi: 1, Lo: 2}, Count: 5}, Floor: 400,
		Rows: make([]snapshot.Chunk, 2), Tombstone: make([]snapshot.Chunk, 1),
	}
	file, m.Rows[0] = seal(t, file, []byte(strings.Repeat("row", 100)), snapshot.Chunk{Count: 3, Newest: 900, FirstKey: []byte("a")})
	file, m.Rows[1] = seal(t, file, []byte("last rows"), snapshot.Chunk{Count: 2, Newest: 1000, FirstKey: []byte("m")})
	file, m.Tombstone[0] = seal(t, file, []byte("gone"), snapshot.Chunk{Count: 1, Newest: 950})
	return m, file
}

func TestManifestComesBackEqual(t *testing.T) {
	m, file := sample(t)
	b, id, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := snapshot.ParseManifest(b, id)
	if err != nil {
		t.Fatal(err)
	}
	again, sameID, err := got.Encode()
	if err != nil || !bytes.Equal(again, b) || sameID != id {
		t.Fatalf("encoded again it is another manifest: %v", err)
	}
	if got.Bytes() != uint64(len(file)) || got.RowBytes() != got.Tombstone[0].Offset || got.Chunks() != 3 || got.Chunk(2).Newest != 950 {
		t.Errorf("got %+v", got)
	}
	for n := range got.Chunks() {
		c := got.Chunk(n)
		if _, err := c.Open(file[c.Offset:c.Offset+uint64(c.Bytes)], nil); err != nil {
			t.Errorf("chunk %d: %v", n, err)
		}
	}
}

// The bytes of a manifest are a contract between releases. (Chunk bytes are the compressor's: readers only need them to unpack.)
func TestGoldenManifest(t *testing.T) {
	m, _ := sample(t)
	for _, chunks := range [][]snapshot.Chunk{m.Rows, m.Tombstone} {
		for i := range chunks {
			chunks[i].Bytes, chunks[i].Hash = 77, snapshot.HashOf([]byte{byte(i)})
		}
	}
	b, _, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("the wire format changed:\n%s", got)
	}
}

const golden = "4c4b53530100066f726465727307030123456789abcdef02e80780a0abfef96200000000000000010000000000000002059003024dac020384072d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e21301614d0902e80748fc721fbbc172e0925fa27af1671de225ba927134802998b10a1568a188652b016d014d0401b6072d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e21300"

func TestEveryFlippedBitOfAChunkIsFound(t *testing.T) {
	m, file := sample(t)
	c := m.Rows[0]
	stored := bytes.Clone(file[c.Offset : c.Offset+uint64(c.Bytes)])
	for i := range 8 * len(stored) {
		stored[i/8] ^= 1 << (i % 8)
		if _, err := c.Open(stored, nil); !errors.Is(err, fault.Corrupt) {
			t.Fatalf("bit %d: %v", i, err)
		}
		stored[i/8] ^= 1 << (i % 8)
	}
	if _, err := c.Open(stored[:len(stored)-1], nil); !errors.Is(err, fault.Corrupt) {
		t.Fatalf("cut short: %v", err)
	}
}

func TestEveryFlippedBitOfAManifestIsFound(t *testing.T) {
	m, _ := sample(t)
	b, id, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if _, err := snapshot.ParseManifest(b, id); !errors.Is(err, fault.Corrupt) {
			t.Fatalf("bit %d: %v", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

func TestInconsistentManifestsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*snapshot.Manifest){
		"rows missing":        func(m *snapshot.Manifest) { m.Set.Count++ },
		"floor above":         func(m *snapshot.Manifest) { m.Floor = 1001 },
		"keys fall":           func(m *snapshot.Manifest) { m.Rows[1].FirstKey = []byte("A") },
		"row from the future": func(m *snapshot.Manifest) { m.Rows[0].Newest = 1001 },
		"chunk too large":     func(m *snapshot.Manifest) { m.Rows[0].Bytes = snapshot.MaxChunkBytes + 1 },
		"content too large":   func(m *snapshot.Manifest) { m.Rows[0].RawBytes = snapshot.MaxRawBytes + 1 },
	} {
		m, _ := sample(t)
		spoil(m)
		b, id, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.ParseManifest(b, id); !errors.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFormats(t *testing.T) {
	m, _ := sample(t)
	b, _, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	newer := append(bytes.Clone(b), "said by a newer minor"...)
	newer[5]++
	if got, err := snapshot.ParseManifest(newer, snapshot.ID{}); err != nil || got.At != m.At {
		t.Errorf("a newer minor: %v", err)
	}
	if _, err := snapshot.ParseManifest(append(bytes.Clone(b), 0), snapshot.ID{}); !errors.Is(err, fault.Malformed) {
		t.Errorf("bytes beyond the end: %v", err)
	}
	other := bytes.Clone(b)
	other[4]++
	if _, err := snapshot.ParseManifest(other, snapshot.ID{}); !errors.Is(err, fault.UnsupportedVersion) || !strings.Contains(err.Error(), "2.0") || !strings.Contains(err.Error(), "1.0") {
		t.Errorf("another major: %v", err)
	}
}

// A chunk that unpacks to more than it declares must not take the memory for it.
func TestBombsAreRefused(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.EncodeAll(make([]byte, 64<<20), nil)
	c := snapshot.Chunk{Bytes: uint32(len(bomb)), RawBytes: 1000, Hash: snapshot.HashOf(bomb)}
	grown := testing.AllocsPerRun(1, func() {
		if _, err := c.Open(bomb, nil); !errors.Is(err, fault.Corrupt) {
			t.Errorf("got %v", err)
		}
	})
	if grown > 50 {
		t.Errorf("%v allocations", grown)
	}
	if _, err := snapshot.Unpack(bomb, snapshot.MaxRawBytes+1, nil); !errors.Is(err, fault.Malformed) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	m, _ := sample(f)
	b, _, _ := m.Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := snapshot.ParseManifest(b, snapshot.ID{})
		if err != nil {
			return
		}
		again, id, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.ParseManifest(again, id); err != nil {
			t.Fatalf("%+v does not come back: %v", m, err)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	packed, _ := snapshot.Pack(nil, []byte("some rows, some rows"))
	f.Add(packed, 20)
	f.Fuzz(func(t *testing.T, packed []byte, rawBytes int) {
		if raw, err := snapshot.Unpack(packed, rawBytes, nil); err == nil && len(raw) != rawBytes {
			t.Fatalf("%d bytes for %d", len(raw), rawBytes)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	raw := make([]byte, 0, 1<<20)
	for len(raw) < 1<<20 {
		raw = append(raw, "price="...)
		raw = append(raw, byte('0'+r.IntN(10)), byte('0'+r.IntN(10)), byte('0'+r.IntN(10)), byte(r.Uint32()))
	}
	stored, c, err := snapshot.Seal(nil, raw, snapshot.Chunk{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if raw, err = c.Open(stored, raw); err != nil {
			b.Fatal(err)
		}
	}
}
