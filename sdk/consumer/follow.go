package consumer

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

const (
	// ackEvery spaces acknowledgements out.
	ackEvery = 100 * time.Millisecond
	// partingTimeout bounds the last words.
	partingTimeout = 2 * time.Second
	// inboxBatches is how many decoded batches wait for the loop (I3).
	inboxBatches = 8
)

// link is one connection with what belongs to it.
type link struct {
	*session.Session
	c           *Consumer
	stream      *streamv1.Stream
	incarnation uint64
	cursors     []*consumerv1.Cursor // as the provider keeps them, as far as it has said so
	yield       func(Record, error) bool
	lastAck     time.Time
}

// parcel is one delivery made ready for the loop.
type parcel struct {
	place    *place
	delivery *deliveryv1.Delivery
	header   batch.Header
	records  []record.Record
	err      error // ends the subscription
}

// connected is one session from dialling to its end.
func (c *Consumer) connected(ctx context.Context, n int, yield func(Record, error) bool) error {
	s, err := session.Dial(ctx, c.cfg.session(), n)
	if err != nil {
		return err
	}
	defer s.Close()
	k := &link{Session: s, c: c, yield: yield}
	if k.stream, err = s.Describe(ctx, c.cfg.Stream); err != nil {
		return err
	}
	if c.cfg.ConsumerID != "" {
		answer, err := s.Attach(ctx, c.cfg.Stream, c.cfg.ConsumerID, consumerv1.ConsumerKind_CONSUMER_KIND_LOG)
		if err != nil {
			return err
		}
		k.incarnation, k.cursors = answer.GetIncarnation(), answer.GetCursors()
		c.sayAgain()
		defer k.part(ctx)
	}
	if c.lanes == nil {
		if err := c.place(k.stream, k.cursors); err != nil {
			return err
		}
	}
	return k.follow(ctx)
}

// place decides where each partition begins: the provider's cursor, else Start.
func (c *Consumer) place(s *streamv1.Stream, cursors []*consumerv1.Cursor) error {
	lanes := map[lane.Partition]*place{}
	for _, l := range s.GetLanes() {
		p := lane.Partition(l.GetPartition())
		if c.cfg.Partitions != nil && !slices.Contains(c.cfg.Partitions, p) {
			continue
		}
		at := &place{partition: p, until: lane.Sequence(l.GetTail())}
		switch start := c.cfg.Start; {
		case start.tail:
			at.last = lane.Position{Epoch: lane.Epoch(l.GetEpoch()), Sequence: lane.Sequence(l.GetTail())}
		case start.from > 0:
			at.last = lane.Position{Sequence: start.from - 1}
		case start.after != nil && start.after[p] != lane.Position{}:
			at.last = start.after[p]
		default:
			at.last = lane.Position{Epoch: lane.Epoch(l.GetEpoch()), Sequence: lane.Sequence(max(1, l.GetHead()) - 1)}
		}
		for _, cursor := range cursors {
			if cursor.GetPartition() == l.GetPartition() && cursor.GetPosition().GetEpoch() > 0 { // at sequence 0 when a command has moved it before the first
				at.last = lane.Position{Epoch: lane.Epoch(cursor.GetPosition().GetEpoch()), Sequence: lane.Sequence(cursor.GetPosition().GetSequence())}
			}
		}
		lanes[p] = at
	}
	for _, p := range c.cfg.Partitions {
		if lanes[p] == nil {
			return fault.New(fault.InvalidArgument, "stream %q has %d partitions; there is no %d", c.cfg.Stream, len(s.GetLanes()), p)
		}
	}
	c.lanes = lanes
	return nil
}

// follow subscribes the lanes and hands records to the loop until something ends it.
func (k *link) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel() // before Wait: it is what stops the readers
	inbox := make(chan parcel, inboxBatches)
	open := func(at *place) error {
		d, err := k.Subscribe(ctx, &deliveryv1.SubscribeRequest{
			Stream: k.c.cfg.Stream, Partition: uint32(at.partition), ConsumerId: k.c.cfg.ConsumerID, Incarnation: k.incarnation,
			After: &streamv1.Position{Epoch: uint64(at.last.Epoch), Sequence: uint64(at.last.Sequence)}, WindowBytes: session.WindowBytes,
		})
		if err != nil {
			return err
		}
		readers.Go(func() {
			defer d.Close()
			k.receive(ctx, d, at, inbox)
		})
		return nil
	}
	for _, at := range k.c.lanes {
		if k.reached(at) && k.incarnation == 0 {
			continue
		} // a named consumer says in every partition what it has: only that can be acknowledged on a new connection
		if err := open(at); err != nil {
			return err
		}
	}
	if k.finished() {
		return errLeft
	}
	ticker := time.NewTicker(ackEvery)
	defer ticker.Stop()
	for {
		select {
		case p := <-inbox:
			again, err := k.take(ctx, p)
			if err != nil {
				return err
			}
			if again {
				if err := open(p.place); err != nil {
					return err
				}
			}
		case <-ticker.C:
		case <-k.Draining():
			return fault.New(fault.Unavailable, "the gateway asks us to go elsewhere")
		case <-ctx.Done():
			return ctx.Err()
		}
		k.ack(ctx)
		if k.finished() {
			return errLeft
		}
	}
}

