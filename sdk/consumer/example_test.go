package consumer_test

import (
	"context"
	"fmt"

	"github.com/lockstep-mq/lockstep/sdk/consumer"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func Example() {
	ctx := context.Background()
	provider, err := sdktest.New() // in a program: the address of a gateway, such as tcp://127.0.0.1:7410
	if err != nil {
		panic(err)
	}
	defer provider.Close()
	if err := provider.CreateStream(sdktest.Stream{Name: "mail"}); err != nil {
		panic(err)
	}
	for _, text := range []string{"hello", "world"} {
		if err := provider.Publish("mail", sdktest.Record{Value: []byte(text)}); err != nil {
			panic(err)
		}
	}

	c, err := consumer.Open(consumer.Config{Stream: "mail", Gateways: []string{provider.Gateway()}, ConsumerID: "mailer", StopAtTail: true,
		OnLoss: func(lost *consumer.Expired) consumer.Choice {
			fmt.Println("lost", lost.From, "to", lost.Head)
			return consumer.SkipToHead
		}})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for rec, err := range c.Records(ctx) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d %s\n", rec.Position.Sequence, rec.Value)
		c.Ack(rec)
	}
	// Output:
	// 1 hello
	// 2 world
}
