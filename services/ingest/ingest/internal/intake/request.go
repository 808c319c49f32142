package intake

import (
	"sync"
	"sync/atomic"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// recordMemoryBytes is what a decoded record costs beside its bytes.
const recordMemoryBytes = 112

// Request is one request on its way. When Done is closed every record has its fate, and Outcomes may be called.
type Request struct {
	ended chan struct{}

	stream   *catalogue.Stream
	producer outbox.Producer
	session  *outbox.Session
	records  []record.Record
	runs     []*outbox.Run
	count    uint32
	bytes    int
	// whole is set when the request was refused as one; nothing else counts then.
	whole error
	// pending counts runs that are not done.
	pending atomic.Int32

	mu    sync.Mutex // protects fates, which lanes add to
	fates []fate
}

// fate is what became of the records of spans.
type fate struct {
	spans     []outbox.Span
	partition lane.Partition
	outbox.Fate
}

// Done is closed when every record has its fate.
func (q *Request) Done() <-chan struct{} { return q.ended }

// CostBytes is the memory the request holds until it is done.
func (q *Request) CostBytes() int64 { return int64(q.bytes) + int64(q.count)*recordMemoryBytes }

// Count is the number of records.
func (q *Request) Count() uint32 { return q.count }

// Err gives the fault of a request that was refused as one; nil otherwise.
func (q *Request) Err() error { return q.whole }

func (q *Request) note(f fate) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fates = append(q.fates, f)
}

// refuse makes the whole request fail.
func (q *Request) refuse(err error) {
	q.whole = err
	close(q.ended)
}

// owner is the Request as its runs see it.
type owner Request

// Settle implements outbox.Owner.
func (o *owner) Settle(r *outbox.Run, spans []outbox.Span, f outbox.Fate) {
	(*Request)(o).note(fate{spans: spans, partition: r.Lane.Partition, Fate: f})
}

// Done implements outbox.Owner: it counts the run off.
func (o *owner) Done(*outbox.Run) {
	if o.pending.Add(-1) == 0 {
		close(o.ended)
	}
}
