package tip_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/tip"
)

func TestNewestSlotWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "witness")
	w, tips, err := tip.Open(path, false)
	if err != nil || len(tips) != 0 {
		t.Fatal(tips, err)
	}
	for s := range lane.Sequence(7) {
		for n := range segment.LaneNumber(3) {
			if err := w.Note(n+1, tip.Tip{Epoch: 1, Tail: s*10 + lane.Sequence(n), Chain: [16]byte{byte(s)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	load := func() map[segment.LaneNumber]tip.Tip {
		t.Helper()
		w, tips, err := tip.Open(path, true)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		return tips
	}
	if got := load(); len(got) != 3 || got[2] != (tip.Tip{Epoch: 1, Tail: 61, Chain: [16]byte{6}}) {
		t.Fatalf("%v", got)
	}
	// A torn newest slot leaves the one before; a file cut short leaves what is whole; rubbish is no tip.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	torn := append([]byte(nil), content...)
	torn[2*128+64+30] ^= 1 // lane 2, counter 7 lies in the odd slot
	write(torn)
	if got := load(); got[2].Tail != 51 || got[1].Tail != 60 {
		t.Fatalf("%v", got)
	}
	write(content[:3*128+5])
	if got := load(); len(got) != 2 {
		t.Fatalf("%v", got)
	}
	// A slot that stands in another lane's place is not believed.
	moved := append(append([]byte(nil), content...), make([]byte, 512)...)
	copy(moved[5*128:], content[2*128:3*128])
	write(moved)
	if got := load(); got[5].Tail != 0 {
		t.Fatalf("%v", got)
	}
}
