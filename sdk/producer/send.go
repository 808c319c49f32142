package producer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

type calls = grpc.BidiStreamingClient[ingestv1.PublishRequest, ingestv1.PublishResponse]

// run keeps a stream to ingest and sends what waits, until Close or until the producer is fenced.
func (p *Producer) run(ctx context.Context) {
	defer close(p.done)
	retry := pause.New(p.cfg.retry())
	for ctx.Err() == nil {
		if !p.waiting() { // no stream is kept open for nothing
			select {
			case <-p.work:
			case <-ctx.Done():
				return
			}
			continue
		}
		err := p.converse(ctx, retry)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		p.takeBack(err)
		if fault.ReasonOf(err) == fault.ProducerFenced {
			p.stop(err)
		}
		if !transient(err) {
			p.abandon(err)
			continue
		}
		if !p.rest(ctx, retry, err) {
			return
		}
	}
}

// waiting reports whether anything is to be sent.
func (p *Producer) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)+len(p.again) > 0
}

// rest waits before a retry and gives up on what has been tried for too long.
func (p *Producer) rest(ctx context.Context, retry *pause.Pause, err error) bool {
	after := retry.Next()
	p.tellRetry(err, after)
	if pause.Wait(ctx, after) != nil {
		return false
	}
	if p.cfg.GiveUpAfter <= 0 {
		return true
	}
	p.mu.Lock()
	var given []*item
	keep := p.again[:0]
	for _, it := range p.again {
		if time.Since(it.failed) > p.cfg.GiveUpAfter {
			given = append(given, it)
		} else {
			keep = append(keep, it)
		}
	}
	p.again = keep
	p.mu.Unlock()
	p.answer(refused(given, err))
	return true
}

// takeBack makes what was on its way wait for the next stream: its fate is unknown, so it keeps its sequences (I2).
func (p *Producer) takeBack(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.sent {
		for _, it := range q.items {
			p.againLocked(it, err)
		}
	}
	p.sent = nil
}

func (p *Producer) againLocked(it *item, err error) {
	if it.failed.IsZero() {
		it.failed = time.Now()
	}
	p.again = append(p.again, it)
	p.why = err
}

// converse is one stream from its opening to its end. A nil error means that it ended because nothing was left to do for a while.
func (p *Producer) converse(ctx context.Context, retry *pause.Pause) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.client.PublishStream(ctx)
	if err != nil {
		return restore(err)
	}
	received := make(chan error, 1)
	answered := make(chan struct{}, 1)
	go func() { // ends with the stream, which cancel ends
		received <- p.receive(stream, answered)
	}()
	finish := func(err error) error {
		cancel()
		if other := <-received; err == nil || errors.Is(err, io.EOF) {
			err = other // Send says only that the stream is over; Recv says why
		}
		return restore(err)
	}
	for {
		q, settled := p.nextRequest()
		switch {
		case q != nil:
			if err := stream.Send(p.message(q)); err != nil {
				return finish(err)
			}
			continue
		case settled: // everything was answered, something is to be tried again
			p.mu.Lock()
			why := p.why
			p.mu.Unlock()
			if !p.rest(ctx, retry, why) {
				return finish(ctx.Err())
			}
			p.requeue()
			continue
		}
		select {
		case <-p.work:
		case <-answered:
			retry.Reset()
		case err := <-received:
			return restore(err)
		case <-ctx.Done():
			return finish(ctx.Err())
		}
	}
}

// nextRequest cuts the next request from the queue. While something waits to be tried again nothing newer is sent, so that order is kept
// (I3); settled says that all answers are in and the retry may go out.
func (p *Producer) nextRequest() (q *request, settled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.again) > 0 {
		return nil, len(p.sent) == 0
	}
	if len(p.queue) == 0 || len(p.sent) >= p.cfg.MaxRequests {
		return nil, false
	}
	n, bytes := 0, 0
	for n < len(p.queue) && n < p.cfg.MaxRequestRecords {
		it := p.queue[n]
		if n > 0 && (bytes+it.size > p.cfg.MaxRequestBytes || it.sequence != p.queue[n-1].sequence+1) {
			break
		}
		bytes += it.size
		n++
	}
	q = &request{items: slices.Clone(p.queue[:n])}
	clear(p.queue[:n])
	p.queue = p.queue[n:]
	p.sent = append(p.sent, q)
	return q, false
}

