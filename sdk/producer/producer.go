package producer

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// Producer publishes to one stream. Safe for concurrent use; records published by one goroutine keep their order.
type Producer struct {
	cfg    Config
	conn   *grpc.ClientConn
	client ingestv1.IngestClient
	id     string
	epoch  uint64
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	work   chan struct{} // there is something to send, cap 1

	mu       sync.Mutex // protects what follows
	queue    []*item    // not sent, sequences rising
	sent     []*request // on their way, oldest first
	again    []*item    // refused for the time being, to be sent before the queue
	why      error      // of again
	accepted map[string]uint64
	next     uint64        // the next producer sequence
	bytes    int           // unanswered
	changed  chan struct{} // closed when bytes shrink; nil while nobody waits
	stopped  error         // not nil when nothing more is taken
}

// item is one record on its way.
type item struct {
	record   record.Record
	sequence uint64
	size     int
	failed   time.Time        // of the first failure
	done     func(Ack, error) // nil: nobody is told
	// hear is told what became of the record `of`, with the others of one answer; nil for done.
	hear *hearing
	of   *Record
}

// request is what one message on the stream carries.
type request struct{ items []*item }

// Open registers the producer, which fences older ones of the same id, and starts it. It tries until ctx ends, or until it is refused
// for good.
func Open(ctx context.Context, cfg Config) (*Producer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	conn, err := dial(cfg)
	if err != nil {
		return nil, err
	}
	p := &Producer{cfg: cfg, conn: conn, client: ingestv1.NewIngestClient(conn), done: make(chan struct{}), work: make(chan struct{}, 1), next: 1, accepted: map[string]uint64{}}
	if err := p.register(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	go p.run(runCtx) // stopped by Close
	return p, nil
}

func (p *Producer) register(ctx context.Context) error {
	retry := pause.New(p.cfg.retry())
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		answer, err := p.client.OpenProducer(call, &ingestv1.OpenProducerRequest{ProducerId: p.cfg.ProducerID})
		cancel()
		if err == nil {
			p.id, p.epoch = answer.GetProducerId(), answer.GetProducerEpoch()
			return nil
		}
		err = restore(err)
		if !transient(err) || ctx.Err() != nil {
			return err
		}
		after := retry.Next()
		p.tellRetry(err, after)
		if pause.Wait(ctx, after) != nil {
			return err
		}
	}
}

// ID is the producer's id and epoch.
func (p *Producer) ID() (id string, epoch uint64) { return p.id, p.epoch }

// Publish hands a record over and returns; done is called once, from the producer's own goroutine, when its fate is known: it must not wait
// for the producer (Publish may), or nothing more is answered. nil is allowed. It waits only
// while MaxInFlightBytes are unanswered. An error means that the record was not taken and done will not be called: the record breaks
// a rule, ctx ended, or the producer is closed or fenced.
func (p *Producer) Publish(ctx context.Context, r Record, done func(Ack, error)) error {
	it, err := r.item()
	if err != nil {
		return err
	}
	it.done = done
	return p.take(ctx, it)
}

// item makes a record ready for its way.
func (r Record) item() (*item, error) {
	rec, err := r.encode()
	if err != nil {
		return nil, err
	}
	return &item{record: rec, size: len(rec.Key) + len(rec.Headers) + len(rec.Value) + overheadBytes}, nil
}

