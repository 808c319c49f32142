package sequencer_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// Whatever is put, replaced, deleted and restarted, the state is what a map would hold, and its digest is that of the rows. readState
// proves the digest against the rows it received.
func TestStateEqualsModel(t *testing.T) {
	dir := t.TempDir()
	h := open(t, sequencer.Config{Dir: dir, SegmentBytes: 4 << 10})
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		s := h.create(t, &streamv1.StreamSpec{Name: fmt.Sprintf("s%d", round), Keyed: true})
		model := map[string]string{}
		key := rapid.SampledFrom([]string{"a", "b", "ab", "ü", "z", "key with spaces", "\x01"})
		tail := uint64(0)
		for range rapid.IntRange(1, 8).Draw(rt, "appends") {
			rows := make([]row, rapid.IntRange(1, 6).Draw(rt, "rows"))
			for i := range rows {
				rows[i] = row{key: key.Draw(rt, "key"), value: rapid.StringN(0, 20, 40).Draw(rt, "value"), tombstone: rapid.IntRange(0, 3).Draw(rt, "fate") == 0}
				if rows[i].tombstone {
					delete(model, rows[i].key)
				} else {
					model[rows[i].key] = rows[i].value
				}
			}
			h.append(t, s, rows...)
			tail += uint64(len(rows))
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				h.close(t)
				h = open(t, sequencer.Config{Dir: dir, SegmentBytes: 4 << 10})
			}
		}
		got, mark := h.readState(t, s)
		if mark.GetSequence() != tail || len(got) != len(model) {
			rt.Fatalf("state of %d rows at %d, want %d at %d", len(got), mark.GetSequence(), len(model), tail)
		}
		for k, v := range model {
			if got[k] != v {
				rt.Fatalf("key %q is %q, want %q", k, got[k], v)
			}
		}
	})
}
