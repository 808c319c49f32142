package gateway_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/lanetest"
)

// BenchmarkFanOut: one lane over real sockets to 1 and 100 subscribers, each its own connection. One iteration is one batch.
func BenchmarkFanOut(b *testing.B) {
	for _, size := range []struct{ records, valueBytes int }{{100, 128}, {100, 1024}} {
		for _, subscribers := range []int{1, 100} {
			b.Run(fmt.Sprintf("value=%dB/batch=%d/subscribers=%d", size.valueBytes, size.records, subscribers), func(b *testing.B) {
				h := newHouse(b, withNATS)
				readings := make([]*reading, subscribers)
				for i := range readings {
					readings[i] = subscribe(b, h.dial(), 0, 64)
				}
				// At most so many batches ahead of the slowest, so that the ring is measured and not the log.
				room := make(chan struct{}, 256)
				var wg sync.WaitGroup
				for i, r := range readings {
					wg.Go(func() {
						for n := range b.N {
							want := lane.Sequence((n + 1) * size.records)
							for r.cursor < want {
								if _, _, err := r.next(); err != nil {
									b.Errorf("subscriber %d: %v", i, err)
									return
								}
							}
							if i == 0 {
								<-room
							}
						}
					})
				}
				quarry := lanetest.New(h.store.lane.ID, "orders")
				made := make([]lanetest.Batch, b.N)
				for i := range made {
					made[i] = quarry.Append(size.records, size.valueBytes)
				}
				b.ResetTimer()
				for i := range made {
					room <- struct{}{}
					h.store.lane.Adopt(made[i])
					if inline := made[i].Data; len(inline) <= 32<<10 { // as the sequencer does
						h.hint(inline)
					} else {
						h.hint(nil)
					}
				}
				wg.Wait()
				b.StopTimer()
				records := float64(b.N) * float64(size.records) * float64(subscribers)
				b.ReportMetric(records/b.Elapsed().Seconds(), "deliveries/s")
				b.ReportMetric(records*float64(size.valueBytes)/b.Elapsed().Seconds()/(1<<20), "MiB/s")
			})
		}
	}
}

// BenchmarkCatchUp: a log in storage, read by subscribers that begin at its start. One iteration is one subscriber's whole reading.
func BenchmarkCatchUp(b *testing.B) {
	const batches, records, valueBytes = 1000, 100, 128
	h := newHouse(b)
	for range batches {
		h.store.lane.Append(records, valueBytes)
	}
	b.ResetTimer()
	for range b.N {
		subscribe(b, h.dial(), 0, 64).until(batches * records)
	}
	b.ReportMetric(float64(b.N)*batches*records/b.Elapsed().Seconds(), "records/s")
}
