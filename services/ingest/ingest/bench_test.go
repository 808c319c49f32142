package ingest_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

// BenchmarkPublishStream is the whole path of ingest with four producers: gRPC in, check, encode, gRPC out to a sequencer that only
// counts, in one process. One operation is one record; allocations are those of producers, ingest and sequencer together.
func BenchmarkPublishStream(b *testing.B) {
	for _, partitions := range []uint32{1, 8} {
		for _, size := range []int{128, 1024} {
			for _, packed := range []bool{true, false} {
				b.Run(fmt.Sprintf("partitions=%d/bytes=%d/packed=%v", partitions, size, packed), func(b *testing.B) { publishStream(b, partitions, size, packed) })
			}
		}
	}
}

func publishStream(b *testing.B, partitions uint32, size int, packed bool) {
	const producers, perRequest, inFlight = 4, 500, 8
	h := open(b, ingest.Config{})
	h.sequencer.keep = false
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true, Partitions: partitions})
	var list []*ingestv1.Record
	for i := range perRequest {
		noise := make([]byte, size) // half of it random: compresses somewhat, as text does
		_, _ = rand.Read(noise[:size/2])
		value := []byte(base64.StdEncoding.EncodeToString(noise[:size/2]))
		value = append(value, make([]byte, size)...)[:size-8]
		list = append(list, &ingestv1.Record{Key: fmt.Sprintf("%08d", i), Value: value, TimeMs: time.Now().UnixMilli()})
	}
	request := &ingestv1.PublishRequest{Stream: "orders", Records: list}
	if packed {
		request = &ingestv1.PublishRequest{Stream: "orders", Packed: packedBody(list), PackedCount: perRequest}
	}
	requests := (b.N + perRequest*producers - 1) / (perRequest * producers)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for range producers {
		all.Go(func() {
			call, err := h.ingest.PublishStream(b.Context())
			if err != nil {
				b.Error(err)
				return
			}
			window := make(chan struct{}, inFlight)
			all.Go(func() {
				for range requests {
					window <- struct{}{}
					if call.Send(request) != nil {
						return
					}
				}
				_ = call.CloseSend()
			})
			for {
				a, err := call.Recv()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					b.Error(err)
					return
				}
				for _, o := range a.GetOutcomes() {
					if o.GetFault() != nil {
						b.Errorf("refused: %v", o.GetFault())
					}
				}
				<-window
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(requests*producers*perRequest)/b.Elapsed().Seconds(), "records/s")
}
