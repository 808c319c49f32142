package sdktest

import (
	"sort"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// laneLog is one partition. Protected by the provider's mutex.
type laneLog struct {
	id         lane.ID
	keyed      bool
	epoch      lane.Epoch
	head, tail lane.Sequence
	tailMS     int64
	chain      batch.Chain
	batches    []sealed
	state      map[string]record.Record
	dead       map[string]lane.Sequence // deleted keys
	floor      lane.Sequence            // deletions up to here are forgotten
	set        digest.Set
	hasher     *digest.Hasher
	seed       uint64
	followers  map[*follower]struct{}
	snapshots  []*kept // the last ones, rising
}

// sealed is a batch with what is known of it.
type sealed struct {
	bytes       []byte
	first, last lane.Sequence
	mark        *streamv1.DigestMark
}

func newLaneLog(id lane.ID, seed uint64, keyed bool) *laneLog {
	return &laneLog{id: id, keyed: keyed, epoch: 1, head: 1, state: map[string]record.Record{}, dead: map[string]lane.Sequence{}, hasher: digest.NewHasher(seed), seed: seed, followers: map[*follower]struct{}{}}
}

// append makes one batch of records and answers the sequence of the first.
func (l *laneLog) append(records []record.Record) lane.Sequence {
	var b batch.Builder
	base := l.tail + 1
	for i := range records {
		r := records[i].Clone()
		r.Sequence = base + lane.Sequence(i)
		b.Add(&r)
		if l.keyed {
			l.fold(r)
		}
		l.tailMS = r.TimeMS
	}
	bytes := b.Build(l.id)
	l.chain = batch.Stamp{Epoch: l.epoch, Base: base, Previous: l.chain}.Apply(bytes)
	l.tail += lane.Sequence(len(records))
	l.batches = append(l.batches, sealed{bytes: bytes, first: base, last: l.tail, mark: l.mark()})
	for f := range l.followers {
		f.out.Wake()
	}
	return base
}

func (l *laneLog) fold(r record.Record) {
	key := string(r.Key)
	if old, ok := l.state[key]; ok {
		l.set.Remove(l.element(&old))
		delete(l.state, key)
	}
	if r.Tombstone {
		l.dead[key] = r.Sequence
		return
	}
	delete(l.dead, key)
	l.set.Add(l.element(&r))
	l.state[key] = r
}

func (l *laneLog) element(r *record.Record) digest.Element {
	return l.hasher.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
}

// mark is the digest of the state at the tail; nil without a state.
func (l *laneLog) mark() *streamv1.DigestMark {
	if !l.keyed {
		return nil
	}
	return markOf(lane.Position{Epoch: l.epoch, Sequence: l.tail}, l.set)
}

func markOf(at lane.Position, set digest.Set) *streamv1.DigestMark {
	return &streamv1.DigestMark{Epoch: uint64(at.Epoch), Sequence: uint64(at.Sequence), Sum: set.Sum.Append(nil), Count: set.Count}
}

func (l *laneLog) wire() *streamv1.Lane {
	return &streamv1.Lane{Partition: uint32(l.id.Partition), Epoch: uint64(l.epoch), Head: uint64(l.head), Tail: uint64(l.tail), TailTimeMs: l.tailMS, Digest: l.mark()}
}

// check refuses positions that cannot be read from.
func (l *laneLog) check(epoch lane.Epoch, from lane.Sequence) error {
	switch {
	case epoch != 0 && epoch != l.epoch:
		return fault.New(fault.EpochMismatch, "the lane is in epoch %d, not %d", l.epoch, epoch).With("epoch", text(uint64(l.epoch)))
	case from < l.head:
		return fault.New(fault.Expired, "records [%d, %d) have expired", from, l.head).With("head", text(uint64(l.head))).With("from", text(uint64(from)))
	case from > l.tail+1:
		return fault.New(fault.AheadOfTail, "sequence %d was asked for and the tail is %d", from, l.tail).With("tail", text(uint64(l.tail)))
	}
	return nil
}

// at finds the batch that holds a sequence, or the first behind it.
func (l *laneLog) at(s lane.Sequence) (sealed, bool) {
	i := sort.Search(len(l.batches), func(i int) bool { return l.batches[i].last >= s })
	if i == len(l.batches) {
		return sealed{}, false
	}
	return l.batches[i], true
}

// records decodes the whole log.
func (l *laneLog) records() []record.Record {
	var all []record.Record
	for _, b := range l.batches {
		_ = batch.Walk(b.bytes, nil, func(r *record.Record) error { // we made it ourselves
			all = append(all, r.Clone())
			return nil
		})
	}
	return all
}

func (l *laneLog) beat() {
	for f := range l.followers {
		f.status = true
		f.out.Wake()
	}
}
