package sketch

import "github.com/lockstep-mq/lockstep/libs/message-common/fault"

// Difference finds what two sets do not share. One goroutine at a time.
type Difference struct {
	ours    *Sketch
	symbols []Symbol // theirs minus ours, minus what was found
	found   []element
	pure    []int // symbols to look at
}

// element is one that was found: Count is 1 when only they have it and -1 when only we do.
type element struct {
	id    ID
	sign  int64
	walk  walk // stands at the first symbol that does not exist yet
	check uint32
}

// Found is a finished Difference.
type Found struct {
	// Theirs are the elements only they have, Ours those only we have; in no order.
	Theirs, Ours []ID
}

// NewDifference compares with the set of ours, which it uses from then on.
func NewDifference(ours *Sketch) *Difference { return &Difference{ours: ours} }

// Symbols is how many symbols were added.
func (d *Difference) Symbols() int { return len(d.symbols) }

// Add takes the next symbols of the other side, in order, and finds what can be found. Fault: Malformed when the symbols cannot be
// those of any set; then the Difference is of no use any more.
func (d *Difference) Add(theirs []Symbol) error {
	from, to := len(d.symbols), len(d.symbols)+len(theirs)
	ours := d.ours.Symbols(from, to)
	for i, t := range theirs {
		t.add(ours[i].ID, ours[i].Check, -ours[i].Count)
		d.symbols = append(d.symbols, t)
	}
	for i := range d.found { // what is known already is in the new symbols too
		d.strike(&d.found[i])
	}
	for i := from; i < to; i++ {
		d.look(i)
	}
	for len(d.pure) > 0 {
		at := d.pure[len(d.pure)-1]
		d.pure = d.pure[:len(d.pure)-1]
		if s := &d.symbols[at]; s.pure() {
			if len(d.found) >= to { // more elements than symbols: not a set's
				return fault.New(fault.Malformed, "the symbols of the other side contradict each other")
			}
			d.found = append(d.found, element{id: s.ID, sign: s.Count, check: s.Check, walk: newWalk(s.ID)})
			d.strike(&d.found[len(d.found)-1])
		}
	}
	return nil
}

// strike takes an element out of all symbols it has not been taken out of.
func (d *Difference) strike(e *element) {
	for ; e.walk.at < uint64(len(d.symbols)); e.walk.next() {
		at := int(e.walk.at)
		d.symbols[at].add(e.id, e.check, -e.sign)
		d.look(at)
	}
}

// look notes a symbol that may give up an element.
func (d *Difference) look(at int) {
	if d.symbols[at].pure() {
		d.pure = append(d.pure, at)
	}
}

// Done reports whether everything was found (I1).
func (d *Difference) Done() bool { return len(d.symbols) > 0 && d.symbols[0].empty() }

// Found gives what was found so far. An element that was found once on each side is in neither.
func (d *Difference) Found() Found {
	count := make(map[ID]int64, len(d.found))
	for _, e := range d.found {
		count[e.id] += e.sign
	}
	var f Found
	for id, n := range count {
		switch {
		case n > 0:
			f.Theirs = append(f.Theirs, id)
		case n < 0:
			f.Ours = append(f.Ours, id)
		}
	}
	return f
}
