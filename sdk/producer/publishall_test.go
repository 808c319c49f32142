package producer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/producer"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

// numbered yields n records tagged with their number; every tenth breaks a rule.
func numbered(n int) func(func(producer.Record) bool) {
	return func(yield func(producer.Record) bool) {
		for i := range n {
			r := producer.Record{Key: fmt.Sprint("k", i), Value: []byte("v"), Tag: i}
			if i%10 == 9 {
				r.Tombstone = true
			}
			if !yield(r) {
				return
			}
		}
	}
}

// Every record has one outcome, in order, whatever fails in between; with one request at a time nothing is refused for its order.
func TestPublishAllHearsOfEachRecord(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.MaxRequests, d.cfg.MaxRequestRecords = 1, 7
	p := d.open()
	for _, written := range []bool{false, true, true, false} {
		d.p.FailPublish(fault.UnknownOutcome, written)
		d.p.FailPublish(fault.Overloaded, false)
	}
	var stored []int
	refused := 0
	for outcomes, err := range p.PublishAll(d.ctx, numbered(500)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			n := o.Record.Tag.(int)
			if n%10 == 9 {
				if refused++; !errors.Is(o.Err, fault.InvalidArgument) {
					t.Fatalf("record %d is a tombstone with a value: %v", n, o.Err)
				}
				continue
			}
			if o.Err != nil || int(o.Ack.Position.Sequence) != len(stored)+1 {
				t.Fatalf("record %d: %+v, %v, behind %d others", n, o.Ack, o.Err, len(stored))
			}
			stored = append(stored, n)
		}
	}
	if len(stored) != 450 || refused != 50 || !slices.IsSorted(stored) {
		t.Fatalf("%d stored, %d refused, in order: %v", len(stored), refused, slices.IsSorted(stored))
	}
	if got := len(d.p.Log("orders", 0)); got != 450 {
		t.Fatalf("%d records are in the log", got)
	}
}

func TestPublishAllEnds(t *testing.T) {
	d := newDesk(t, 1)
	p := d.open()
	for _, err := range p.PublishAll(d.ctx, numbered(0)) {
		t.Fatalf("an outcome of no records: %v", err)
	}

	// Left early: what was handed over is still answered before Close returns.
	var handed atomic.Int64
	for range p.PublishAll(d.ctx, func(yield func(producer.Record) bool) {
		for i := 0; yield(producer.Record{Key: fmt.Sprint("left", i)}); i++ {
			handed.Add(1)
		}
	}) {
		break
	}
	before := handed.Load()
	if err := p.Close(d.ctx); err != nil {
		t.Fatal(err)
	}
	if got := int64(len(d.p.Log("orders", 0))); got < before || got == 0 {
		t.Fatalf("%d records were handed over and %d are stored", before, got)
	}
	var last error
	for outcomes, err := range p.PublishAll(d.ctx, numbered(5)) {
		if len(outcomes) > 0 {
			t.Fatalf("a closed producer has outcomes: %v", outcomes)
		}
		last = err
	}
	if !errors.Is(last, fault.Unavailable) {
		t.Fatalf("closed: %v", last)
	}

	// ctx ends the loop although nothing is answered and the records have no end.
	d.cfg.ProducerID = "till-2"
	p = d.open()
	for range 1000 {
		d.p.FailPublish(fault.Unavailable, false)
	}
	ctx, cancel := context.WithCancel(d.ctx)
	for _, err := range p.PublishAll(ctx, func(yield func(producer.Record) bool) {
		yield(producer.Record{Key: "a"})
		cancel()
		<-ctx.Done()
	}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Fatalf("cancelled: %v", last)
	}
}

func ExampleProducer_PublishAll() {
	ctx := context.Background()
	provider, err := sdktest.New() // in a program: the address of ingest, such as 127.0.0.1:7400
	if err != nil {
		panic(err)
	}
	defer provider.Close()
	if err := provider.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		panic(err)
	}
	p, err := producer.Open(ctx, producer.Config{Ingest: provider.Ingest(), Stream: "orders"})
	if err != nil {
		panic(err)
	}
	defer p.Close(ctx)
	records := slices.Values([]producer.Record{{Key: "o-1", Value: []byte("1")}, {Value: []byte("no key")}, {Key: "o-2", Value: []byte("2")}})
	for outcomes, err := range p.PublishAll(ctx, records) {
		if err != nil {
			panic(err)
		}
		for _, o := range outcomes {
			fmt.Printf("%q %d %v\n", o.Record.Key, o.Ack.Position.Sequence, o.Err)
		}
	}
	// Unordered output:
	// "o-1" 1 <nil>
	// "" 0 the record has no key, and the stream is keyed
	// "o-2" 2 <nil>
}
