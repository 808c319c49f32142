// Package producers finds records that were published before: idempotent publishing (promise S4).
//
// Per lane and producer id it knows the newest epoch, and which producer sequences of it lie at which sequences, for the last
// MaxChunks appends. A chunk is one stretch of one batch; chunks are written in the same write as the batch, so they survive with it.
//
//	key    lane u32, producer id, 0x00, epoch u64, last producer sequence u64
//	value  first sequence, then pairs (first producer sequence, how many), all uvarint
//
// Invariants:
//
//	I1  a producer sequence above all before it is new; one found in a chunk is a duplicate and has its old sequence; any other is
//	    out of order. Nothing is written twice and nothing is called a duplicate that is not in the log.
//	I2  an epoch below the newest is fenced; a higher one begins anew.
//	I3  memory is bounded: MaxChunks per producer, MaxProducers per lane; the producers that were silent longest are forgotten first.
package producers

import (
	"cmp"
	"slices"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Bounds (I3).
const (
	MaxChunks    = 256
	MaxProducers = 16 << 10
)

// Pair is `Count` producer sequences from First on.
type Pair struct{ First, Count uint64 }

// Run is a stretch of a batch's records from one producer. An empty Producer means not idempotent.
type Run struct {
	Count    uint32
	Producer string
	Epoch    uint64
	Pairs    []Pair
}

// Check returns a fault unless the run is well formed: pairs rise and add up to its count.
func (r *Run) Check() error {
	if r.Count == 0 {
		return fault.New(fault.InvalidArgument, "a producer run is empty")
	}
	if r.Producer == "" {
		if r.Epoch != 0 || len(r.Pairs) > 0 {
			return fault.New(fault.InvalidArgument, "a producer run has sequences and no producer id")
		}
		return nil
	}
	if r.Epoch == 0 {
		return fault.New(fault.InvalidArgument, "producer %q gives no epoch: open the producer first", r.Producer)
	}
	var total, next uint64 = 0, 1
	for _, p := range r.Pairs {
		if p.First < next || p.Count == 0 || p.Count > uint64(r.Count) || p.First+p.Count < p.First {
			return fault.New(fault.InvalidArgument, "the sequences of producer %q do not rise from 1 on", r.Producer)
		}
		next = p.First + p.Count
		total += p.Count
	}
	if total != uint64(r.Count) {
		return fault.New(fault.InvalidArgument, "a run of producer %q has %d records and %d sequences", r.Producer, r.Count, total)
	}
	return nil
}

// Duplicate says that records [Offset, Offset+Count) of a run are in the log from First on.
type Duplicate struct {
	Offset, Count uint32
	First         lane.Sequence
}

// Refusal is why a run cannot be written as it is. The zero Refusal: this run was fine.
type Refusal struct {
	Fault      *fault.Fault
	Duplicates []Duplicate
}

type chunk struct {
	base  lane.Sequence
	pairs []Pair
}

func (c *chunk) last() uint64 { p := c.pairs[len(c.pairs)-1]; return p.First + p.Count - 1 }

type producer struct {
	epoch  uint64
	chunks []chunk // rising
}

func (p *producer) highest() uint64 {
	if len(p.chunks) == 0 {
		return 0
	}
	return p.chunks[len(p.chunks)-1].last()
}

// find gives the sequence of producer sequence s and how many after it follow in the log one by one.
func (p *producer) find(s uint64) (at lane.Sequence, run uint64, ok bool) {
	i, _ := slices.BinarySearchFunc(p.chunks, s, func(c chunk, s uint64) int { return cmp.Compare(c.last(), s) })
	if i == len(p.chunks) {
		return 0, 0, false
	}
	at = p.chunks[i].base
	for _, pair := range p.chunks[i].pairs {
		if s < pair.First {
			return 0, 0, false
		}
		if s < pair.First+pair.Count {
			return at + lane.Sequence(s-pair.First), pair.First + pair.Count - s, true
		}
		at += lane.Sequence(pair.Count)
	}
	return 0, 0, false
}

// Index is what one lane knows of its producers. One goroutine at a time; it may run ahead of the disk, since a failed write ends
// the process.
type Index struct {
	lane segment.LaneNumber
	by   map[string]*producer
}

// NewIndex makes an empty Index.
func NewIndex(l segment.LaneNumber) *Index { return &Index{lane: l, by: map[string]*producer{}} }

// Check compares the runs of one batch with what is known. nil when all of it is new; else one Refusal per run. Runs must have
// passed their own Check.
func (x *Index) Check(runs []Run) []Refusal {
	var refusals []Refusal
	ahead := map[string]uint64{} // highest of this very batch, for producers with several runs in it
	for i := range runs {
		r := &runs[i]
		refusal := x.check(r, ahead)
		if refusal.Fault == nil && refusal.Duplicates == nil {
			continue
		}
		if refusals == nil {
			refusals = make([]Refusal, len(runs))
		}
		refusals[i] = refusal
	}
	return refusals
}

func (x *Index) check(r *Run, ahead map[string]uint64) (refusal Refusal) {
	if r.Producer == "" {
		return Refusal{}
	}
	p := x.by[r.Producer]
	if p != nil && r.Epoch < p.epoch { // I2
		return Refusal{Fault: Fenced(r.Producer, r.Epoch, p.epoch)}
	}
	if p != nil && r.Epoch > p.epoch {
		p = nil
	}
	highest := ahead[r.Producer]
	if p != nil {
		highest = max(highest, p.highest())
	}
	offset := uint64(0)
	for _, pair := range r.Pairs {
		for n := uint64(0); n < pair.Count; { // I1
			s := pair.First + n
			if s > highest {
				break // and so are the others of this pair
			}
			at, run, ok := lane.Sequence(0), uint64(1), false
			if p != nil {
				at, run, ok = p.find(s)
			}
			run = max(1, min(run, pair.Count-n))
			if ok {
				refusal.Duplicates = append(refusal.Duplicates, Duplicate{Offset: uint32(offset + n), Count: uint32(run), First: at})
			} else if refusal.Fault == nil && (p == nil || s > p.highest()) { // a retry that met its first try in one batch
				refusal.Fault = fault.New(fault.Unavailable, "producer %q sent sequence %d beside or behind itself in one batch; this copy was not written: send it again, to learn where the other one is", r.Producer, s)
			} else if refusal.Fault == nil {
				refusal.Fault = fault.New(fault.OutOfOrder, "producer %q sends sequence %d after %d, and %d is not among its last appends: open the producer anew", r.Producer, s, highest, s)
			}
			n += run
		}
		offset += pair.Count
	}
	if last := r.Pairs[len(r.Pairs)-1]; refusal.Fault == nil && refusal.Duplicates == nil {
		ahead[r.Producer] = last.First + last.Count - 1
	}
	return refusal
}

// Fenced is the refusal of an old epoch.
func Fenced(id string, epoch, newest uint64) *fault.Fault {
	return fault.New(fault.ProducerFenced, "producer %q was opened again: epoch %d is fenced by epoch %d; nothing was written", id, epoch, newest)
}

// Sink takes the changes that belong into the same write as the batch.
type Sink struct {
	Put    func(key, value []byte)
	Delete func(key []byte)
}

// Record takes a batch that passed Check, whose first record has sequence base, into the index.
func (x *Index) Record(base lane.Sequence, runs []Run, sink Sink) {
	for i := range runs {
		r := &runs[i]
		if r.Producer != "" {
			x.record(base, r, sink)
		}
		base += lane.Sequence(r.Count)
	}
}

func (x *Index) record(base lane.Sequence, r *Run, sink Sink) {
	p := x.by[r.Producer]
	if p == nil {
		x.forget(sink)
		p = &producer{epoch: r.Epoch}
		x.by[r.Producer] = p
	}
	if r.Epoch > p.epoch {
		x.drop(r.Producer, p, len(p.chunks), sink)
		p.epoch = r.Epoch
	}
	c := chunk{base: base, pairs: r.Pairs}
	p.chunks = append(p.chunks, c)
	sink.Put(x.key(r.Producer, p.epoch, c.last()), c.encode())
	if over := len(p.chunks) - MaxChunks; over > 0 {
		x.drop(r.Producer, p, over, sink)
	}
}

// drop removes the n oldest chunks.
func (x *Index) drop(id string, p *producer, n int, sink Sink) {
	for i := range p.chunks[:n] {
		sink.Delete(x.key(id, p.epoch, p.chunks[i].last()))
	}
	p.chunks = slices.Delete(p.chunks, 0, n)
}

// forget makes room for one more producer (I3), a sixteenth at a time so that it is rare.
func (x *Index) forget(sink Sink) {
	if len(x.by) < MaxProducers {
		return
	}
	ids := make([]string, 0, len(x.by))
	for id := range x.by {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(x.by[a].newest(), x.by[b].newest()) })
	for _, id := range ids[:MaxProducers/16] {
		p := x.by[id]
		x.drop(id, p, len(p.chunks), sink)
		delete(x.by, id)
	}
}

func (p *producer) newest() lane.Sequence {
	if len(p.chunks) == 0 {
		return 0
	}
	return p.chunks[len(p.chunks)-1].base
}

// Highest is the last sequence of the newest chunk, 0 when there is none; a lane's tail is never below it.
func (x *Index) Highest() (highest lane.Sequence) {
	for _, p := range x.by {
		if len(p.chunks) == 0 {
			continue
		}
		c := &p.chunks[len(p.chunks)-1]
		end := c.base - 1
		for _, pair := range c.pairs {
			end += lane.Sequence(pair.Count)
		}
		highest = max(highest, end)
	}
	return highest
}
