package sketch

// Symbol sums up the elements whose walk leads to it.
type Symbol struct {
	ID    ID     // XOR of their IDs
	Check uint32 // XOR of their checks
	Count int64  // how many; after a subtraction theirs minus ours
}

func (s *Symbol) add(id ID, check uint32, sign int64) {
	s.ID ^= id
	s.Check ^= check
	s.Count += sign
}

func (s *Symbol) empty() bool { return s.Count == 0 && s.ID == 0 && s.Check == 0 }

// pure reports whether exactly one element is left in a subtracted symbol.
func (s *Symbol) pure() bool { return (s.Count == 1 || s.Count == -1) && s.Check == s.ID.check() }

// Sketch is the symbols of one set. One goroutine at a time.
type Sketch struct {
	ids     []ID
	symbols []Symbol
}

// New makes the Sketch of a set. ids is kept and must not change; 8 bytes an element is all that a Sketch needs beside its symbols.
func New(ids []ID) *Sketch { return &Sketch{ids: ids} }

// Elements is how many elements the set has.
func (s *Sketch) Elements() int { return len(s.ids) }

// firstSymbols are made at once.
const firstSymbols = 1024

// Symbols gives the symbols [from, to), making those that are not made yet. They are the Sketch's own and must not be changed.
func (s *Sketch) Symbols(from, to int) []Symbol {
	if to > len(s.symbols) {
		s.grow(max(to, 2*len(s.symbols), firstSymbols)) // every growth walks all elements anew, so let there be few
	}
	return s.symbols[from:to]
}

func (s *Sketch) grow(to int) {
	had := uint64(len(s.symbols))
	grown := make([]Symbol, to)
	copy(grown, s.symbols)
	s.symbols = grown
	for _, id := range s.ids {
		check := id.check()
		for w := newWalk(id); w.at < uint64(to); w.next() {
			if w.at >= had {
				grown[w.at].add(id, check, 1)
			}
		}
	}
}
