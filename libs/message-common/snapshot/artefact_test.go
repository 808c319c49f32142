package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
)

const seed = 77

// history is a state that grows record by record, with its deleted keys.
type history struct {
	at   lane.Sequence
	rows map[string]record.Record
	dead map[string]lane.Sequence
}

func (h *history) put(key string, value []byte) {
	h.at++
	h.rows[key] = record.Record{Sequence: h.at, TimeMS: int64(h.at) * 10, Key: []byte(key), Value: value}
	delete(h.dead, key)
}

func (h *history) delete(key string) {
	h.at++
	delete(h.rows, key)
	h.dead[key] = h.at
}

func newHistory() *history {
	return &history{rows: map[string]record.Record{}, dead: map[string]lane.Sequence{}}
}

// live makes a history of n records over so many keys, a tenth of them deletions.
func live(r *rand.Rand, h *history, n, keys int) {
	for range n {
		key := fmt.Sprintf("key-%06d", r.IntN(keys))
		if r.IntN(10) == 0 {
			h.delete(key)
			continue
		}
		value := make([]byte, 100+r.IntN(100))
		for i := range value {
			value[i] = byte(r.IntN(64))
		}
		h.put(key, value)
	}
}

// snap makes the snapshot of h with a floor.
func snap(t testing.TB, h *history, floor lane.Sequence) *snapshot.Artefact {
	t.Helper()
	hasher := digest.NewHasher(seed)
	var set digest.Set
	for _, r := range h.rows {
		set.Add(hasher.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))
	}
	var file bytes.Buffer
	w := snapshot.NewWriter(&file, snapshot.Manifest{Stream: "s", Lane: lane.ID{Stream: 1}, Seed: seed, At: lane.Position{Epoch: 1, Sequence: h.at}, Set: set, Floor: floor})
	for _, key := range slices.Sorted(maps.Keys(h.rows)) {
		r := h.rows[key]
		if err := w.AddRecord(hasher, &r); err != nil {
			t.Fatal(err)
		}
	}
	dead := slices.Collect(maps.Keys(h.dead))
	slices.SortFunc(dead, func(a, b string) int { return int(h.dead[a]) - int(h.dead[b]) })
	for _, key := range dead {
		if h.dead[key] > floor {
			if err := w.Tombstone(state.Tombstone{Key: []byte(key), Sequence: h.dead[key]}); err != nil {
				t.Fatal(err)
			}
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
	if m, err = snapshot.ParseManifest(encoded, id); err != nil {
		t.Fatal(err)
	}
	return &snapshot.Artefact{Manifest: m, Stored: func(n int, _ []byte) ([]byte, error) {
		c := m.Chunk(n)
		return file.Bytes()[c.Offset : c.Offset+uint64(c.Bytes)], nil
	}}
}

// rowsOf unpacks packets into rows and tombstones.
func rowsOf(t testing.TB, packets []snapshot.Packet) (rows map[string]record.Record, dead map[string]lane.Sequence) {
	t.Helper()
	rows, dead = map[string]record.Record{}, map[string]lane.Sequence{}
	for _, p := range packets {
		raw, err := snapshot.Unpack(p.Packed, int(p.RawBytes), nil)
		if err != nil {
			t.Fatal(err)
		}
		n := uint32(0)
		if p.Tombstones {
			r := state.NewTombstoneReader(raw)
			for one := (state.Tombstone{}); r.Next(&one); n++ {
				dead[string(one.Key)] = one.Sequence
			}
		} else {
			r := state.NewReader(raw)
			for rec := (record.Record{}); r.Next(&rec); n++ {
				rows[string(rec.Key)] = rec.Clone()
			}
		}
		if n != p.Count {
			t.Fatalf("a packet of %d holds %d", p.Count, n)
		}
	}
	return rows, dead
}

func collect(into *[]snapshot.Packet) func(snapshot.Packet) error {
	return func(p snapshot.Packet) error { *into = append(*into, p); return nil }
}

func equalRows(a, b map[string]record.Record) bool {
	return maps.EqualFunc(a, b, func(x, y record.Record) bool {
		return x.Sequence == y.Sequence && x.TimeMS == y.TimeMS && bytes.Equal(x.Value, y.Value)
	})
}

// An old state and the changes since it are the new state.
func TestChangesLeadFromOldToNew(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	h := newHistory()
	live(r, h, 20_000, 5_000)
	old, since := maps.Clone(h.rows), h.at
	live(r, h, 30_000, 6_000)
	a := snap(t, h, since)
	if len(a.Rows) < 1 || len(a.Tombstone) < 1 {
		t.Fatalf("%d and %d chunks", len(a.Rows), len(a.Tombstone))
	}
	var packets []snapshot.Packet
	if err := a.Changes(t.Context(), since, collect(&packets)); err != nil {
		t.Fatal(err)
	}
	rows, dead := rowsOf(t, packets)
	maps.Copy(old, rows)
	for key, at := range dead {
		if at <= since {
			t.Errorf("%s was deleted at %d, asked was since %d", key, at, since)
		}
		delete(old, key)
	}
	if !equalRows(old, h.rows) {
		t.Error("the old state with the changes is not the new state")
	}
	if err := a.Changes(t.Context(), since-1, collect(&packets)); !errors.Is(err, fault.Expired) {
		t.Errorf("below the floor: %v", err)
	}
}

// A sketch of the rows and the rows it asks for repair any other state.
func TestPickRepairs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	h := newHistory()
	live(r, h, 20_000, 5_000)
	a := snap(t, h, 0)
	hasher := digest.NewHasher(seed)
	mine, keys := maps.Clone(h.rows), slices.Sorted(maps.Keys(h.rows))
	for _, key := range keys[:50] {
		rec := mine[key].Clone()
		rec.Value[0] ^= 1
		mine[key] = rec
	}
	for _, key := range keys[50:80] {
		delete(mine, key)
	}
	mine["extra"] = record.Record{Sequence: 1, Key: []byte("extra")}
	byID := map[sketch.ID]string{}
	var ids []sketch.ID
	for key, rec := range mine {
		id := sketch.IDOf(hasher.Row(rec.Key, uint64(rec.Sequence), rec.TimeMS, rec.Headers, rec.Value))
		byID[id], ids = key, append(ids, id)
	}
	theirs, err := a.IDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, _, _ := reconcile(t, theirs, ids)
	for _, id := range found.Ours {
		delete(mine, byID[id])
	}
	wanted := map[sketch.ID]struct{}{}
	for _, id := range found.Theirs {
		wanted[id] = struct{}{}
	}
	if len(wanted) != 80 || len(found.Ours) != 51 {
		t.Errorf("%d wanted, %d extra", len(wanted), len(found.Ours))
	}
	var packets []snapshot.Packet
	if err := a.Pick(t.Context(), wanted, collect(&packets)); err != nil {
		t.Fatal(err)
	}
	rows, _ := rowsOf(t, packets)
	maps.Copy(mine, rows)
	if !equalRows(mine, h.rows) {
		t.Error("the repaired state is not the snapshot's")
	}
}

