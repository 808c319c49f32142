// Package demofeed publishes a small live stream, so that a newcomer sees something move: the prices of a few made-up goods.
package demofeed

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/sdk/producer"
)

const (
	// Stream is the feed's stream: keyed, with one key per good.
	Stream = "demo"

	goods    = 200
	interval = 100 * time.Millisecond
	perTick  = 5
	// keepRecords bounds the log of a feed that runs for days.
	keepRecords = 1_000_000
)

type quote struct {
	Good  string  `json:"good"`
	Price float64 `json:"price"`
	Stock int     `json:"stock"`
}

// Run publishes at the address ingest, with a bearer token if it asks for one, until ctx ends. Ingest being away only pauses it. began is called once, when every key has a first record; its error
// ends the feed.
func Run(ctx context.Context, ingest, token string, began func() error) error {
	conn, err := rpc.Dial(ingest, rpc.ClientConfig{Token: token})
	if err != nil {
		return err
	}
	defer conn.Close()
	spec := &streamv1.StreamSpec{Name: Stream, Partitions: 1, Keyed: true, Retention: &streamv1.Retention{MaxRecords: keepRecords}}
	if _, err := ingestv1.NewStreamsClient(conn).CreateStream(ctx, &ingestv1.CreateStreamRequest{Spec: spec, IfAbsent: true}); err != nil {
		return fmt.Errorf("creating the demo stream: %w", err)
	}
	out, err := producer.Open(ctx, producer.Config{Ingest: ingest, Token: token, Stream: Stream, GiveUpAfter: time.Minute})
	if err != nil {
		return fmt.Errorf("publishing the demo stream: %w", err)
	}
	defer func() { _ = out.Close(ctx) }() // ctx has ended, and nobody waits for the last prices
	quotes := make([]quote, goods)
	for i := range quotes {
		quotes[i] = quote{Good: fmt.Sprintf("good-%03d", i), Price: 10 + 90*rand.Float64(), Stock: rand.IntN(1000)}
	}
	changed := make([]int, goods) // at first all of them
	for i := range changed {
		changed[i] = i
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		records := make([]producer.Record, len(changed))
		for i, n := range changed {
			q := &quotes[n]
			q.Price = float64(int(100*q.Price*(0.98+0.04*rand.Float64()))) / 100
			q.Stock = max(0, q.Stock+rand.IntN(21)-10)
			value, err := json.Marshal(q)
			if err != nil {
				return err
			}
			records[i] = producer.Record{Key: q.Good, Value: value}
		}
		for outcomes, err := range out.PublishAll(ctx, slices.Values(records)) {
			if err != nil {
				return err
			}
			for _, o := range outcomes {
				if o.Err != nil {
					return o.Err
				}
			}
		}
		if began != nil {
			if err := began(); err != nil {
				return err
			}
			began = nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		changed = changed[:perTick]
		for i := range changed {
			changed[i] = rand.IntN(goods)
		}
	}
}
