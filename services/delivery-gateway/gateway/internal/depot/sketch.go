package depot

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
)

const (
	idBytes     = 8
	symbolBytes = 24
	// firstGrowth symbols are made at once, and later at least as many again as there are: every growth walks all elements anew.
	firstGrowth = 1024

	// firstBlock symbols make the first block, each further one is a quarter as long as all before, within these bounds: what is sent too much is little beside the rows.
	firstBlock, leastBlock, mostBlock = 24, 8, 8192
	// leastWireBytes is the least a symbol takes on the wire.
	leastWireBytes = 13
)

// Sketch is the symbols of a copy's rows, shared by all repairs against it. Blocks are made one at a time.
type Sketch struct {
	copy *Copy
	turn chan struct{} // one place: protects made
	made *sketch.Sketch

	// Protected by depot.mu.
	uses    int
	usedAt  int64
	bytes   int64 // counted in the depot's sketchBytes
	symbols int   // made, or being made
}

// OpenSketch gives the copy's sketch, which is made when the first block is asked for; release lets go of it.
func (c *Copy) OpenSketch() (s *Sketch, release func()) {
	d := c.depot
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.sketch == nil {
		c.sketch = &Sketch{copy: c, turn: make(chan struct{}, 1)}
	}
	s = c.sketch
	s.uses++
	return s, sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		s.uses--
		d.clock++
		s.usedAt = d.clock
		if s.uses == 0 && c.gone {
			d.forgetSketchLocked(s)
		}
	})
}

// Length is how many symbols are worth sending: then they take as much as the rows themselves.
func (s *Sketch) Length() uint64 { return max(firstBlock, s.copy.RowBytes()/leastWireBytes) }

// Block gives the block that begins with symbol from, and where the next one does; nil when there are no more worth sending, or more
// than there is memory for. Faults: InvalidArgument when the rows are too many for SketchBytes, Overloaded when other sketches take it.
func (s *Sketch) Block(ctx context.Context, from uint64) (block []byte, next uint64, err error) {
	if from >= s.Length() {
		return nil, from, nil
	}
	length := min(max(from/4, leastBlock), mostBlock)
	if from == 0 {
		length = firstBlock
	}
	to := int(min(from+length, s.Length()))
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, from, ctx.Err()
	}
	if s.made == nil {
		if err := s.make(ctx); err != nil {
			return nil, from, err
		}
	}
	if more, err := s.grow(ctx, to); err != nil || !more {
		return nil, from, err
	}
	symbols := s.made.Symbols(int(from), to)
	return sketch.AppendBlock(make([]byte, 0, len(symbols)*(leastWireBytes+1)+16), s.made.Elements(), int(from), symbols), uint64(to), nil
}

// make reads the element IDs of all rows. s.turn is held.
func (s *Sketch) make(ctx context.Context) error {
	d, bytes := s.copy.depot, int64(s.copy.Set.Count)*idBytes
	if bytes+firstGrowth*symbolBytes > d.cfg.SketchBytes {
		return fault.New(fault.InvalidArgument, "a sketch of %d rows takes more than the %d bytes this gateway has for sketches: let it have more, or bootstrap", s.copy.Set.Count, d.cfg.SketchBytes).
			With("rows", strconv.FormatUint(s.copy.Set.Count, 10))
	}
	if err := d.countSketch(s, bytes); err != nil {
		return err
	}
	err := d.beginScan(ctx)
	if err == nil {
		defer d.endScan()
		ids, idsErr := s.copy.artefact(ctx).IDs(ctx)
		if err = idsErr; err == nil {
			s.made = sketch.New(ids)
			return nil
		}
		if errors.Is(err, fault.Corrupt) { // every chunk has its hash: it was made wrong
			d.log.Error("a snapshot's rows do not have the digest its manifest names; the copy is dropped", "snapshot", s.copy.ID.String(), "stream", string(s.copy.Stream), "error", err)
			d.mu.Lock()
			d.dropLocked(s.copy)
			d.mu.Unlock()
		}
	}
	_ = d.countSketch(s, -bytes) // giving back never fails
	return err
}

// grow makes symbols [0, to) and some more; more is false when they would not fit even alone. s.turn is held.
func (s *Sketch) grow(ctx context.Context, to int) (more bool, err error) {
	d := s.copy.depot
	d.mu.Lock()
	had := s.symbols
	d.mu.Unlock()
	if to <= had {
		return true, nil
	}
	grown := max(to, 2*had, firstGrowth)
	// The old symbols are there until they are copied.
	if int64(s.made.Elements())*idBytes+int64(had+grown)*symbolBytes > d.cfg.SketchBytes {
		return false, nil
	}
	if err := d.countSketch(s, int64(grown)*symbolBytes); err != nil {
		return false, err
	}
	if err := d.beginScan(ctx); err != nil {
		_ = d.countSketch(s, -int64(grown)*symbolBytes)
		return false, err
	}
	s.made.Symbols(0, grown)
	d.endScan()
	_ = d.countSketch(s, -int64(had)*symbolBytes)
	d.mu.Lock()
	s.symbols = grown
	d.mu.Unlock()
	return true, nil
}

// countSketch adds more bytes to s, letting go of idle sketches, least recently used first, when there is no room (I5).
func (d *Depot) countSketch(s *Sketch, more int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for more > 0 && d.sketchBytes+more > d.cfg.SketchBytes {
		var idle *Sketch
		for _, c := range d.copies {
			if k := c.sketch; k != nil && k.uses == 0 && k.bytes > 0 && (idle == nil || k.usedAt < idle.usedAt) {
				idle = k
			}
		}
		if idle == nil {
			return fault.New(fault.Overloaded, "the sketches in use take the %d bytes this gateway has for them: try again later, or another gateway", d.cfg.SketchBytes).With("retry_after_ms", "2000")
		}
		d.forgetSketchLocked(idle)
	}
	s.bytes += more
	d.sketchBytes += more
	return nil
}

// forgetSketchLocked lets go of an idle sketch.
func (d *Depot) forgetSketchLocked(s *Sketch) {
	d.sketchBytes -= s.bytes
	s.bytes = 0
	if s.copy.sketch == s {
		s.copy.sketch = nil
	}
}
