package producer_test

import (
	"context"
	"fmt"

	"github.com/lockstep-mq/lockstep/sdk/producer"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func Example() {
	ctx := context.Background()
	provider, err := sdktest.New() // in a program: the address of ingest, such as 127.0.0.1:7400
	if err != nil {
		panic(err)
	}
	defer provider.Close()
	if err := provider.CreateStream(sdktest.Stream{Name: "orders", Keyed: true}); err != nil {
		panic(err)
	}

	p, err := producer.Open(ctx, producer.Config{Ingest: provider.Ingest(), Stream: "orders", ProducerID: "till-7"})
	if err != nil {
		panic(err)
	}
	ack, err := p.Put(ctx, "o-1", []byte(`{"total": 3}`)) // waits for the fsync
	if err != nil {
		panic(err)
	}
	fmt.Println("stored at", ack.Position.Sequence)

	for i := range 3 { // does not wait: answers come to the function
		err := p.Publish(ctx, producer.Record{Key: "o-2", Value: fmt.Append(nil, i)}, func(ack producer.Ack, err error) {
			fmt.Println("stored at", ack.Position.Sequence, err)
		})
		if err != nil {
			panic(err)
		}
	}
	if err := p.Close(ctx); err != nil { // waits for the answers
		panic(err)
	}
	// Output:
	// stored at 1
	// stored at 2 <nil>
	// stored at 3 <nil>
	// stored at 4 <nil>
}
