package ledger

import (
	"cmp"
	"slices"
	"sync"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Stream is a stream and its lanes by partition. Immutable.
type Stream struct {
	ID         lane.StreamID
	Spec       *streamv1.StreamSpec
	CreatedMS  int64
	DigestSeed uint64
	Lanes      []*Lane
}

// Ledger holds all streams. Safe for concurrent use.
type Ledger struct {
	mu      sync.RWMutex // protects the fields below
	byID    map[lane.StreamID]*Stream
	byName  map[lane.StreamName]*Stream
	deleted map[lane.StreamID]*Stream
}

// New makes an empty Ledger.
func New() *Ledger {
	return &Ledger{byID: map[lane.StreamID]*Stream{}, byName: map[lane.StreamName]*Stream{}, deleted: map[lane.StreamID]*Stream{}}
}

// Add takes a stream in.
func (g *Ledger) Add(s *Stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byID[s.ID] = s
	g.byName[lane.StreamName(s.Spec.GetName())] = s
}

// AddDeleted takes in a stream that was deleted and is not freed.
func (g *Ledger) AddDeleted(s *Stream) {
	for _, l := range s.Lanes {
		l.Delete()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deleted[s.ID] = s
}

// Delete takes a stream out of service; it stays among Deleted until Forget.
func (g *Ledger) Delete(s *Stream) {
	g.mu.Lock()
	delete(g.byID, s.ID)
	delete(g.byName, lane.StreamName(s.Spec.GetName()))
	g.mu.Unlock()
	g.AddDeleted(s)
}

// Deleted gives the streams that wait to be freed.
func (g *Ledger) Deleted() []*Stream {
	return g.list(func() map[lane.StreamID]*Stream { return g.deleted })
}

// Forget drops a deleted stream.
func (g *Ledger) Forget(id lane.StreamID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.deleted, id)
}

// Streams gives all streams in service, by id.
func (g *Ledger) Streams() []*Stream {
	return g.list(func() map[lane.StreamID]*Stream { return g.byID })
}

func (g *Ledger) list(of func() map[lane.StreamID]*Stream) []*Stream {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var list []*Stream
	for _, s := range of() {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Stream) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Lanes gives all lanes in service, by stream and partition.
func (g *Ledger) Lanes() []*Lane {
	var lanes []*Lane
	for _, s := range g.Streams() {
		lanes = append(lanes, s.Lanes...)
	}
	return lanes
}

// Named finds a stream by its name. Fault: UnknownStream, with the nearest names.
func (g *Ledger) Named(name lane.StreamName) (*Stream, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if s := g.byName[name]; s != nil {
		return s, nil
	}
	if near := g.near(string(name)); near != "" {
		return nil, fault.New(fault.UnknownStream, "stream %q not found; did you mean %q?", name, near).With("near", near)
	}
	return nil, fault.New(fault.UnknownStream, "stream %q not found; create it first", name)
}

// Find finds a lane by stream id, or by name when id is 0. Fault: UnknownStream, InvalidArgument for a partition it has not.
func (g *Ledger) Find(id lane.StreamID, name lane.StreamName, p lane.Partition) (*Lane, error) {
	g.mu.RLock()
	s := g.byID[id]
	g.mu.RUnlock()
	if s == nil && id != 0 {
		return nil, fault.New(fault.UnknownStream, "stream %q with id %d does not exist any more; ask for the stream by name again", name, id)
	}
	if s == nil {
		var err error
		if s, err = g.Named(name); err != nil {
			return nil, err
		}
	}
	if int(p) >= len(s.Lanes) {
		return nil, fault.New(fault.InvalidArgument, "stream %q has %d partitions, and none is numbered %d", s.Spec.GetName(), len(s.Lanes), p)
	}
	return s.Lanes[p], nil
}

// near gives the existing name with the fewest edits, when that is at most a third of its length. Callers hold mu.
func (g *Ledger) near(name string) string {
	best, bestEdits := "", max(1, len(name)/3)+1
	for n := range g.byName {
		if e := edits(name, string(n)); e < bestEdits || e == bestEdits && string(n) < best {
			best, bestEdits = string(n), e
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
