package consumerstate_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
)

// One durable checkpoint over loopback, for a lone consumer and for many that share commits.
func BenchmarkCheckpoint(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprint("consumers=", parallel), func(b *testing.B) {
			r := &rig{clock: newClock(), cfg: consumerstate.Config{DataDir: b.TempDir()}}
			r.start(b)
			defer r.stop(b)
			var next atomic.Uint64
			work := func(more func() bool) {
				id := fmt.Sprint("c-", next.Add(1))
				answer, err := r.Attach(context.Background(), &consumerv1.AttachRequest{Stream: streamName, StreamId: streamID, ConsumerId: id})
				if err != nil {
					b.Error(err)
					return
				}
				for sequence := uint64(1); more(); sequence++ {
					if _, err := r.checkpoint(id, answer.GetIncarnation(), cursor(0, 1, sequence)); err != nil {
						b.Error(err)
						return
					}
				}
			}
			if parallel == 1 {
				work(b.Loop)
				return
			}
			b.SetParallelism(parallel / 2)
			b.RunParallel(func(pb *testing.PB) { work(pb.Next) })
		})
	}
}
