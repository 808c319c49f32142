package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

// load is what producers publish.
type load struct {
	stream string
	// records in all, split over producers; recordBytes is key and value together.
	records, recordBytes, producers int
	// perRequest records travel in one request; inFlight requests are unanswered at most.
	perRequest, inFlight int
	// distinctKeys; 0 means no key.
	distinctKeys int
}

// recordOverheadBytes is more than what is encoded of a record besides key and value.
const recordOverheadBytes = 16

// publish sends the load and returns when every record was answered durable.
func (h *house) publish(b *testing.B, l load) {
	b.Helper()
	var wg sync.WaitGroup
	failed := make(chan error, l.producers)
	for p := range l.producers {
		wg.Go(func() {
			if err := h.produce(b, l, p); err != nil {
				failed <- fmt.Errorf("producer %d: %w", p, err)
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		b.Fatal(err)
	}
}

func (h *house) produce(b *testing.B, l load, p int) error {
	client := ingestv1.NewIngestClient(h.ingest)
	opened, err := client.OpenProducer(b.Context(), &ingestv1.OpenProducerRequest{ProducerId: fmt.Sprintf("bench-%d", p)})
	if err != nil {
		return err
	}
	call, err := client.PublishStream(b.Context())
	if err != nil {
		return err
	}
	mine := l.records / l.producers
	window := make(chan int, l.inFlight)
	sent := make(chan error, 1)
	go func() { // ends when all is sent or sending failed
		defer close(window)
		keys := rand.New(rand.NewPCG(uint64(p), 1))
		from := newValues(p)
		for first := 1; first <= mine; {
			n := min(l.perRequest, mine-first+1)
			body := make([]byte, 0, n*(l.recordBytes+recordOverheadBytes))
			var previous int64
			for range n {
				rec := record.Record{TimeMS: time.Now().UnixMilli()}
				if l.distinctKeys > 0 {
					rec.Key = fmt.Appendf(nil, "key-%08d", keys.IntN(l.distinctKeys))
				}
				rec.Value = from.next(l.recordBytes - len(rec.Key))
				body = record.Append(body, &rec, previous)
				previous = rec.TimeMS
			}
			window <- n
			err := call.Send(&ingestv1.PublishRequest{
				Stream: l.stream, ProducerId: opened.GetProducerId(), ProducerEpoch: opened.GetProducerEpoch(),
				FirstProducerSequence: uint64(first), Packed: body, PackedCount: uint32(n),
			})
			if err != nil {
				sent <- err
				return
			}
			first += n
		}
		sent <- call.CloseSend()
	}()
	for n := range window {
		answer, err := call.Recv()
		if err != nil {
			return errors.Join(err, <-sent)
		}
		for _, o := range answer.GetOutcomes() {
			if o.GetFault() != nil {
				return fmt.Errorf("refused: %v", o.GetFault())
			}
			n -= int(o.GetCount())
		}
		if n != 0 {
			return fmt.Errorf("%d records were not answered", n)
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	if _, err := call.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last answer: %w", err)
	}
	return nil
}

// stamp and sinceStamp carry the moment of publishing in a value.
func stamp(value []byte) { binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano())) }

func sinceStamp(value []byte) time.Duration {
	return time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(value)))
}