// receive decodes one lane's subscription into the inbox; the last parcel carries the error.
func (k *link) receive(ctx context.Context, d *session.Deliveries, at *place, inbox chan<- parcel) {
	for {
		p := k.next(ctx, d, at)
		select {
		case inbox <- p:
		case <-ctx.Done():
			return
		}
		if p.err != nil {
			return
		}
	}
}

// next gives the next delivery, decoded; its memory is its own.
func (k *link) next(ctx context.Context, d *session.Deliveries, at *place) parcel {
	delivery, data, err := d.Next(ctx)
	p := parcel{place: at, delivery: delivery, err: err}
	if err != nil || delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH {
		return p
	}
	h, err := batch.ParseHeader(data)
	if err == nil && h.Lane != (lane.ID{Stream: lane.StreamID(k.stream.GetId()), Partition: at.partition}) {
		err = fault.New(fault.Malformed, "the gateway sent a batch of lane %v to the subscriber of %d/%d", h.Lane, k.stream.GetId(), at.partition)
	}
	if err != nil {
		p.err = err
		return p
	}
	p.header = h
	p.err = batch.Walk(data, nil, func(r *record.Record) error {
		p.records = append(p.records, *r) // the body is this batch's own, so its slices stay
		return nil
	})
	return p
}

// take hands a parcel's fresh records to the loop. again asks for a new subscription of the lane.
func (k *link) take(ctx context.Context, p parcel) (again bool, err error) {
	if p.err != nil {
		return k.explain(ctx, p)
	}
	if reset := p.delivery.GetReset_(); reset != nil && p.delivery.GetKind() == deliveryv1.Delivery_KIND_RESET && k.incarnation != 0 {
		return false, k.obey(ctx, reset)
	}
	if p.delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH || p.place.stopped {
		return false, nil
	}
	at := p.place
	if at.last.Epoch != 0 && p.header.Epoch != at.last.Epoch {
		return true, k.cut(ctx, at)
	}
	if p.header.Base > at.last.Sequence+1 {
		if err := k.fill(ctx, at, p.header.Base); err != nil {
			return k.explain(ctx, parcel{place: at, err: err})
		}
	}
	return false, k.hand(p)
}

// hand yields what is fresh of a batch (I1).
func (k *link) hand(p parcel) error {
	at := p.place
	for i := range p.records {
		r := &p.records[i]
		if r.Sequence <= at.last.Sequence {
			continue
		}
		at.last = lane.Position{Epoch: p.header.Epoch, Sequence: r.Sequence}
		k.c.retry.Reset()
		fresh := Record{Partition: at.partition, Position: at.last, TimeMS: r.TimeMS, Key: string(r.Key), Headers: r.Headers, Value: r.Value,
			Tombstone: r.Tombstone, Redelivered: p.delivery.GetRedelivered() || at.last.Compare(at.given) <= 0, turn: k.c.turns[at.partition]}
		if !k.yield(fresh, nil) {
			return errLeft
		}
		if k.reached(at) {
			return nil
		}
	}
	return nil
}

// reached reports whether StopAtTail is satisfied in a lane.
func (k *link) reached(at *place) bool {
	at.stopped = at.stopped || k.c.cfg.StopAtTail && at.last.Sequence >= at.until
	return at.stopped
}

func (k *link) finished() bool {
	for _, at := range k.c.lanes {
		if !at.stopped {
			return false
		}
	}
	return true
}

// fill reads what deliveries left out from the log.
func (k *link) fill(ctx context.Context, at *place, until lane.Sequence) error {
	d, err := k.Range(ctx, &deliveryv1.RangeRequest{Stream: k.c.cfg.Stream, Partition: uint32(at.partition), Epoch: uint64(at.last.Epoch),
		From: uint64(at.last.Sequence + 1), Until: uint64(until)})
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		p := k.next(ctx, d, at)
		if errors.Is(p.err, io.EOF) {
			break
		}
		if p.err != nil {
			return p.err
		}
		if p.delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH {
			continue
		}
		if p.header.Base > at.last.Sequence+1 {
			break
		}
		if err := k.hand(p); err != nil {
			return err
		}
	}
	if at.last.Sequence+1 < until && !at.stopped {
		return fault.New(fault.Unavailable, "the log's answer for [%d, %d) of partition %d has a hole", at.last.Sequence+1, until, at.partition)
	}
	return nil
}

