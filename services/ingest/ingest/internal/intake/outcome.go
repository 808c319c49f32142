package intake

import (
	"cmp"
	"slices"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// Outcome is the answer to Count neighbouring records of a request.
type Outcome struct {
	Count uint32
	// Err is set when they were refused or their fate is unknown; the fields below are empty then.
	Err       error
	Partition lane.Partition
	Epoch     lane.Epoch
	// FirstSequence is the first record's; the others follow on.
	FirstSequence lane.Sequence
	Duplicate     bool
}

// stretch is one span with its own fate.
type stretch struct {
	span outbox.Span
	Outcome
}

// fold puts the fates into the order of the records (I1).
func (q *Request) fold() []Outcome {
	n := 0
	for _, f := range q.fates {
		n += len(f.spans)
	}
	stretches := make([]stretch, 0, n)
	for _, f := range q.fates {
		sequence := f.Sequence
		for _, span := range f.spans {
			s := stretch{span, Outcome{Count: span.Count, Err: f.Err}}
			if f.Err == nil {
				s.Partition, s.Epoch, s.FirstSequence, s.Duplicate = f.partition, f.Epoch, sequence, f.Duplicate
				sequence += lane.Sequence(span.Count)
			}
			stretches = append(stretches, s)
		}
	}
	slices.SortFunc(stretches, func(a, b stretch) int { return cmp.Compare(a.span.First, b.span.First) })
	outcomes := make([]Outcome, 0, len(stretches))
	for _, s := range stretches {
		if n := len(outcomes); n > 0 && outcomes[n-1].continues(&s.Outcome) {
			outcomes[n-1].Count += s.Count
			continue
		}
		outcomes = append(outcomes, s.Outcome)
	}
	return outcomes
}

// continues reports whether next is the same fate, one place on.
func (o *Outcome) continues(next *Outcome) bool {
	if o.Err != nil || next.Err != nil {
		return o.Err == next.Err //nolint:errorlint // identity is meant: the same fault value was given to both
	}
	return o.Partition == next.Partition && o.Epoch == next.Epoch && o.Duplicate == next.Duplicate &&
		o.FirstSequence+lane.Sequence(o.Count) == next.FirstSequence
}
