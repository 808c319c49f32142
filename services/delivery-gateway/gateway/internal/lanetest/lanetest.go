// Package lanetest is one lane of a stream in memory, for tests: real batches, and faults on demand.
package lanetest

import (
	"context"
	"fmt"
	"sync"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Batch is one batch of the lane.
type Batch struct {
	First, Last lane.Sequence
	Data        []byte
}

// Lane is safe for concurrent use. It answers as storage does.
type Lane struct {
	ID   lane.ID
	Name lane.StreamName

	mu      sync.Mutex
	epoch   lane.Epoch
	head    lane.Sequence
	batches []Batch
	chain   batch.Chain
	mark    *streamv1.DigestMark
	down    bool
	reads   int
	cutRead int // batches after which a read breaks off; 0 never
}

// New makes an empty lane in epoch 1.
func New(id lane.ID, name lane.StreamName) *Lane {
	return &Lane{ID: id, Name: name, epoch: 1, head: 1}
}

// noise is bytes that do not compress, as good as real ones.
var noise = func() []byte {
	b := make([]byte, 4<<20)
	x := uint64(0x9E3779B97F4A7C15)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}()

// Append adds one batch of n records with values of valueBytes.
func (l *Lane) Append(n, valueBytes int) Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.tail() + 1
	var b batch.Builder
	for i := range n {
		seq := first + lane.Sequence(i)
		at := int(uint64(seq) * uint64(valueBytes) % uint64(len(noise)-valueBytes))
		value := noise[at : at+valueBytes]
		b.Add(&record.Record{Key: fmt.Appendf(nil, "k%d", seq%1000), Value: value, TimeMS: 1_700_000_000_000 + int64(seq)})
	}
	data := b.Build(l.ID)
	l.chain = batch.Stamp{Epoch: l.epoch, Base: first, Previous: l.chain}.Apply(data)
	made := Batch{first, first + lane.Sequence(n) - 1, data}
	l.batches = append(l.batches, made)
	return made
}

// Adopt appends a batch made before by another Lane of the same ID, so that making it is not measured.
func (l *Lane) Adopt(b Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, b)
}

func (l *Lane) tail() lane.Sequence {
	if len(l.batches) == 0 {
		return l.head - 1
	}
	return l.batches[len(l.batches)-1].Last
}

// SetDown makes every call fail as Unavailable, or no longer.
func (l *Lane) SetDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// BreakReads makes every read break off after n batches; 0 for never.
func (l *Lane) BreakReads(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutRead = n
}

// Retain lets go of whole batches before head.
func (l *Lane) Retain(head lane.Sequence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.batches) > 0 && l.batches[0].Last < head {
		l.head = l.batches[0].Last + 1
		l.batches = l.batches[1:]
	}
}

// Cut raises the epoch and shortens the log, as a loss would.
func (l *Lane) Cut(batches int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	l.batches = l.batches[:max(0, len(l.batches)-batches)]
}

// Mark sets the digest of the tail.
func (l *Lane) Mark() *streamv1.DigestMark {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark = &streamv1.DigestMark{Epoch: uint64(l.epoch), Sequence: uint64(l.tail()), Sum: make([]byte, 16), Count: uint64(l.tail())}
	return l.mark
}

// Reads is how many reads were begun.
func (l *Lane) Reads() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// Standing is where the lane stands.
func (l *Lane) Standing() storage.Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return storage.Standing{Lane: l.ID, Stream: l.Name, Epoch: l.epoch, Head: l.head, Tail: l.tail(), Digest: l.mark}
}

// Tails answers for this lane.
func (l *Lane) Tails(_ context.Context, lanes []lane.ID) (out []storage.Standing, err error) {
	at := l.Standing()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, fault.New(fault.Unavailable, "storage is down")
	}
	for _, id := range lanes {
		if id == l.ID {
			out = append(out, at)
		}
	}
	return out, nil
}

// Select gives the batches a read would send; broken: the read breaks off behind them.
func (l *Lane) Select(epoch lane.Epoch, from, until lane.Sequence, maxBytes uint64) (out []Batch, broken bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	switch {
	case l.down:
		return nil, false, fault.New(fault.Unavailable, "storage is down")
	case epoch != 0 && epoch != l.epoch:
		return nil, false, fault.New(fault.EpochMismatch, "epoch %d, not %d", l.epoch, epoch).With("epoch", fmt.Sprint(l.epoch))
	case from < l.head:
		return nil, false, fault.New(fault.Expired, "records [%d, %d) are gone", from, l.head).With("head", fmt.Sprint(l.head)).With("from", fmt.Sprint(from))
	case from > l.tail()+1:
		return nil, false, fault.New(fault.AheadOfTail, "%d is ahead of %d", from, l.tail())
	}
	bytes := uint64(0)
	for _, b := range l.batches {
		if b.Last < from {
			continue
		}
		if until != 0 && b.First >= until || maxBytes != 0 && bytes >= maxBytes {
			break
		}
		if l.cutRead > 0 && len(out) == l.cutRead {
			return out, true, nil
		}
		out = append(out, b)
		bytes += uint64(len(b.Data))
	}
	return out, false, nil
}

// Read answers as storage.Client does.
func (l *Lane) Read(ctx context.Context, r storage.Range, visit func(*parcel.Parcel) error) error {
	batches, broken, err := l.Select(r.Epoch, r.From, r.Until, r.MaxBytes)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p, err := parcel.Make(b.Data, parcel.Place{Lane: r.Lane, Epoch: r.Epoch, Tail: b.Last})
		if err != nil {
			return err
		}
		if err := visit(p); err != nil {
			return err
		}
	}
	if broken {
		return fault.New(fault.Unavailable, "storage went away during the read")
	}
	return nil
}
