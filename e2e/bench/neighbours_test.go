package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/composite"
	"github.com/lockstep-mq/lockstep/sdk/producer"
)

const (
	greedy       = 16
	greedyCredit = 32
	ticks        = 5000 // one a millisecond
)

// BenchmarkTailBesideBootstraps is the 99th percentile of a tail of a thousand records a second, from Publish to a consumer, alone and while
// 16 consumers take a snapshot of a million rows again and again, as fast as they are given it and without building anything of it.
func BenchmarkTailBesideBootstraps(b *testing.B) {
	h := startHouse(b)
	h.createStream(b, "orders", true)
	h.createStream(b, "ticks", false)
	h.publishKeyed(b, "orders", upTo(million), 1)
	last := lane.Sequence(0)
	var alone, beside []float64
	var taken atomic.Uint64
	for b.Loop() {
		alone = append(alone, h.tick(b, &last))
		ctx, stop := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		var begun sync.WaitGroup
		begun.Add(1)
		once := sync.OnceFunc(begun.Done)
		for range greedy {
			wg.Go(func() { // ends with ctx
				if err := h.devour(ctx, func(n int) { taken.Add(uint64(n)); once() }); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			})
		}
		begun.Wait()
		beside = append(beside, h.tick(b, &last))
		stop()
		wg.Wait()
	}
	b.ReportMetric(median(alone, itself), "alone-p99-ms")
	b.ReportMetric(median(beside, itself), "beside-p99-ms")
	b.ReportMetric(median(beside, itself)/median(alone, itself), "ratio")
	b.ReportMetric(float64(taken.Load())/float64(b.N)/1e6, "bootstrap-MB")
}

// tick publishes a record a millisecond and gives the 99th percentile of how long they were on their way, in milliseconds.
func (h *house) tick(b *testing.B, last *lane.Sequence) float64 {
	f := h.follow(b, "ticks", *last)
	*last += ticks
	p, err := producer.Open(b.Context(), producer.Config{Ingest: h.at.Ingest, Stream: "ticks"})
	if err != nil {
		b.Fatal(err)
	}
	published := make(chan error, 1)
	go func() { // ends when all are handed over
		every := time.NewTicker(time.Millisecond)
		defer every.Stop()
		for range ticks {
			<-every.C
			value := binary.BigEndian.AppendUint64(make([]byte, 0, 200), uint64(time.Now().UnixNano()))
			if err := p.Publish(b.Context(), producer.Record{Value: value[:200]}, nil); err != nil {
				published <- err
				return
			}
		}
		published <- p.Close(b.Context())
	}()
	took := make([]float64, 0, ticks)
	if err := f.until(b.Context(), *last, func(r *record.Record) {
		took = append(took, float64(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(r.Value)))/1e6)
	}); err != nil {
		b.Fatal(err)
	}
	if err := <-published; err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// devour takes all chunks of a snapshot again and again until ctx ends; got hears of every one.
func (h *house) devour(ctx context.Context, got func(bytes int)) error {
	hello, err := proto.Marshal(&deliveryv1.Hello{Major: protocol.Current.Major, Minor: protocol.Current.Minor, Client: "bench"})
	if err != nil {
		return err
	}
	conn, err := rsocket.Dial(ctx, h.at.Gateway, rsocket.ClientConfig{MetadataMIME: protocol.MetadataMIME, DataMIME: protocol.DataMIME, Setup: rsocket.Payload{Data: hello}})
	if err != nil {
		return err
	}
	defer func() { conn.Close(); <-conn.Done() }()
	var id snapshot.ID
	var chunks uint32
	err = ask(ctx, conn, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders"}, func(d *deliveryv1.Delivery, data []byte) error {
		if d.GetKind() != deliveryv1.Delivery_KIND_BOOTSTRAP {
			return nil
		}
		id, _ = snapshot.ParseID(d.GetPiece().GetSnapshot())
		m, err := snapshot.ParseManifest(data, id)
		if err == nil {
			chunks = uint32(len(m.Rows))
		}
		return err
	})
	for err == nil && ctx.Err() == nil {
		err = ask(ctx, conn, protocol.RouteChunks, &deliveryv1.ChunksRequest{Stream: "orders", Id: id[:], Ranges: []uint32{0, chunks}}, func(_ *deliveryv1.Delivery, data []byte) error {
			got(len(data))
			return nil
		})
	}
	return err
}

// ask reads one stream of answers to its end. When the gateway is overloaded it waits as long as it is told to, and asks again.
func ask(ctx context.Context, conn *rsocket.Conn, route string, request proto.Message, take func(*deliveryv1.Delivery, []byte) error) error {
	for {
		err := askOnce(ctx, conn, route, request, take)
		var refused *rsocket.Error
		if !errors.As(err, &refused) {
			return err
		}
		f := fault.Parse(refused.Data)
		if fault.ReasonOf(f) != fault.Overloaded {
			return fmt.Errorf("%s: %w", route, err)
		}
		ms, _ := strconv.Atoi(fault.Of(f).Detail("retry_after_ms")) // none: at once
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func askOnce(ctx context.Context, conn *rsocket.Conn, route string, request proto.Message, take func(*deliveryv1.Delivery, []byte) error) error {
	metadata, err := composite.AppendRoute(nil, route)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	in, err := conn.RequestStream(ctx, rsocket.Payload{Metadata: metadata, Data: data}, greedyCredit)
	if err != nil {
		return err
	}
	defer in.Cancel()
	for {
		p, err := in.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = in.Request(1) // the stream may have ended
		var d deliveryv1.Delivery
		if err := proto.Unmarshal(p.Metadata, &d); err != nil {
			return err
		}
		if err := take(&d, p.Data); err != nil {
			return err
		}
	}
}
