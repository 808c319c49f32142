// Package producer publishes records: packed, pipelined, retried under the same numbers, each answered once.
//
//	p, err := producer.Open(ctx, producer.Config{Ingest: "127.0.0.1:7400", Stream: "orders"})
//	ack, err := p.Put(ctx, "order-17", []byte(`{"total": 3}`))            // waits for the fsync
//	err = p.Publish(ctx, rec, func(ack producer.Ack, err error) { ... })  // does not wait
//	for outcomes, err := range p.PublishAll(ctx, records) { ... }         // of many, as they become known
//	err = p.Close(ctx)
//
//	Publish ──▶ queue ──▶ request, as much as waits ──▶ PublishStream ──▶ answers in order ──▶ done, record by record
//	             ▲   bounded bytes                          │ lost, or a temporary refusal
//	             └──────────── the same producer sequences ◀┘ after a pause
//
// No timer lingers: while MaxRequests are on their way the next one gathers.
//
// Invariants:
//
//	I1  every record given to Publish is answered exactly once; an answer without error means it was fsynced at that sequence.
//	I2  a retry has the producer sequence of the first try unless the provider has said that the record is not stored, so that it is
//	    stored once (S4).
//	I3  records of one key are stored in the order they were published; one that can no longer be is refused with fault.OutOfOrder.
//	    With MaxRequests 1 that does not happen.
//	I4  memory is bounded: Publish waits while MaxInFlightBytes are unanswered.
package producer
