package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/sdk/internal/spool"
)

// made is a snapshot of some MiB that do not pack.
type made struct {
	m       *snapshot.Manifest
	id      snapshot.ID
	encoded []byte
	bytes   []byte
}

func (s *made) chunk(n int) []byte {
	c := s.m.Chunk(n)
	return bytes.Clone(s.bytes[c.Offset : c.Offset+uint64(c.Bytes)])
}

func snapshotAt(t *testing.T, p lane.Partition, at lane.Sequence) *made {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(at), 1))
	h := digest.NewHasher(5)
	var records []record.Record
	var set digest.Set
	for i := range 40 {
		value := make([]byte, 200_000)
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		r := record.Record{Key: fmt.Appendf(nil, "%04d", i), Value: value, Sequence: 1}
		records = append(records, r)
		set.Add(h.Row(r.Key, 1, 0, nil, value))
	}
	var out bytes.Buffer
	w := snapshot.NewWriter(&out, snapshot.Manifest{Stream: "orders", Lane: lane.ID{Stream: 1, Partition: p}, Seed: 5, At: lane.Position{Epoch: 1, Sequence: at}, Set: set})
	for i := range records {
		if err := w.AddRecord(h, &records[i]); err != nil {
			t.Fatal(err)
		}
	}
	m, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	encoded, id, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &made{m, id, encoded, out.Bytes()}
}

func (s *made) open(t *testing.T, dir string) *spool.Spool {
	t.Helper()
	sp, err := spool.Open(t.Context(), dir, s.m, s.id, s.encoded)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sp.Close() })
	return sp
}

// TestWhatIsThereIsFoundAgain is I1, with the cuts and flips a crash can leave.
func TestWhatIsThereIsFoundAgain(t *testing.T) {
	s, dir := snapshotAt(t, 3, 9), t.TempDir()
	total := uint32(len(s.m.Rows))
	if total < 6 {
		t.Fatalf("only %d chunks", total)
	}
	sp := s.open(t, dir)
	if got := sp.Missing(); !slices.Equal(got, []uint32{0, total}) {
		t.Fatalf("missing %v", got)
	}
	for _, n := range []int{0, 1, 3, 5} {
		if err := sp.Put(n, s.chunk(n)); err != nil {
			t.Fatal(err)
		}
	}
	want := []uint32{2, 3, 4, 5, 6, total}
	if got := sp.Missing(); !slices.Equal(got, want) {
		t.Fatalf("missing %v, want %v", got, want)
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.open(t, dir).Missing(); !slices.Equal(got, want) {
		t.Fatalf("after opening again missing %v, want %v", got, want)
	}
	chunks := chunksFile(t, dir)
	if err := os.Truncate(chunks, int64(s.m.Rows[5].Offset)+10); err != nil { // the last write was cut short
		t.Fatal(err)
	}
	flip(t, chunks, int64(s.m.Rows[1].Offset)+100)
	sp = s.open(t, dir)
	if got := sp.Missing(); !slices.Equal(got, []uint32{1, 3, 4, total}) {
		t.Fatalf("after damage missing %v", got)
	}
	if want := uint64(s.m.Rows[0].Bytes) + uint64(s.m.Rows[3].Bytes); sp.Bytes() != want {
		t.Fatalf("%d bytes are there, want %d", sp.Bytes(), want)
	}
}

func chunksFile(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.chunks"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	return found[0]
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// TestChunksAreTakenInOrder reads while another goroutine brings the chunks in any order.
func TestChunksAreTakenInOrder(t *testing.T) {
	s, dir := snapshotAt(t, 0, 9), t.TempDir()
	sp := s.open(t, dir)
	done := make(chan error, 1)
	go func() { // ends with the chunks
		for _, n := range rand.Perm(len(s.m.Rows)) {
			if err := sp.Put(n, s.chunk(n)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := range s.m.Rows {
		got, err := sp.Take(t.Context(), n, nil)
		want, openErr := s.m.Rows[n].Open(s.chunk(n), nil)
		if err != nil || openErr != nil || !bytes.Equal(got, want) {
			t.Fatalf("chunk %d: %v, %v", n, err, openErr)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestDamagedChunksAreRefused is I1 and I2.
func TestDamagedChunksAreRefused(t *testing.T) {
	s, dir := snapshotAt(t, 0, 9), t.TempDir()
	sp := s.open(t, dir)
	bad := s.chunk(2)
	bad[len(bad)/2] ^= 1
	for _, c := range []struct {
		n      int
		stored []byte
		want   fault.Reason
	}{{2, bad, fault.Corrupt}, {2, s.chunk(3), fault.Corrupt}, {2, nil, fault.Corrupt}, {len(s.m.Rows), s.chunk(2), fault.Malformed}, {-1, s.chunk(2), fault.Malformed}} {
		if err := sp.Put(c.n, c.stored); !errors.Is(err, c.want) {
			t.Fatalf("chunk %d: %v, want %v", c.n, err, c.want)
		}
	}
	if err := sp.Put(4, s.chunk(4)); err != nil { // not one of those kept in memory
		t.Fatal(err)
	}
	flip(t, chunksFile(t, dir), int64(s.m.Rows[4].Offset)+7)
	if _, err := sp.Take(t.Context(), 4, nil); !errors.Is(err, fault.Corrupt) {
		t.Fatalf("a chunk damaged on disk: %v", err)
	}
	if got := sp.Missing(); !slices.Equal(got, []uint32{0, uint32(len(s.m.Rows))}) {
		t.Fatalf("missing %v", got)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	s := snapshotAt(t, 0, 9)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.open(t, t.TempDir()).Take(ctx, 0, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestSweepKeepsTheNewestOfOurs(t *testing.T) {
	dir := t.TempDir()
	older, newer, foreign := snapshotAt(t, 0, 9), snapshotAt(t, 0, 10), snapshotAt(t, 1, 4)
	for _, s := range []*made{older, newer, foreign} {
		s.open(t, dir)
	}
	for _, name := range []string{"spool-7-00112233445566778899aabbccddeeff.manifest", "spool-0-cut.manifest.new", "spool-odd.chunks", "000001.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("LKSS"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left, err := spool.Sweep(dir, func(m *snapshot.Manifest) bool { return m.Lane.Partition == 0 })
	if err != nil || len(left) != 1 || left[0].ID != newer.id {
		t.Fatalf("left %v, %v", left, err)
	}
	if got, want := names(t, dir), []string{"000001.db", "spool-0-" + newer.id.String() + ".chunks", "spool-0-" + newer.id.String() + ".manifest"}; !slices.Equal(got, want) {
		t.Fatalf("there are %v, want %v", got, want)
	}
	if err := spool.Clear(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); strings.Join(got, " ") != "000001.db" {
		t.Fatalf("there are %v", got)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
