package replica

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/sdk/internal/spool"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

// spooled is a spool that has every chunk of a snapshot of these keys, in this order.
func spooled(t *testing.T, dir string, p lane.Partition, keys ...string) *spool.Spool {
	t.Helper()
	h := digest.NewHasher(7)
	var set digest.Set
	var records []record.Record
	for i, key := range keys {
		r := record.Record{Key: []byte(key), Value: bytes.Repeat([]byte(key), 400_000/len(key)), Sequence: lane.Sequence(i + 1)}
		records = append(records, r)
		set.Add(h.Row(r.Key, uint64(r.Sequence), 0, nil, r.Value))
	}
	var out bytes.Buffer
	w := snapshot.NewWriter(&out, snapshot.Manifest{Stream: "orders", Lane: lane.ID{Stream: 1, Partition: p}, Seed: 7, At: lane.Position{Epoch: 1, Sequence: 99}, Set: set})
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
	s, err := spool.Open(t.Context(), dir, m, id, encoded)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for n := range m.Rows {
		c := &m.Rows[n]
		if err := s.Put(n, bytes.Clone(out.Bytes()[c.Offset:c.Offset+uint64(c.Bytes)])); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// merged receives from spools that miss nothing, so that no gateway is needed.
func merged(t *testing.T, keys ...[]string) (Progress, error) {
	t.Helper()
	place := store.PlaceOf(filepath.Join(t.TempDir(), "orders.db"))
	unlock, err := place.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	r := &Replica{place: place, changed: make(chan struct{})}
	var spools []*spool.Spool
	for p, k := range keys {
		spools = append(spools, spooled(t, place.Dir(), lane.Partition(p), k...))
	}
	build, err := place.NewBuild(store.Meta{Stream: "orders", StreamID: 1, Partitions: uint32(len(keys)), DigestSeed: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer build.Abandon()
	return r.receive(t.Context(), &link{r: r}, spools, build)
}

func TestPartitionsAreMergedByKey(t *testing.T) {
	var lanes [][]string
	want := uint64(0)
	for p := range 7 {
		var keys []string
		for i := range 2 * p { // one has none; most have several chunks
			keys = append(keys, fmt.Sprintf("%02d-%d", (i*5+p)%10+10*(i/2), p))
		}
		for i := 1; i < len(keys); i++ {
			if keys[i] <= keys[i-1] {
				keys[i] = keys[i-1] + "x"
			}
		}
		want += uint64(len(keys))
		lanes = append(lanes, keys)
	}
	got, err := merged(t, lanes...) // the build refuses what does not rise
	if err != nil || got.Done != want || got.Expected != want || got.DoneBytes != got.ExpectedBytes {
		t.Fatalf("got %+v of %d rows, %v", got, want, err)
	}
}

// TestASnapshotOutOfOrderIsRefused: its chunks have their hashes, so asking for them again would not help.
func TestASnapshotOutOfOrderIsRefused(t *testing.T) {
	for _, lanes := range [][][]string{{{"a", "c", "b"}}, {{"a", "b"}, {"b"}}} {
		if _, err := merged(t, lanes...); !errors.Is(err, store.ErrUnproven) {
			t.Fatalf("%v: %v", lanes, err)
		}
	}
}