// explain turns the end of a subscription into what the loop is told, or into an error that ends the session.
func (k *link) explain(ctx context.Context, p parcel) (again bool, err error) {
	switch f := fault.Of(p.err); f.Reason() {
	case fault.Expired:
		head, parseErr := strconv.ParseUint(f.Detail("head"), 10, 64)
		if parseErr != nil || lane.Sequence(head) <= p.place.last.Sequence+1 {
			return false, fault.New(fault.Malformed, "the gateway says that records have expired, but not up to where: %w", p.err)
		}
		lost := &Expired{Partition: p.place.partition, From: p.place.last.Sequence + 1, Head: lane.Sequence(head)}
		k.c.cfg.Log.Warn("consumer: records were lost", "stream", k.c.cfg.Stream, "error", lost)
		if k.c.cfg.OnLoss == nil || k.c.cfg.OnLoss(lost) != SkipToHead {
			return false, lost
		}
		p.place.last.Sequence = lane.Sequence(head) - 1
		k.reached(p.place)
		return true, nil
	case fault.EpochMismatch, fault.AheadOfTail:
		return true, k.cut(ctx, p.place)
	}
	if errors.Is(p.err, io.EOF) {
		return false, fault.New(fault.Unavailable, "the gateway ended a subscription")
	}
	return false, p.err
}

// cut tells the loop that history was cut, and goes to what the provider has.
func (k *link) cut(ctx context.Context, at *place) error {
	stream, err := k.Describe(ctx, k.c.cfg.Stream)
	if err != nil {
		return err
	}
	for _, l := range stream.GetLanes() {
		if lane.Partition(l.GetPartition()) != at.partition {
			continue
		}
		told := &HistoryCut{Partition: at.partition, Had: at.last, Epoch: lane.Epoch(l.GetEpoch()), Tail: lane.Sequence(l.GetTail())}
		at.last = lane.Position{Epoch: told.Epoch, Sequence: min(at.last.Sequence, told.Tail)}
		if !k.yield(Record{}, told) {
			return errLeft
		}
		return nil
	}
	return fault.New(fault.Malformed, "the provider does not say where partition %d stands", at.partition)
}

// ack sends what was acknowledged since, at most every ackEvery (I2).
func (k *link) ack(ctx context.Context) {
	if time.Since(k.lastAck) < ackEvery {
		return
	}
	if request := k.ackRequest(); request != nil {
		k.lastAck = time.Now()
		if err := k.Ack(ctx, request); err != nil {
			k.c.mu.Lock()
			k.c.ackDue = true // the next one says it again
			k.c.mu.Unlock()
		}
	}
}

// ackRequest is nil when there is nothing new to acknowledge.
func (k *link) ackRequest() *deliveryv1.AckRequest {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if !k.c.ackDue || k.incarnation == 0 {
		return nil
	}
	k.c.ackDue = false
	request := &deliveryv1.AckRequest{Stream: k.c.cfg.Stream, ConsumerId: k.c.cfg.ConsumerID, Incarnation: k.incarnation}
	for p, a := range k.c.acks {
		request.Cursors = append(request.Cursors, &consumerv1.Cursor{Partition: uint32(p), TimeMs: a.timeMS,
			Position: &streamv1.Position{Epoch: uint64(a.position.Epoch), Sequence: uint64(a.position.Sequence)}})
	}
	return request
}

// part says the last words of a session: acknowledgements, confirmed, and that we leave. Both are only worth a try.
func (k *link) part(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTimeout)
	defer cancel()
	if request := k.ackRequest(); request != nil {
		if _, err := k.AckConfirmed(ctx, request); err != nil {
			k.c.cfg.Log.Debug("consumer: last acknowledgement not confirmed", "error", err)
			k.c.mu.Lock()
			k.c.ackDue = true
			k.c.mu.Unlock()
			return
		}
	}
	if err := k.Detach(ctx, &deliveryv1.DetachRequest{Stream: k.c.cfg.Stream, ConsumerId: k.c.cfg.ConsumerID, Incarnation: k.incarnation}); err != nil {
		k.c.cfg.Log.Debug("consumer: leaving was not heard", "error", err)
	}
}
