package session

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

const (
	// WindowDeliveries is the credit of one stream of deliveries (I1).
	WindowDeliveries = 64
	// WindowBytes is what a gateway may have under way to one subscription.
	WindowBytes = 8 << 20
	// returnBytes is how much is taken at most before its credit goes back. Bytes come back with credit, so it must stay below every
	// window: WindowBytes, and what a gateway gives whoever names none.
	returnBytes = 256 << 10
	// WindowPieces is the credit of one stream of a resynchronisation, whose pieces are about a MiB each (I1).
	WindowPieces = 4
	// silence is how long a subscription may say nothing: gateways send a status every 5 s.
	silence = 20 * time.Second
)

// Deliveries is the receiving end of one stream of deliveries. One goroutine may call Next at a time.
type Deliveries struct {
	in    *rsocket.Inbound
	doing string
	// taken deliveries, and their bytes, whose credit was not given back yet.
	taken   uint32
	bytes   int
	every   uint32 // how many are taken before their credit is given back
	moved   uint64
	silence time.Duration // 0 for a stream that may pause
}

// Subscribe opens the endless stream of a lane.
func (s *Session) Subscribe(ctx context.Context, request *deliveryv1.SubscribeRequest) (*Deliveries, error) {
	d, err := s.stream(ctx, protocol.RouteSubscribe, request, WindowDeliveries)
	if err == nil {
		d.silence = silence
	}
	return d, err
}

// Range opens a bounded stream of batches.
func (s *Session) Range(ctx context.Context, request *deliveryv1.RangeRequest) (*Deliveries, error) {
	return s.stream(ctx, protocol.RouteRange, request, WindowDeliveries)
}

func (s *Session) stream(ctx context.Context, to string, request proto.Message, window uint32) (*Deliveries, error) {
	routed, err := routedTo(to, request)
	if err != nil {
		return nil, err
	}
	in, err := s.conn.RequestStream(ctx, routed, window)
	if err != nil {
		return nil, restore(err, to)
	}
	return &Deliveries{in: in, doing: to, every: max(1, window/2), moved: uint64(len(routed.Metadata) + len(routed.Data))}, nil
}

// Next gives the next delivery and its bytes, which are the caller's; io.EOF at the end of a bounded stream, else a fault.
func (d *Deliveries) Next(ctx context.Context) (*deliveryv1.Delivery, []byte, error) {
	if d.taken >= d.every || d.bytes >= returnBytes { // I3
		if err := d.in.Request(d.taken); err == nil {
			d.taken, d.bytes = 0, 0
		} // else the stream is over, and Recv says how
	}
	wait := ctx
	if d.silence > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, d.silence)
		defer cancel()
	}
	p, err := d.in.Recv(wait)
	if errors.Is(err, io.EOF) {
		return nil, nil, io.EOF
	}
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, nil, fault.New(fault.Unavailable, "the gateway has said nothing for %v", d.silence)
		}
		return nil, nil, restore(err, d.doing)
	}
	d.taken++
	d.bytes += len(p.Metadata) + len(p.Data)
	d.moved += uint64(len(p.Metadata) + len(p.Data))
	var delivery deliveryv1.Delivery
	if err := proto.Unmarshal(p.Metadata, &delivery); err != nil {
		return nil, nil, fault.New(fault.Malformed, "a delivery's metadata does not decode: %w", err)
	}
	return &delivery, p.Data, nil
}

// MovedBytes is how much was asked and taken, metadata and data.
func (d *Deliveries) MovedBytes() uint64 { return d.moved }

// Close tells the gateway to stop; calling it after the end does nothing.
func (d *Deliveries) Close() { d.in.Cancel() }
