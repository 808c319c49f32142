package producers_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
)

// store is the engine's family as a map.
type store map[string][]byte

func (s store) sink() producers.Sink {
	return producers.Sink{Put: func(k, v []byte) { s[string(k)] = slices.Clone(v) }, Delete: func(k []byte) { delete(s, string(k)) }}
}

func (s store) load(t interface{ Fatal(...any) }) *producers.Index {
	x := producers.NewIndex(3)
	for _, k := range slices.Sorted(maps.Keys(s)) {
		if err := x.Load([]byte(k), s[k]); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// Whatever order retries come in, and however often the process is restarted, each producer sequence is in the log once, and a
// duplicate is answered with the place it has.
func TestEveryRecordOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kept, log, next := store{}, map[string]lane.Sequence{}, lane.Sequence(1)
		x := producers.NewIndex(3)
		for range rapid.IntRange(1, 40).Draw(t, "appends") {
			id := rapid.SampledFrom([]string{"p", "pp", "q"}).Draw(t, "producer")
			first := rapid.Uint64Range(1, 40).Draw(t, "first")
			var pairs []producers.Pair
			count := uint64(0)
			for range rapid.IntRange(1, 3).Draw(t, "pairs") {
				n := rapid.Uint64Range(1, 4).Draw(t, "count")
				pairs = append(pairs, producers.Pair{First: first, Count: n})
				count += n
				first += n + rapid.Uint64Range(1, 3).Draw(t, "gap")
			}
			run := producers.Run{Count: uint32(count), Producer: id, Epoch: 1, Pairs: pairs}
			if err := run.Check(); err != nil {
				t.Fatal(err)
			}
			var sequences []uint64
			for _, p := range pairs {
				for i := range p.Count {
					sequences = append(sequences, p.First+i)
				}
			}
			refusals := x.Check([]producers.Run{run})
			if refusals == nil {
				for i, s := range sequences {
					key := fmt.Sprint(id, "/", s)
					if log[key] != 0 {
						t.Fatalf("%s is written twice", key)
					}
					log[key] = next + lane.Sequence(i)
				}
				x.Record(next, []producers.Run{run}, kept.sink())
				next += lane.Sequence(count)
			} else {
				duplicates := map[uint64]lane.Sequence{}
				for _, d := range refusals[0].Duplicates {
					for i := range d.Count {
						duplicates[sequences[d.Offset+i]] = d.First + lane.Sequence(i)
					}
				}
				for _, s := range sequences {
					if log[fmt.Sprint(id, "/", s)] != duplicates[s] {
						t.Fatalf("%s/%d is at %d and answered %d", id, s, log[fmt.Sprint(id, "/", s)], duplicates[s])
					}
				}
				if len(duplicates) == 0 && refusals[0].Fault == nil {
					t.Fatal("refused without a reason")
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				x = kept.load(t)
			}
		}
		if want := next - 1; len(log) > 0 && x.Highest() != slices.MaxFunc(slices.Collect(maps.Values(log)), cmp.Compare[lane.Sequence]) || x.Highest() > want {
			t.Fatalf("highest %d of %d", x.Highest(), want)
		}
	})
}

// A retry may be gathered into the same batch as its first try. It is refused for now, not for good: the first try is about to be written.
func TestARetryBesideItsFirstTry(t *testing.T) {
	x := store{}.load(t)
	run := producers.Run{Count: 2, Producer: "p", Epoch: 1, Pairs: []producers.Pair{{First: 1, Count: 2}}}
	refusals := x.Check([]producers.Run{run, run})
	if len(refusals) != 2 || refusals[0].Fault != nil || refusals[0].Duplicates != nil || !errors.Is(refusals[1].Fault, fault.Unavailable) {
		t.Fatalf("refusals %+v", refusals)
	}
}

func TestBoundsOfMemory(t *testing.T) {
	kept := store{}
	x := producers.NewIndex(3)
	one := func(id string, s uint64) []producers.Run {
		return []producers.Run{{Count: 1, Producer: id, Epoch: 1, Pairs: []producers.Pair{{First: s, Count: 1}}}}
	}
	for s := range uint64(producers.MaxChunks + 50) {
		x.Record(lane.Sequence(s+1), one("p", s+1), kept.sink())
	}
	if len(kept) != producers.MaxChunks {
		t.Fatalf("%d chunks are kept", len(kept))
	}
	r := x.Check(one("p", 50)) // its chunk was dropped: it cannot be told, so it is not taken and not called a duplicate
	if r == nil || !errors.Is(r[0].Fault, fault.OutOfOrder) {
		t.Fatalf("%+v", r)
	}
	if r := x.Check(one("p", 51)); r == nil || r[0].Fault != nil || r[0].Duplicates[0].First != 51 {
		t.Fatalf("%+v", r)
	}
	for i := range producers.MaxProducers + 10 {
		x.Record(lane.Sequence(1000+i), one(fmt.Sprint("q", i), 1), kept.sink())
	}
	if len(kept) > producers.MaxProducers+1 {
		t.Fatalf("%d chunks are kept of %d producers", len(kept), producers.MaxProducers)
	}
	if r := x.Check(one(fmt.Sprint("q", producers.MaxProducers+9), 1)); r == nil {
		t.Fatal("the newest producer was forgotten")
	}
}

func TestLoadRefusesRubbish(t *testing.T) {
	x := producers.NewIndex(1)
	for _, c := range [][2]string{{"", ""}, {"\x00\x00\x00\x01p\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05", "\x01\x05"}, {"\x00\x00\x00\x01p\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05", "\x01\x05\x02"}} {
		if err := x.Load([]byte(c[0]), []byte(c[1])); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%q: %v", c, err)
		}
	}
}
