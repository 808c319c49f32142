package sequencer_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// openSnapshot asks for a snapshot and gives its manifest.
func (h *house) openSnapshot(t testing.TB, r *sequencerv1.OpenSnapshotRequest) (*snapshot.Manifest, snapshot.ID, error) {
	t.Helper()
	stream, err := h.OpenSnapshot(t.Context(), r)
	if err != nil {
		return nil, snapshot.ID{}, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, snapshot.ID{}, err
		}
		if m.GetManifest() == nil {
			continue
		}
		id, ok := snapshot.ParseID(m.GetManifest().GetId())
		if !ok {
			t.Fatalf("the id has %d bytes", len(m.GetManifest().GetId()))
		}
		manifest, err := snapshot.ParseManifest(m.GetManifest().GetManifest(), id)
		return manifest, id, err
	}
}

// artefact is the snapshot as somebody has it who reads it over gRPC.
func (h *house) artefact(t testing.TB, m *snapshot.Manifest, id snapshot.ID) *snapshot.Artefact {
	return &snapshot.Artefact{Manifest: m, Stored: func(n int, scratch []byte) ([]byte, error) {
		c := m.Chunk(n)
		stream, err := h.ReadSnapshot(t.Context(), &sequencerv1.ReadSnapshotRequest{Id: id[:], Offset: c.Offset, Bytes: uint64(c.Bytes)})
		if err != nil {
			return nil, err
		}
		scratch = scratch[:0]
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return scratch, nil
			}
			if err != nil {
				return nil, err
			}
			scratch = append(scratch, m.GetData()...)
		}
	}}
}

// held reads all rows and tombstones of an artefact.
func held(t testing.TB, a *snapshot.Artefact) (rows map[string]string, dead map[string]lane.Sequence) {
	t.Helper()
	if _, err := a.IDs(t.Context()); err != nil { // the rows have the manifest's digest
		t.Fatal(err)
	}
	rows, dead = map[string]string{}, map[string]lane.Sequence{}
	for n := range a.Chunks() {
		stored, err := a.Stored(n, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := a.Chunk(n).Open(stored, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n < len(a.Rows) {
			r := state.NewReader(raw)
			for rec := (record.Record{}); r.Next(&rec); {
				rows[string(rec.Key)] = string(rec.Value)
			}
		} else {
			r := state.NewTombstoneReader(raw)
			for one := (state.Tombstone{}); r.Next(&one); {
				dead[string(one.Key)] = one.Sequence
			}
		}
	}
	return rows, dead
}

// churn publishes n random changes and keeps what they add up to.
func (h *house) churn(t testing.TB, s *streamv1.Stream, r *rand.Rand, model map[string]string, n int) {
	t.Helper()
	for n > 0 {
		batch := make([]row, 0, 500)
		for range min(n, cap(batch)) {
			one := row{key: fmt.Sprintf("key-%05d", r.IntN(3000)), value: fmt.Sprintf("%0*d", 50+r.IntN(900), r.Uint32()), tombstone: r.IntN(8) == 0}
			if one.tombstone {
				delete(model, one.key)
			} else {
				model[one.key] = one.value
			}
			batch = append(batch, one)
		}
		n -= len(batch)
		h.append(t, s, batch...)
	}
}

func TestSnapshotIsTheState(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir})
	s := h.create(t, &streamv1.StreamSpec{Name: "s", Keyed: true, Partitions: 1})
	r, model := rand.New(rand.NewPCG(1, 1)), map[string]string{}
	h.churn(t, s, r, model, 6000)
	m, id, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if m.At.Sequence != 6000 || m.Stream != "s" || len(m.Rows) < 2 {
		t.Fatalf("the snapshot is of %v in %d chunks", m.At, len(m.Rows))
	}
	if rows, _ := held(t, h.artefact(t, m, id)); !maps.Equal(rows, model) {
		t.Errorf("the snapshot has %d rows, the state %d", len(rows), len(model))
	}

	// Another who asks gets the same; one who is ahead of it gets a newer one, while the old one can still be read.
	if _, again, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"}); err != nil || again != id {
		t.Errorf("a second one was made: %v", err)
	}
	old := maps.Clone(model)
	h.churn(t, s, r, model, 1500)
	newer, newerID, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s", AtLeast: &streamv1.Position{Epoch: 1, Sequence: 6001}})
	if err != nil || newer.At.Sequence != 7500 {
		t.Fatalf("got %v, %v", newer, err)
	}
	rows, dead := held(t, h.artefact(t, newer, newerID))
	if !maps.Equal(rows, model) {
		t.Error("the newer snapshot is not the state")
	}
	for key := range old { // what was deleted in between is known as deleted, and nothing that is there
		if _, there := model[key]; there == (dead[key] != 0) {
			t.Errorf("key %s: a row %v, deleted at %d", key, there, dead[key])
		}
	}
	if rows, _ := held(t, h.artefact(t, m, id)); !maps.Equal(rows, old) {
		t.Error("the older snapshot changed")
	}

	// It outlives the process.
	h.close(t)
	h = open(t, sequencer.Config{Dir: dir})
	m, _, err = h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s", Id: id[:]})
	if err != nil {
		t.Fatal(err)
	}
	if rows, _ := held(t, h.artefact(t, m, id)); !maps.Equal(rows, old) {
		t.Error("after a restart the snapshot is another")
	}
}

