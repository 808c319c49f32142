package outbox

import (
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// refused settles duplicates and faults of a refused batch; the rest goes out again, ahead of the next draft (I1).
func (w *worker) refused(d *draft, refusals []*sequencerv1.RunRefusal) {
	if len(refusals) != len(d.parts) {
		w.fail(d, fault.New(fault.Internal, "the sequencer refused %d runs of a batch of %d; nothing was written", len(refusals), len(d.parts)))
		return
	}
	var rest []part
	before, after := uint32(0), uint32(0)
	for i, p := range d.parts {
		before += countOf(p.spans)
		left := w.settleRefusal(p, refusals[i])
		if n := countOf(left); n > 0 {
			rest = append(rest, part{p.run, left})
			after += n
		}
	}
	if after == before {
		// Resubmission ends because every round settles at least one record; an answer that refuses nothing would go round for ever.
		w.fail(d, fault.New(fault.Internal, "the sequencer refused the batch without naming a record; nothing was written"))
		return
	}
	if len(rest) > 0 {
		w.again = append([][]part{rest}, w.again...)
	}
	w.sift()
}

// divisible reports whether a batch refused as a whole may have been refused for the sake of one of its runs.
func divisible(err error) bool {
	switch fault.ReasonOf(err) {
	case fault.InvalidArgument, fault.InvalidName, fault.Malformed, fault.KeyMissing, fault.RecordTooLarge, fault.ProducerFenced, fault.OutOfOrder, fault.NotPermitted:
		return true
	}
	return false
}

// divide sends the halves of a batch that was refused as a whole, so that in the end only the run that is at fault is refused. Nothing
// of it was written.
func (w *worker) divide(d *draft) {
	half := len(d.parts) / 2
	first, second := append([]part(nil), d.parts[:half]...), append([]part(nil), d.parts[half:]...)
	w.again = append([][]part{first, second}, w.again...)
}

// settleRefusal settles what one refusal names and gives the spans that are left to send.
func (w *worker) settleRefusal(p part, refusal *sequencerv1.RunRefusal) []Span {
	left := p.spans
	done := uint32(0) // records of the part in front of left
	var kept []Span   // in front of left, and not a duplicate
	for _, dup := range refusal.GetDuplicates() {
		if dup.GetOffset() < done || dup.GetCount() == 0 {
			continue // not in order or overlapping: not believed
		}
		var skipped, repeated []Span
		skipped, left = split(left, dup.GetOffset()-done)
		repeated, left = split(left, dup.GetCount())
		done = dup.GetOffset() + dup.GetCount()
		kept = append(kept, skipped...)
		p.run.settle(repeated, Fate{Epoch: lane.Epoch(dup.GetEpoch()), Sequence: lane.Sequence(dup.GetFirstSequence()), Duplicate: true})
	}
	if len(kept) > 0 {
		left = append(kept, left...)
	}
	if f := refusal.GetFault(); f.GetReason() != "" {
		why := fault.Restore(fault.Reason(f.GetReason()), f.GetMessage(), f.GetDetails())
		if why.Reason().Temporary() {
			p.run.Session.Break()
		}
		p.run.settle(left, Fate{Err: why})
		return nil
	}
	return left
}

// split cuts spans behind their first n records.
func split(spans []Span, n uint32) (front, back []Span) {
	for i, s := range spans {
		if n == 0 {
			return spans[:i:i], spans[i:]
		}
		if n < s.Count {
			front = append(append(front, spans[:i]...), Span{s.First, n})
			back = append(append(back, Span{s.First + n, s.Count - n}), spans[i+1:]...)
			return front, back
		}
		n -= s.Count
	}
	return spans, nil
}