// requeue puts what is to be tried again before the queue, by sequence.
func (p *Producer) requeue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.again, p.queue...)
	slices.SortStableFunc(p.queue, func(a, b *item) int { return cmp.Compare(a.sequence, b.sequence) })
	p.again, p.why = nil, nil
}

// message encodes a request.
func (p *Producer) message(q *request) *ingestv1.PublishRequest {
	size := 0
	for _, it := range q.items {
		size += it.size - overheadBytes + encodedOverheadBytes
	}
	body := make([]byte, 0, size)
	var previousMS int64
	for _, it := range q.items {
		body = record.Append(body, &it.record, previousMS)
		previousMS = it.record.TimeMS
	}
	return &ingestv1.PublishRequest{Stream: p.cfg.Stream, ProducerId: p.id, ProducerEpoch: p.epoch,
		FirstProducerSequence: q.items[0].sequence, Packed: body, PackedCount: uint32(len(q.items))}
}

// receive takes answers until the stream ends.
func (p *Producer) receive(stream calls, answered chan<- struct{}) error {
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Unavailable, "ingest ended the stream")
		}
		if err != nil {
			return err
		}
		if err := p.settle(answer); err != nil {
			return err
		}
		select {
		case answered <- struct{}{}:
		default:
		}
	}
}

// settle applies the answer to the oldest request on its way.
func (p *Producer) settle(answer *ingestv1.PublishResponse) error {
	p.mu.Lock()
	if len(p.sent) == 0 {
		p.mu.Unlock()
		return fault.New(fault.Malformed, "ingest answered a request that was not made")
	}
	q := p.sent[0]
	total := 0
	for _, o := range answer.GetOutcomes() {
		total += int(o.GetCount())
	}
	if total != len(q.items) {
		p.mu.Unlock()
		return fault.New(fault.Malformed, "ingest answered %d records of a request of %d", total, len(q.items))
	}
	p.sent = p.sent[1:]
	var fates []fate
	var fenced error
	i := 0
	for _, o := range answer.GetOutcomes() {
		for j := range o.GetCount() {
			it := q.items[i]
			i++
			if o.GetFault() == nil {
				if len(p.again) > 0 {
					p.accepted[string(it.record.Key)] = it.sequence
				}
				fates = append(fates, fate{it: it, ack: Ack{Partition: lane.Partition(o.GetPartition()), Duplicate: o.GetDuplicate(),
					Position: lane.Position{Epoch: lane.Epoch(o.GetEpoch()), Sequence: lane.Sequence(o.GetFirstSequence()) + lane.Sequence(j)}}})
				continue
			}
			err := fault.Restore(fault.Reason(o.GetFault().GetReason()), o.GetFault().GetMessage(), o.GetFault().GetDetails())
			switch {
			case err.Reason().Temporary():
				p.againLocked(it, err)
			case err.Reason() == fault.OutOfOrder && !it.failed.IsZero() && p.renumberLocked(it):
			case err.Reason() == fault.ProducerFenced:
				fenced, p.stopped = err, err // before anybody hears of it
				fates = append(fates, fate{it: it, err: err})
			default:
				fates = append(fates, fate{it: it, err: err})
			}
		}
	}
	if len(p.again) == 0 && len(p.accepted) > 0 && len(p.sent) == 0 {
		clear(p.accepted)
	}
	p.mu.Unlock()
	p.answer(fates)
	return fenced
}

// renumberLocked gives a record that is not stored, and whose place a later one has taken, a new sequence at the end, unless a later
// record of its key is stored or waits: then its order cannot be kept (I3). The provider has said that it is not stored, so this
// cannot store it twice (I2).
func (p *Producer) renumberLocked(it *item) bool {
	key := string(it.record.Key)
	if p.accepted[key] > it.sequence {
		return false
	}
	same := func(other *item) bool { return other.sequence > it.sequence && string(other.record.Key) == key }
	if slices.ContainsFunc(p.queue, same) || slices.ContainsFunc(p.again, same) {
		return false
	}
	for _, q := range p.sent {
		if slices.ContainsFunc(q.items, same) {
			return false
		}
	}
	it.sequence = p.next
	p.next++
	p.queue = append(p.queue, it)
	return true
}
