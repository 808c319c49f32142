package outbox

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// Config bounds an Outbox; every field must be set.
type Config struct {
	// LaneBytes and TotalBytes bound what is reserved (I3).
	LaneBytes, TotalBytes int64
	// BatchBytes (before compression) and BatchRecords bound a batch.
	BatchBytes, BatchRecords int
	// AppendTimeout is the deadline of one append.
	AppendTimeout time.Duration
	// RetryFor is how long an append that the sequencer answers with Overloaded is tried again.
	RetryFor time.Duration
}

// Appender hands a batch to the sequencer. Its errors are faults and keep I5 apart: UnknownOutcome when the batch may have been
// written, anything else when it was not. The batch is the outbox's again when Append returns.
type Appender interface {
	Append(ctx context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error)
}

// Watch is told what happens, for metrics. Safe for concurrent use.
type Watch interface {
	// Sent: a batch went to the sequencer.
	Sent(records, rawBytes, bytes int)
	// Answered: an append ended; reason is empty when it was written.
	Answered(took time.Duration, reason fault.Reason)
	// Reserved: bytes now reserved in all.
	Reserved(bytes int64)
}

// Outbox is all lanes. Safe for concurrent use. Close ends its goroutines.
type Outbox struct {
	cfg      Config
	appender Appender
	watch    Watch
	ctx      context.Context // ends at Close; workers' and appends' own
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	total    *semaphore.Weighted
	reserved atomic.Int64
	// waiting is the bytes of requests in Reserve with limited patience.
	waiting atomic.Int64
	drafts  sync.Pool // of *draft

	mu     sync.Mutex // protects what follows, queue.refs, and workers from growing after Close
	queues map[lane.ID]*queue
	closed bool
}

// New makes an Outbox.
func New(cfg Config, appender Appender, watch Watch) *Outbox {
	ctx, cancel := context.WithCancel(context.Background())
	return &Outbox{
		cfg: cfg, appender: appender, watch: watch, ctx: ctx, cancel: cancel,
		total:  semaphore.NewWeighted(cfg.TotalBytes),
		drafts: sync.Pool{New: func() any { return new(draft) }},
		queues: make(map[lane.ID]*queue),
	}
}

// Close refuses new work, fails what waits (Unavailable) and what is in flight (UnknownOutcome), and returns when nothing runs.
func (o *Outbox) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.workers.Wait()
}

// Patience says how long Reserve may wait for room.
type Patience time.Duration

// Endless waits as long as the context allows: for callers who stop reading meanwhile.
const Endless Patience = -1

// Reserve gets room for runs, which are of one stream and rising by partition. Faults: Overloaded when patience ends, Unavailable
// when the Outbox closes meanwhile, and the context's own error. Nothing is kept of a refused request. After success call Submit, once.
func (o *Outbox) Reserve(ctx context.Context, runs []*Run, patience Patience) error {
	var cost int64
	for _, r := range runs {
		r.home, r.reserved = o.queueOf(r), min(r.CostBytes, o.cfg.LaneBytes)
		r.unsettled = countOf(r.Spans)
		cost += r.reserved
	}
	total := min(cost, o.cfg.TotalBytes)
	if !o.tryReserve(runs, total) {
		if err := o.waitReserve(ctx, runs, total, patience); err != nil {
			for _, r := range runs {
				o.drop(r.home)
			}
			return err
		}
	}
	// What a request holds of the total is given back run by run; the part above TotalBytes was never taken.
	if over := cost - total; over > 0 {
		for _, r := range runs {
			less := min(over, r.reserved)
			r.home.room.Release(less)
			r.reserved -= less
			over -= less
		}
	}
	o.watch.Reserved(o.reserved.Add(total))
	return nil
}

func errStopping() error {
	return fault.New(fault.Unavailable, "the service is stopping; nothing of the request was taken: send it again")
}

// tryReserve takes everything or nothing, without waiting.
func (o *Outbox) tryReserve(runs []*Run, total int64) bool {
	for i, r := range runs {
		if !r.home.room.TryAcquire(r.reserved) {
			for _, taken := range runs[:i] {
				taken.home.room.Release(taken.reserved)
			}
			return false
		}
	}
	if o.total.TryAcquire(total) {
		return true
	}
	for _, r := range runs {
		r.home.room.Release(r.reserved)
	}
	return false
}

// waitReserve takes lanes in rising order and the total last: whoever holds some of the total has been submitted and will end, and
// whoever holds a lane waits for higher ones only, so there is no circle.
func (o *Outbox) waitReserve(ctx context.Context, runs []*Run, total int64, patience Patience) error {
	limited := ctx
	if patience != Endless {
		defer o.waiting.Add(-total)
		if o.waiting.Add(total) > o.cfg.TotalBytes {
			return o.overloaded(0)
		}
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, time.Duration(patience))
		defer cancel()
	}
	limited, cancel := context.WithCancel(limited)
	defer cancel()
	defer context.AfterFunc(o.ctx, cancel)() // Close ends the wait
	for i, r := range runs {
		if r.home.room.Acquire(limited, r.reserved) != nil {
			for _, taken := range runs[:i] {
				taken.home.room.Release(taken.reserved)
			}
			return o.refusedWait(ctx, patience)
		}
	}
	if o.total.Acquire(limited, total) != nil {
		for _, r := range runs {
			r.home.room.Release(r.reserved)
		}
		return o.refusedWait(ctx, patience)
	}
	return nil
}

func (o *Outbox) refusedWait(ctx context.Context, patience Patience) error {
	if o.ctx.Err() != nil {
		return errStopping()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.overloaded(time.Duration(patience))
}

func (o *Outbox) overloaded(waited time.Duration) error {
	return fault.New(fault.Overloaded, "%d MiB wait to be written already, and there was no room for the request within %v; nothing of it was taken: send it again in a second",
		o.reserved.Load()>>20, waited).With("retry_after_ms", "1000")
}

// Submit queues runs that Reserve let in. Their owners hear of every record.
func (o *Outbox) Submit(runs []*Run) {
	o.mu.Lock()
	closed := o.closed
	if !closed {
		o.workers.Add(1) // Close waits until the runs are with workers
		defer o.workers.Done()
	}
	o.mu.Unlock()
	for _, r := range runs {
		if closed {
			r.settle(r.Spans, Fate{Err: errStopping()})
			continue
		}
		r.home.push(r)
	}
}

// queueOf finds or makes the lane's queue and holds it.
func (o *Outbox) queueOf(r *Run) *queue {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.queues[r.Lane]
	if q == nil {
		q = newQueue(o, r.Stream, r.Lane)
		o.queues[r.Lane] = q
	}
	q.refs++
	return q
}

// drop lets go of a queue; one that nobody holds is forgotten.
func (o *Outbox) drop(q *queue) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q.refs--; q.refs == 0 {
		delete(o.queues, q.id)
	}
}