func reconcile(t testing.TB, theirs, ours []sketch.ID) (sketch.Found, int, error) {
	t.Helper()
	s, d := sketch.New(theirs), sketch.NewDifference(sketch.New(ours))
	for !d.Done() {
		if d.Symbols() > 10_000 {
			t.Fatal("no end")
		}
		if err := d.Add(s.Symbols(d.Symbols(), d.Symbols()+64)); err != nil {
			t.Fatal(err)
		}
	}
	return d.Found(), d.Symbols(), nil
}

// A chunk that was damaged where it lies is never used.
func TestDamagedChunksAreNotUsed(t *testing.T) {
	h := newHistory()
	live(rand.New(rand.NewPCG(6, 6)), h, 20_000, 10_000)
	a := snap(t, h, 0)
	intact := a.Stored
	a.Stored = func(n int, scratch []byte) ([]byte, error) {
		b, err := intact(n, scratch)
		b = bytes.Clone(b)
		b[len(b)/2] ^= 0x40
		return b, err
	}
	var packets []snapshot.Packet
	if _, err := a.IDs(t.Context()); !errors.Is(err, fault.Corrupt) {
		t.Errorf("IDs: %v", err)
	}
	if err := a.Changes(t.Context(), 0, collect(&packets)); !errors.Is(err, fault.Corrupt) || len(packets) > 0 {
		t.Errorf("Changes: %v", err)
	}
}

// Rows that do not prove to be the state never become a snapshot.
func TestUnprovenRowsAreNoSnapshot(t *testing.T) {
	w := snapshot.NewWriter(&bytes.Buffer{}, snapshot.Manifest{Set: digest.Set{Count: 1}})
	if err := w.AddRecord(digest.NewHasher(seed), &record.Record{Key: []byte("k"), Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); !errors.Is(err, fault.Corrupt) {
		t.Errorf("got %v", err)
	}
}
