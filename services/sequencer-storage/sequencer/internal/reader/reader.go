// Package reader reads a lane's batches back and believes nothing it reads.
//
// Invariants:
//
//	I1  a batch is given out only when its header and body checksums hold, it belongs to the lane, follows the one before without a
//	    gap, and carries that one's chain value. Otherwise the lane is stopped (promise S11).
//	I2  nothing beyond the published tail is given out, whatever lies in the log (promise S6).
package reader

import (
	"errors"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Visit gets each batch, checked. The bytes are valid during the call only.
type Visit func(h *batch.Header, b []byte) error

// Batches gives the batches that cover [from, until) of l, in order, up to the tail at the time of the call; until 0 means the tail.
// from must not be below the head. It stops at visit's first error and returns it. A batch that cannot be believed stops the lane
// and is returned as fault.Corrupt.
func Batches(e *engine.Engine, l *ledger.Lane, from, until lane.Sequence, visit Visit) error {
	tail := l.Standing().Tail // I2
	if until == 0 || until > tail+1 {
		until = tail + 1
	}
	w := walk{lane: l, visit: visit}
	for from < until {
		x, ok := l.ExtentOf(from)
		if !ok {
			if head := l.Standing().Head; from < head { // retention came by meanwhile
				return Expired(head, from)
			}
			return w.stop(fault.New(fault.Corrupt, "no segment holds sequence %d", from))
		}
		next, err := w.extent(e, x, from, min(until, x.Last+1))
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// Expired is the refusal of a sequence below the head.
func Expired(head, from lane.Sequence) *fault.Fault {
	return fault.New(fault.Expired, "records [%d, %d) have expired; bootstrap, or go on at %d", from, head, head).
		With("head", decimal(head)).With("from", decimal(from))
}

type walk struct {
	lane     *ledger.Lane
	visit    Visit
	previous batch.Chain
	started  bool
}

// extent visits the batches of one extent that cover [from, until) and gives the sequence after the last one.
func (w *walk) extent(e *engine.Engine, x segment.Extent, from, until lane.Sequence) (lane.Sequence, error) {
	it := e.Scan(engine.Log)
	defer it.Close()
	ok := it.SeekBack(segment.Key(nil, x.Segment, w.lane.Number, from))
	for ; ok && from < until; ok = it.Next() {
		n, number, base, known := segment.ParseKey(it.Key())
		if !known || n != x.Segment || number != w.lane.Number {
			break
		}
		b := it.Value()
		h, err := w.check(b, base, from)
		if err != nil {
			return 0, w.stop(err)
		}
		if err := w.visit(&h, b); err != nil {
			return 0, err
		}
		w.previous, w.started = batch.ChainOf(b), true
		from = h.Next()
	}
	if err := it.Err(); err != nil {
		return 0, w.stop(err)
	}
	if from < until {
		if head := w.lane.Standing().Head; from < head {
			return 0, Expired(head, from)
		}
		return 0, w.stop(fault.New(fault.Corrupt, "the batch at sequence %d is missing in segment %d", from, x.Segment))
	}
	return from, nil
}

// check keeps I1 for one batch that is to hold sequence from.
func (w *walk) check(b []byte, base, from lane.Sequence) (batch.Header, error) {
	h, err := Check(b, w.lane.ID)
	switch {
	case err != nil:
		return h, err
	case h.Base != base || h.Epoch != w.lane.Epoch:
		return h, fault.New(fault.Corrupt, "the batch at sequence %d says it begins at %d in epoch %d", base, h.Base, h.Epoch)
	case !w.started && (h.Base > from || h.Last() < from), w.started && h.Base != from:
		return h, fault.New(fault.Corrupt, "the batch at sequence %d is missing", from)
	case w.started && h.Previous != w.previous:
		return h, fault.New(fault.Corrupt, "the batch at sequence %d does not follow the one before it: the chain is broken", base)
	}
	return h, nil
}

// Check parses a stored batch of lane id and checks both checksums. Every fault is Corrupt.
func Check(b []byte, id lane.ID) (batch.Header, error) {
	h, err := batch.ParseHeader(b)
	if err != nil {
		return h, fault.New(fault.Corrupt, "%w", err)
	}
	if h.Lane != id {
		return h, fault.New(fault.Corrupt, "a batch of lane %v lies among those of lane %v", h.Lane, id)
	}
	if body := b[len(b)-int(h.BodyBytes):]; batch.CRC(body) != h.BodyCRC {
		return h, fault.New(fault.Corrupt, "the batch [%d, %d) fails its checksum", h.Base, h.Next())
	}
	return h, nil
}

// stop stops the lane for damage; other failures, such as one of the system, are only passed on.
func (w *walk) stop(err error) error {
	if !errors.Is(err, fault.Corrupt) {
		return err
	}
	w.lane.Stop(err)
	if err := w.lane.Usable(); err != nil {
		return err
	}
	return err
}
