package bench

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
)

// follower is an anonymous consumer of one lane, straight on the wire, that decodes and checks every record.
type follower struct {
	conn *rsocket.Conn
	in   *rsocket.Inbound
	next lane.Sequence
}

const credit = 256

// follow subscribes behind `after`.
func (h *house) follow(b *testing.B, stream string, after lane.Sequence) *follower {
	b.Helper()
	hello := &deliveryv1.Hello{Major: protocol.Current.Major, Minor: protocol.Current.Minor, Client: "bench"}
	conn, err := rsocket.Dial(b.Context(), h.at.Gateway, rsocket.ClientConfig{
		MetadataMIME: protocol.MetadataMIME, DataMIME: protocol.DataMIME, Setup: rsocket.Payload{Data: encode(b, hello)},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(); <-conn.Done() })
	metadata, err := composite.AppendRoute(nil, protocol.RouteSubscribe)
	if err != nil {
		b.Fatal(err)
	}
	request := &deliveryv1.SubscribeRequest{Stream: stream, After: &streamv1.Position{Sequence: uint64(after)}, WindowBytes: 16 << 20}
	in, err := conn.RequestStream(b.Context(), rsocket.Payload{Metadata: metadata, Data: encode(b, request)}, credit)
	if err != nil {
		b.Fatal(err)
	}
	return &follower{conn: conn, in: in, next: after + 1}
}

func encode(b *testing.B, m proto.Message) []byte {
	b.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// until receives up to and including sequence last, checks that the order has no hole, and shows every record to visit.
func (f *follower) until(ctx context.Context, last lane.Sequence, visit func(*record.Record)) error {
	scratch := make([]byte, batch.MaxRawBytes)
	received := 0
	for f.next <= last {
		p, err := f.in.Recv(ctx)
		if err != nil {
			return fmt.Errorf("after %d deliveries, at sequence %d of %d: %w", received, f.next, last, err)
		}
		received++
		// One by one: the gateway's byte window opens as credit comes back. The engine folds what waits into one frame.
		if err := f.in.Request(1); err != nil {
			return err
		}
		if len(p.Data) == 0 {
			continue // status
		}
		err = batch.Walk(p.Data, scratch, func(r *record.Record) error {
			if r.Sequence < f.next {
				return nil // the batch begins before what was asked for
			}
			if r.Sequence != f.next {
				return fmt.Errorf("sequence %d came after %d", r.Sequence, f.next-1)
			}
			f.next++
			visit(r)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
