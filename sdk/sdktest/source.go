package sdktest

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

// RequestStream opens subscriptions, ranges, and what a resynchronisation asks for.
func (r *responder) RequestStream(req rsocket.Payload, out *rsocket.Outbound) (rsocket.Source, error) {
	to, _ := composite.Route(req.Metadata) // none: an unknown route, refused below
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	var source rsocket.Source
	var err error
	switch to {
	case protocol.RouteSubscribe:
		source, err = r.p.subscribe(req, out)
	case protocol.RouteRange:
		source, err = r.p.rangeOf(req, out)
	case protocol.RouteSnapshot:
		source, err = r.p.snapshot(req)
	case protocol.RouteChunks:
		source, err = r.p.chunks(req)
	case protocol.RouteChanges:
		source, err = r.p.changes(req)
	case protocol.RouteSketch:
		source, err = r.p.sketch(req)
	case protocol.RouteRows:
		source, err = r.p.rows(req)
	default:
		err = fault.New(fault.InvalidArgument, "there is no request-stream route %q", to)
	}
	if err != nil {
		return nil, refusal(err)
	}
	return &slowed{Source: source, p: r.p, out: out}, nil
}

func (p *Provider) lane(name string, partition uint32) (*laneLog, error) {
	s, err := p.streamLocked(name)
	if err != nil {
		return nil, err
	}
	if int(partition) >= len(s.lanes) {
		return nil, fault.New(fault.InvalidArgument, "stream %q has %d partitions; there is no %d", name, len(s.lanes), partition)
	}
	return s.lanes[partition], nil
}

// follower is one subscription.
type follower struct {
	p        *Provider
	l        *laneLog
	out      *rsocket.Outbound
	consumer string
	next     lane.Sequence
	status   bool // a heartbeat is due
	resets   []*deliveryv1.Reset
}

func (p *Provider) subscribe(req rsocket.Payload, out *rsocket.Outbound) (rsocket.Source, error) {
	var q deliveryv1.SubscribeRequest
	if err := decode(req, &q); err != nil {
		return nil, err
	}
	l, err := p.lane(q.GetStream(), q.GetPartition())
	if err != nil {
		return nil, err
	}
	f := &follower{p: p, l: l, out: out, next: lane.Sequence(q.GetAfter().GetSequence()) + 1}
	if q.GetFromTail() {
		f.next = l.tail + 1
	} else if err := l.check(lane.Epoch(q.GetAfter().GetEpoch()), f.next); err != nil {
		return nil, err
	}
	if q.GetIncarnation() != 0 {
		c, err := p.living(q.GetStream(), q.GetConsumerId(), q.GetIncarnation())
		if err != nil {
			return nil, err
		}
		for _, reset := range c.commands {
			if reset != nil {
				f.resets = append(f.resets, reset)
			}
		}
		f.consumer = q.GetStream() + "/" + q.GetConsumerId()
	}
	l.followers[f] = struct{}{}
	return bounded(f, out, q.GetWindowBytes()), nil
}

// Next gives the next batch, or a status when one is due.
func (f *follower) Next() (rsocket.Payload, rsocket.Signal) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	b, ok := f.l.at(f.next)
	if ok && f.p.faults.gap > 0 {
		f.p.faults.gap--
		f.next = b.last + 1
		b, ok = f.l.at(f.next)
	}
	if ok {
		f.next = b.last + 1
		d := f.l.delivery(deliveryv1.Delivery_KIND_BATCH)
		d.First, d.Last = uint64(b.first), uint64(b.last)
		if !f.p.faults.withholdDigests {
			d.Digest = b.mark
		}
		if f.p.faults.wrongDigests > 0 && d.Digest != nil {
			f.p.faults.wrongDigests--
			d.Digest = wrong(d.Digest)
		}
		return payload(d, f.p.corrupted(Batches, b.bytes)), rsocket.Emit
	}
	if len(f.resets) > 0 {
		d := f.l.delivery(deliveryv1.Delivery_KIND_RESET)
		d.Reset_, f.resets = f.resets[0], f.resets[1:]
		return payload(d, nil), rsocket.Emit
	}
	if f.status {
		f.status = false
		d := f.l.delivery(deliveryv1.Delivery_KIND_STATUS)
		d.Digest = f.l.mark()
		return payload(d, nil), rsocket.Emit
	}
	return rsocket.Payload{}, rsocket.Wait
}

// Requested needs nothing: the engine and the window count.
func (f *follower) Requested(uint32) {}

// Closed forgets the subscription.
func (f *follower) Closed() {
	f.p.mu.Lock()
	delete(f.l.followers, f)
	f.p.mu.Unlock()
}

func (l *laneLog) delivery(kind deliveryv1.Delivery_Kind) *deliveryv1.Delivery {
	return &deliveryv1.Delivery{Kind: kind, Partition: uint32(l.id.Partition), Epoch: uint64(l.epoch), Head: uint64(l.head), Tail: uint64(l.tail), TailTimeMs: l.tailMS}
}

func payload(d *deliveryv1.Delivery, data []byte) rsocket.Payload {
	metadata, err := proto.Marshal(d)
	if err != nil {
		panic("sdktest: a delivery does not encode: " + err.Error()) // made here, so this is a defect here
	}
	return rsocket.Payload{Metadata: metadata, Data: data}
}

// listed is a stream of payloads made beforehand.
type listed struct{ payloads []rsocket.Payload }

// Next gives them one by one.
func (s *listed) Next() (rsocket.Payload, rsocket.Signal) {
	if len(s.payloads) == 0 {
		return rsocket.Payload{}, rsocket.Complete
	}
	p := s.payloads[0]
	s.payloads = s.payloads[1:]
	if len(s.payloads) == 0 {
		return p, rsocket.EmitAndComplete
	}
	return p, rsocket.Emit
}

// Requested needs nothing: the engine counts.
func (s *listed) Requested(uint32) {}

// Closed has nothing to let go of.
func (s *listed) Closed() {}

func (p *Provider) rangeOf(req rsocket.Payload, out *rsocket.Outbound) (rsocket.Source, error) {
	var q deliveryv1.RangeRequest
	if err := decode(req, &q); err != nil {
		return nil, err
	}
	l, err := p.lane(q.GetStream(), q.GetPartition())
	if err != nil {
		return nil, err
	}
	if err := l.check(lane.Epoch(q.GetEpoch()), lane.Sequence(q.GetFrom())); err != nil {
		return nil, err
	}
	until := lane.Sequence(q.GetUntil())
	if until == 0 || until > l.tail+1 {
		until = l.tail + 1
	}
	s := &listed{}
	for _, b := range l.batches {
		if b.last < lane.Sequence(q.GetFrom()) || b.first >= until {
			continue
		}
		d := l.delivery(deliveryv1.Delivery_KIND_BATCH)
		d.First, d.Last = uint64(b.first), uint64(b.last)
		s.payloads = append(s.payloads, payload(d, p.corrupted(Batches, b.bytes)))
	}
	return bounded(s, out, 0), nil
}

// corrupted gives the data with one bit flipped when that was asked for.
func (p *Provider) corrupted(what Part, data []byte) []byte {
	if p.faults.corrupt[what] == 0 {
		return data
	}
	p.faults.corrupt[what]--
	data = bytes.Clone(data)
	data[len(data)-1] ^= 1
	return data
}
