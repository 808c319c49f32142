package materialiser

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Whatever is put and removed, the table gives what a map would give, except for what it said it let go; and it stays in its bound.
func TestElementsEqualMap(t *testing.T) {
	const bound = 4096
	table, ids := newElements(bound*slotBytes), newIdentifier()
	type key struct {
		lane segment.LaneNumber
		key  string
	}
	model := map[key]known{}
	gone := map[segment.LaneNumber]int{}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 200_000 {
		k := key{segment.LaneNumber(1 + r.IntN(3)), fmt.Sprint(r.IntN(3000))}
		id := ids.of([]byte(k.key))
		if r.IntN(5) == 0 {
			_, in := model[k]
			if table.remove(k.lane, id) && !in {
				t.Fatal("something was removed that never was put")
			}
			delete(model, k)
			continue
		}
		e := known{live, digest.Element{Hi: uint64(i), Lo: r.Uint64()}}
		if r.IntN(3) == 0 {
			e = deadAt(lane.Sequence(i + 1))
		}
		before := table.get(k.lane, id).kind != absent
		added, other := table.put(k.lane, id, e)
		if added == before {
			t.Fatalf("added %v, and it was there: %v", added, before)
		}
		if other != 0 {
			gone[other]++
		}
		model[k] = e
		if len(table.slots) > bound || table.used > bound/4*3 {
			t.Fatalf("%d of %d slots are used", table.used, len(table.slots))
		}
	}
	missing, found := map[segment.LaneNumber]int{}, 0
	for k, e := range model {
		got := table.get(k.lane, ids.of([]byte(k.key)))
		switch {
		case got.kind == absent:
			missing[k.lane]++
		case got != e:
			t.Fatalf("%v is remembered as %v, want %v", k, got, e)
		default:
			found++
		}
	}
	for l, n := range missing {
		if gone[l] == 0 || n > gone[l] {
			t.Fatalf("of lane %d, %d keys are missing, and %d were let go", l, n, gone[l])
		}
	}
	if found != table.used || found < bound/2 {
		t.Fatalf("%d elements are found and %d used", found, table.used)
	}
}
