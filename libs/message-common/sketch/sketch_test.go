package sketch_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
)

// sets makes two sets that share common elements and have theirs and ours of their own.
func sets(seed uint64, common, theirs, ours int) (a, b []sketch.ID, want sketch.Found) {
	r := rand.New(rand.NewPCG(seed, 7))
	for range common {
		id := sketch.ID(r.Uint64())
		a, b = append(a, id), append(b, id)
	}
	for range theirs {
		id := sketch.ID(r.Uint64())
		a, want.Theirs = append(a, id), append(want.Theirs, id)
	}
	for range ours {
		id := sketch.ID(r.Uint64())
		b, want.Ours = append(b, id), append(want.Ours, id)
	}
	return a, b, want
}

// reconcile sends blocks until the difference is found, and gives how many symbols and bytes that took.
func reconcile(t testing.TB, theirs, ours []sketch.ID, limit int) (f sketch.Found, symbols, bytes int) {
	t.Helper()
	sender, d := sketch.New(theirs), sketch.NewDifference(sketch.New(ours))
	for n := 16; !d.Done(); n += max(16, n/8) {
		if n > limit {
			t.Fatalf("%d symbols do not find the difference", limit)
		}
		first := d.Symbols()
		wire := sketch.AppendBlock(nil, sender.Elements(), first, sender.Symbols(first, n))
		bytes += len(wire)
		block, err := sketch.ParseBlock(wire)
		if err != nil || int(block.First) != first || int(block.Elements) != len(theirs) {
			t.Fatalf("block %+v, %v", block, err)
		}
		if err := d.Add(block.Symbols); err != nil {
			t.Fatal(err)
		}
	}
	return d.Found(), d.Symbols(), bytes
}

func same(a, b []sketch.ID) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func TestDifferenceIsFoundWhole(t *testing.T) {
	for _, c := range []struct{ common, theirs, ours int }{
		{0, 0, 0}, {1000, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1000, 1, 1}, {0, 300, 0}, {0, 0, 300}, {20000, 10, 10}, {20000, 1000, 900}, {100, 3000, 2000},
	} {
		t.Run(fmt.Sprintf("%d+%d-%d", c.common, c.theirs, c.ours), func(t *testing.T) {
			a, b, want := sets(uint64(c.theirs), c.common, c.theirs, c.ours)
			got, symbols, _ := reconcile(t, a, b, 4*(c.theirs+c.ours)+200)
			if !same(got.Theirs, want.Theirs) || !same(got.Ours, want.Ours) {
				t.Fatalf("found %d and %d elements, want %d and %d", len(got.Theirs), len(got.Ours), len(want.Theirs), len(want.Ours))
			}
			if n := c.theirs + c.ours; n >= 1000 && float64(symbols) > 1.7*float64(n) {
				t.Errorf("%d symbols for %d elements", symbols, n)
			}
		})
	}
}

// What a sketch gives must not depend on how it was asked.
func TestSymbolsDoNotDependOnGrowth(t *testing.T) {
	a, _, _ := sets(3, 500, 0, 0)
	whole := sketch.New(a).Symbols(0, 1000)
	piecewise := sketch.New(a)
	for n := 1; n <= 1000; n += 37 {
		if !slices.Equal(piecewise.Symbols(0, n), whole[:n]) {
			t.Fatalf("symbols [0,%d) differ", n)
		}
	}
}

// Symbols that no set has must end in a fault or an unfinished difference, within bounds.
func TestContradictingSymbolsEnd(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a, b, _ := sets(9, 200, 50, 50)
	for range 200 {
		symbols := slices.Clone(sketch.New(a).Symbols(0, 300))
		for range 1 + r.IntN(50) {
			i := r.IntN(len(symbols))
			symbols[i] = sketch.Symbol{ID: symbols[r.IntN(len(symbols))].ID, Check: symbols[i].Check, Count: r.Int64N(5) - 2}
		}
		d := sketch.NewDifference(sketch.New(b))
		if err := d.Add(symbols); err != nil && !errors.Is(err, fault.Malformed) {
			t.Fatal(err)
		}
		if f := d.Found(); len(f.Ours)+len(f.Theirs) > len(symbols) {
			t.Fatalf("%d elements out of %d symbols", len(f.Ours)+len(f.Theirs), len(symbols))
		}
	}
}

// The bytes of a block are a contract between releases (I2).
func TestGoldenBlock(t *testing.T) {
	ids := make([]sketch.ID, 64)
	for i := range ids {
		ids[i] = sketch.ID(uint64(i+1) * 0x9e3779b97f4a7c15)
	}
	got := hex.EncodeToString(sketch.AppendBlock(nil, len(ids), 0, sketch.New(ids).Symbols(0, 8)))
	if got != golden {
		t.Errorf("the wire format changed:\n%s", got)
	}
}

const golden = "4000f32fc5203ef040403fa927c7000d8494d9199130b2ef70e76703ad3011be2cf0a64cfbedfc6b032b04cac2cd52e4ba490c494703046b6121a21153ab064e296a01046a89f0119ec3300bc3978e0ce869cc443f45e7784519c49b00ca22bcf19a9c0dabc4306df403"

func FuzzParseBlock(f *testing.F) {
	f.Add(sketch.AppendBlock(nil, 3, 0, sketch.New([]sketch.ID{1, 2, 3}).Symbols(0, 5)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := sketch.ParseBlock(b)
		if err != nil {
			return
		}
		again, err := sketch.ParseBlock(sketch.AppendBlock(nil, int(block.Elements), int(block.First), block.Symbols))
		if err != nil || !slices.Equal(again.Symbols, block.Symbols) {
			t.Fatalf("%+v became %+v, %v", block, again, err)
		}
		d := sketch.NewDifference(sketch.New([]sketch.ID{1, 2, 3}))
		if len(block.Symbols) < 1000 {
			_ = d.Add(block.Symbols) // must end
		}
	})
}

func BenchmarkReconcile(b *testing.B) {
	for _, differing := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("differing=%d", differing), func(b *testing.B) {
			x, y, _ := sets(1, 1_000_000, differing, differing)
			for b.Loop() {
				_, symbols, bytes := reconcile(b, x, y, 1<<20)
				b.ReportMetric(float64(bytes)/float64(2*differing), "bytes/element")
				b.ReportMetric(float64(symbols)/float64(2*differing), "symbols/element")
			}
		})
	}
}

func BenchmarkGrow(b *testing.B) {
	x, _, _ := sets(1, 1_000_000, 0, 0)
	for _, symbols := range []int{1 << 10, 1 << 15} {
		b.Run(fmt.Sprintf("symbols=%d", symbols), func(b *testing.B) {
			for b.Loop() {
				sketch.New(x).Symbols(0, symbols)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/element")
		})
	}
}