func TestSnapshotsThatCannotBe(t *testing.T) {
	h := open(t, sequencer.Config{Dir: t.TempDir()})
	s := h.create(t, &streamv1.StreamSpec{Name: "s", Keyed: true, Partitions: 1})
	h.create(t, &streamv1.StreamSpec{Name: "log", Partitions: 1})
	h.append(t, s, row{key: "a", value: "1"})
	_, id, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		request *sequencerv1.OpenSnapshotRequest
		want    fault.Reason
	}{
		"no keys":       {&sequencerv1.OpenSnapshotRequest{Stream: "log"}, fault.NotKeyed},
		"no stream":     {&sequencerv1.OpenSnapshotRequest{Stream: "t"}, fault.UnknownStream},
		"ahead":         {&sequencerv1.OpenSnapshotRequest{Stream: "s", AtLeast: &streamv1.Position{Epoch: 1, Sequence: 2}}, fault.AheadOfTail},
		"another epoch": {&sequencerv1.OpenSnapshotRequest{Stream: "s", AtLeast: &streamv1.Position{Epoch: 9, Sequence: 1}}, fault.EpochMismatch},
		"another id":    {&sequencerv1.OpenSnapshotRequest{Stream: "s", Id: make([]byte, 31)}, fault.InvalidArgument},
		"an old id":     {&sequencerv1.OpenSnapshotRequest{Stream: "s", Id: append(make([]byte, 31), 1)}, fault.SnapshotGone},
	} {
		if _, _, err := h.openSnapshot(t, c.request); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stream, err := h.ReadSnapshot(t.Context(), &sequencerv1.ReadSnapshotRequest{Id: id[:], Offset: 1 << 40, Bytes: 1})
	if err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := h.streams.DeleteStream(t.Context(), &sequencerv1.DeleteStreamRequest{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{StreamId: s.GetId()}); !errors.Is(err, fault.UnknownStream) {
		t.Errorf("of a deleted stream: %v", err)
	}
}

// An empty state has a snapshot too: no rows, and the digest of none.
func TestSnapshotOfNothing(t *testing.T) {
	h := open(t, sequencer.Config{Dir: t.TempDir()})
	h.create(t, &streamv1.StreamSpec{Name: "s", Keyed: true, Partitions: 1})
	m, id, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"})
	if err != nil || m.Chunks() != 0 || m.Set.Count != 0 {
		t.Fatalf("got %+v, %v", m, err)
	}
	held(t, h.artefact(t, m, id))
}

// Two hundred who ask at once share one build.
func TestHerdSharesOneBuild(t *testing.T) {
	h := open(t, sequencer.Config{Dir: t.TempDir()})
	s := h.create(t, &streamv1.StreamSpec{Name: "s", Keyed: true, Partitions: 1})
	h.churn(t, s, rand.New(rand.NewPCG(2, 2)), map[string]string{}, 5000)
	ids := make([]snapshot.ID, 200)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			var err error
			if _, ids[i], err = h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatal("more than one snapshot was made")
		}
	}
}

// A byte that rots on the provider's disk is never sent: the snapshot is gone, and another is made.
func TestDamagedSnapshotIsNotServed(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir})
	s := h.create(t, &streamv1.StreamSpec{Name: "s", Keyed: true, Partitions: 1})
	model := map[string]string{}
	h.churn(t, s, rand.New(rand.NewPCG(3, 3)), model, 3000)
	m, id, err := h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "snapshots", id.String()+".chunks")
	bytes, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bytes[len(bytes)/2] ^= 4
	if err := os.WriteFile(file, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.artefact(t, m, id).IDs(t.Context()); !errors.Is(err, fault.SnapshotGone) {
		t.Fatalf("got %v", err)
	}
	m, id, err = h.openSnapshot(t, &sequencerv1.OpenSnapshotRequest{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if rows, _ := held(t, h.artefact(t, m, id)); !maps.Equal(rows, model) {
		t.Error("the snapshot that was made anew is not the state")
	}
}