// take queues an item, when there is room (I4).
func (p *Producer) take(ctx context.Context, it *item) error {
	for {
		p.mu.Lock()
		if p.stopped != nil {
			defer p.mu.Unlock()
			return p.stopped
		}
		if p.bytes == 0 || p.bytes+it.size <= p.cfg.MaxInFlightBytes {
			it.sequence = p.next
			p.next++
			p.bytes += it.size
			p.queue = append(p.queue, it)
			first := len(p.queue) == 1 && len(p.sent) < p.cfg.MaxRequests // else run is busy, or an answer wakes it
			p.mu.Unlock()
			if first {
				p.signal()
			}
			return nil
		}
		changed := p.shrinkLocked()
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// overheadBytes is what a waiting record costs besides its own bytes, about.
const overheadBytes = 128

// encodedOverheadBytes is more than what a record's encoding has besides its own bytes.
const encodedOverheadBytes = 32

// PublishWait publishes a record and waits for its fate. When ctx ends first the record may still be stored (fault.UnknownOutcome).
func (p *Producer) PublishWait(ctx context.Context, r Record) (Ack, error) {
	type answer struct {
		ack Ack
		err error
	}
	answers := make(chan answer, 1)
	if err := p.Publish(ctx, r, func(ack Ack, err error) { answers <- answer{ack, err} }); err != nil {
		return Ack{}, err
	}
	select {
	case a := <-answers:
		return a.ack, a.err
	case <-ctx.Done():
		return Ack{}, fault.New(fault.UnknownOutcome, "the record was not answered in time; it is still being sent: %w", ctx.Err())
	}
}

// Put stores a value under a key and waits for it.
func (p *Producer) Put(ctx context.Context, key string, value []byte) (Ack, error) {
	return p.PublishWait(ctx, Record{Key: key, Value: value})
}

// Delete removes a key from the state and waits for it.
func (p *Producer) Delete(ctx context.Context, key string) (Ack, error) {
	return p.PublishWait(ctx, Record{Key: key, Tombstone: true})
}

// Flush waits until everything published before the call, and during it, was answered.
func (p *Producer) Flush(ctx context.Context) error {
	for {
		p.mu.Lock()
		idle, changed := p.bytes == 0, p.shrinkLocked()
		p.mu.Unlock()
		if idle {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close takes no more records, waits for the answers of those taken until ctx ends, answers the rest with fault.UnknownOutcome, and
// closes the connection. Calling it again does nothing.
func (p *Producer) Close(ctx context.Context) error {
	p.stop(fault.New(fault.Unavailable, "the producer is closed"))
	flushErr := p.Flush(ctx)
	p.cancel()
	<-p.done
	p.abandon(fault.New(fault.UnknownOutcome, "the producer was closed before the record was answered; it may or may not be stored"))
	return errors.Join(flushErr, closeOnce(p.conn))
}

// stop says that nothing more is taken, and why.
func (p *Producer) stop(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped == nil {
		p.stopped = why
	}
}

func (p *Producer) signal() {
	select {
	case p.work <- struct{}{}:
	default:
	}
}

// abandon answers everything that waits with err.
func (p *Producer) abandon(err error) {
	p.mu.Lock()
	items := append([]*item(nil), p.again...)
	for _, q := range p.sent {
		items = append(items, q.items...)
	}
	items = append(items, p.queue...)
	p.queue, p.sent, p.again = nil, nil, nil
	p.mu.Unlock()
	p.answer(refused(items, err))
}

// fate is what became of one record.
type fate struct {
	it  *item
	ack Ack
	err error
}

func refused(items []*item, err error) []fate {
	fates := make([]fate, len(items))
	for i, it := range items {
		fates[i] = fate{it: it, err: err}
	}
	return fates
}

// answer tells records' fates (I1), then gives their room back.
func (p *Producer) answer(fates []fate) {
	bytes := 0
	var outcomes []Outcome
	for i, f := range fates {
		switch hear := f.it.hear; {
		case hear != nil:
			outcomes = append(outcomes, Outcome{*f.it.of, f.ack, f.err})
			if i+1 == len(fates) || fates[i+1].it.hear != hear {
				hear.tell(outcomes)
				outcomes = nil
			}
		case f.it.done != nil:
			f.it.done(f.ack, f.err)
		}
		bytes += f.it.size
	}
	p.mu.Lock()
	p.bytes -= bytes
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
	p.mu.Unlock()
}

// shrinkLocked gives what is closed when room comes free.
func (p *Producer) shrinkLocked() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

func (p *Producer) tellRetry(err error, after time.Duration) {
	p.cfg.Log.Warn("producer: sending again", "stream", p.cfg.Stream, "error", err, "after", after)
	if p.cfg.OnRetry != nil {
		p.cfg.OnRetry(err, after)
	}
}
