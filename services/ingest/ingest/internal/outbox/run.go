package outbox

import (
	"sync/atomic"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Span is the stretch [First, First+Count) of a request's records.
type Span struct{ First, Count uint32 }

// Producer says who numbers a request's records. An empty ID: nobody does.
type Producer struct {
	ID    string
	Epoch uint64
	// First is the producer sequence of the request's first record.
	First uint64
}

// Session ties requests that must keep their order: those of one call. The zero Session is ready.
type Session struct{ broken atomic.Bool }

// Broken reports whether a record failed for a temporary reason, so that nothing behind it will be sent (I4).
func (s *Session) Broken() bool { return s.broken.Load() }

// Break makes the session refuse what comes behind.
func (s *Session) Break() { s.broken.Store(true) }

// Run is the records of one request that go to one lane.
type Run struct {
	Stream   lane.StreamName
	Lane     lane.ID
	Producer Producer
	Session  *Session
	// Records are the request's, of every lane; nobody may change them until the run is done.
	Records []record.Record
	// Spans pick the run's own, rising.
	Spans []Span
	// CostBytes is the memory the run holds until it is done.
	CostBytes int64
	Owner     Owner

	home     *queue
	reserved int64
	// sent is how much of Spans has been put into batches: whole spans, and records of the next one.
	sentSpans, sentRecords uint32
	// unsettled counts records without a fate; only the lane's worker touches it.
	unsettled uint32
}

// Fate is what became of some records.
type Fate struct {
	Epoch lane.Epoch
	// Sequence is the first record's; the others follow on in the order of their spans.
	Sequence  lane.Sequence
	Duplicate bool
	// Err is nil for records that are in the log.
	Err error
}

// Owner is told the fates of a run's records. Calls for one run come from one goroutine, after one another; the calls of different
// runs may coincide. An Owner must not block.
type Owner interface {
	// Settle tells the fate of the records of spans; the slice stays as it is.
	Settle(r *Run, spans []Span, f Fate)
	// Done says that every record of r has its fate.
	Done(r *Run)
}

func countOf(spans []Span) (n uint32) {
	for _, s := range spans {
		n += s.Count
	}
	return n
}

// settle passes a fate on and ends the run with its last record (I2).
func (r *Run) settle(spans []Span, f Fate) {
	n := countOf(spans)
	if n == 0 {
		return
	}
	r.unsettled -= n
	r.Owner.Settle(r, spans, f)
	if r.unsettled == 0 {
		r.home.release(r)
		r.Owner.Done(r)
	}
}

// rest gives the spans not yet put into a batch.
func (r *Run) rest() []Span {
	if int(r.sentSpans) == len(r.Spans) {
		return nil
	}
	if r.sentRecords == 0 {
		return r.Spans[r.sentSpans:]
	}
	cut := append([]Span(nil), r.Spans[r.sentSpans:]...)
	cut[0].First += r.sentRecords
	cut[0].Count -= r.sentRecords
	return cut
}
