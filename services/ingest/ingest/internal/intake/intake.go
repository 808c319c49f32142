package intake

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// Intake is the way in for every protocol. Safe for concurrent use.
type Intake struct {
	streams *catalogue.Catalogue
	out     *outbox.Outbox
	records sync.Pool // of *[]record.Record, empty
}

// New makes an Intake.
func New(streams *catalogue.Catalogue, out *outbox.Outbox) *Intake {
	return &Intake{streams: streams, out: out, records: sync.Pool{New: func() any { return new([]record.Record) }}}
}

// Draft is what a protocol hands in.
type Draft struct {
	// Pass is who hands it in.
	Pass     grants.Pass
	Stream   lane.StreamName
	Producer outbox.Producer
	// Session keeps this request in order with others of the same call; nil: it stands alone.
	Session *outbox.Session
	// Count is how many records the request says it has; refusals of the whole are counted by it.
	Count uint32
	// Decode appends the request's records to the slice it is given. A record with a fault of its own, such as a malformed line, is
	// appended too, and reported to refuse by its index.
	Decode func(into []record.Record, refuse func(index int, why error)) ([]record.Record, error)
}

// Take checks a request and queues what is good. It returns when there is room for it, within patience; the returned Request may be
// done already, and it may have been refused as a whole (Err).
func (in *Intake) Take(ctx context.Context, d Draft, patience outbox.Patience) *Request {
	q := &Request{ended: make(chan struct{}), producer: d.Producer, session: d.Session, count: d.Count}
	if q.session == nil {
		q.session = new(outbox.Session)
	}
	if err := in.prepare(ctx, q, d); err != nil {
		q.refuse(err)
		return q
	}
	if len(q.runs) == 0 {
		close(q.ended)
		return q
	}
	if err := in.out.Reserve(ctx, q.runs, patience); err != nil {
		q.refuse(err)
		return q
	}
	q.pending.Store(int32(len(q.runs)))
	in.out.Submit(q.runs)
	return q
}

// prepare decodes and checks, and makes the runs.
func (in *Intake) prepare(ctx context.Context, q *Request, d Draft) (err error) {
	if err := d.Pass.Check(grants.Publish, d.Stream); err != nil { // before anything is looked up: I5
		return err
	}
	if d.Producer.ID != "" {
		if err := lane.CheckName("producer", d.Producer.ID); err != nil {
			return err
		}
		if d.Producer.Epoch == 0 || d.Producer.First == 0 {
			return fault.New(fault.InvalidArgument, "producer %q sent no epoch or no first producer sequence; both begin at 1 (OpenProducer gives the epoch)", d.Producer.ID)
		}
		if d.Producer.First+uint64(d.Count) < d.Producer.First {
			return fault.New(fault.InvalidArgument, "the producer sequences of producer %q go beyond the last possible", d.Producer.ID)
		}
	}
	if q.stream, err = in.streams.Find(ctx, d.Stream, d.Pass.Sees); err != nil {
		return err
	}
	checker := checker{request: q, nowMS: time.Now().UnixMilli()}
	into := *in.records.Get().(*[]record.Record)
	q.records, err = d.Decode(into, checker.refuse)
	if err == nil && uint64(len(q.records)) != uint64(d.Count) {
		err = fault.New(fault.Malformed, "the request says it has %d records and has %d; none was taken", d.Count, len(q.records))
	}
	if err != nil {
		in.recycle(q)
		return err
	}
	q.runs = checker.run()
	return nil
}

// Finish gives the outcomes of a request that is done, and takes its memory back. Call it once. A request that was refused as a
// whole has one outcome for all its records.
func (in *Intake) Finish(q *Request) []Outcome {
	var outcomes []Outcome
	if q.whole != nil {
		outcomes = []Outcome{{Count: q.count, Err: q.whole}}
	} else {
		outcomes = q.fold()
	}
	for i := range outcomes {
		if q.stream != nil && errors.Is(outcomes[i].Err, fault.UnknownStream) {
			in.streams.Forget(q.stream.Name, q.stream.ID)
			outcomes[i].Err = fault.New(fault.UnknownStream, "stream %q was deleted; if it has been made again, send the records again", q.stream.Name)
		}
	}
	in.recycle(q) // I4: all runs are done
	return outcomes
}

// maxPooledRecords keeps one giant request from holding its memory for ever.
const maxPooledRecords = 32 << 10

func (in *Intake) recycle(q *Request) {
	records := q.records
	q.records = nil
	if cap(records) == 0 || cap(records) > maxPooledRecords {
		return
	}
	clear(records)
	records = records[:0]
	in.records.Put(&records)
}
