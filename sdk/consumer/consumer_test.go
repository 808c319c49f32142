package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/consumer"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

type desk struct {
	t   *testing.T
	p   *sdktest.Provider
	ctx context.Context
	cfg consumer.Config
}

func newDesk(t *testing.T, partitions uint32) *desk {
	t.Helper()
	p, err := sdktest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.CreateStream(sdktest.Stream{Name: "log", Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return &desk{t: t, p: p, ctx: ctx, cfg: consumer.Config{Stream: "log", Gateways: []string{p.Gateway()}, RetryFirst: time.Millisecond, RetryLongest: 10 * time.Millisecond}}
}

// publish appends records numbered [from, to).
func (d *desk) publish(from, to int) {
	d.t.Helper()
	for i := from; i < to; i++ {
		if err := d.p.Publish("log", sdktest.Record{Key: fmt.Sprint("k", i), Value: fmt.Append(nil, i)}); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *desk) open() *consumer.Consumer {
	d.t.Helper()
	c, err := consumer.Open(d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	return c
}

// read takes n records, checking the order within each partition, and calls at after each.
func (d *desk) read(c *consumer.Consumer, n int, at func(i int, r consumer.Record)) []consumer.Record {
	d.t.Helper()
	last := map[lane.Partition]lane.Sequence{}
	var got []consumer.Record
	if n == 0 {
		return nil
	}
	for r, err := range c.Records(d.ctx) {
		if err != nil {
			d.t.Fatalf("after %d records: %v", len(got), err)
		}
		if before, ok := last[r.Partition]; ok && r.Position.Sequence != before+1 {
			d.t.Fatalf("partition %d: %d came after %d", r.Partition, r.Position.Sequence, before)
		}
		last[r.Partition] = r.Position.Sequence
		got = append(got, r)
		if at != nil {
			at(len(got), r)
		}
		if len(got) == n {
			break
		}
	}
	return got
}

func TestFollowsThroughDisconnectsAndGaps(t *testing.T) {
	d := newDesk(t, 3)
	d.publish(0, 50)
	c := d.open()
	got := d.read(c, 200, func(i int, _ consumer.Record) {
		switch i {
		case 50:
			d.publish(50, 100)
		case 60, 120:
			d.p.Disconnect()
		case 100:
			d.p.Gap(3)
			d.publish(100, 200)
		}
	})
	seen := map[string]bool{}
	for _, r := range got {
		seen[string(r.Value)] = true
	}
	if len(seen) != 200 {
		t.Fatalf("%d distinct records", len(seen))
	}
}

func TestCorruptBatchIsReadAgain(t *testing.T) {
	d := newDesk(t, 1)
	d.p.Corrupt(sdktest.Batches, 1)
	d.publish(0, 5)
	if got := d.read(d.open(), 5, nil); string(got[4].Value) != "4" {
		t.Fatalf("got %s", got[4].Value)
	}
}

func TestResumesBehindWhatWasAcknowledged(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.ConsumerID = "mailer"
	d.publish(0, 20)
	c := d.open()
	d.read(c, 10, func(i int, r consumer.Record) {
		if i <= 7 {
			c.Ack(r)
		}
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.p.Cursor("log", "mailer", 0); got != 7 {
		t.Fatalf("the provider keeps cursor %d", got)
	}
	if got := d.read(d.open(), 13, nil); got[0].Position.Sequence != 8 || got[12].Position.Sequence != 20 {
		t.Fatalf("resumed at %v", got[0].Position)
	}
}

func TestASecondLoopGoesOn(t *testing.T) {
	d := newDesk(t, 1)
	d.publish(0, 10)
	c := d.open()
	d.read(c, 4, nil)
	if got := d.read(c, 1, nil); got[0].Position.Sequence != 5 {
		t.Fatalf("went on at %v", got[0].Position)
	}
}

func TestStarts(t *testing.T) {
	d := newDesk(t, 1)
	d.publish(0, 10)
	for name, c := range map[string]struct {
		start consumer.Start
		want  lane.Sequence
	}{
		"head":  {consumer.Head(), 1},
		"from":  {consumer.From(4), 4},
		"after": {consumer.After(map[lane.Partition]lane.Position{0: {Epoch: 1, Sequence: 6}}), 7},
	} {
		d.cfg.Start = c.start
		if got := d.read(d.open(), 1, nil); got[0].Position.Sequence != c.want {
			t.Fatalf("%s: began at %v", name, got[0].Position)
		}
	}
	d.cfg.Start = consumer.Tail()
	d.cfg.StopAtTail = true
	for r, err := range d.open().Records(d.ctx) {
		t.Fatalf("at the tail there is nothing, and yet %v, %v", r, err)
	}
}

func TestStopsAtTheTail(t *testing.T) {
	d := newDesk(t, 4)
	d.publish(0, 100)
	d.cfg.StopAtTail = true
	n := 0
	for _, err := range d.open().Records(d.ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 50 {
			d.publish(100, 120) // behind the tail of the beginning
		}
	}
	if n != 100 {
		t.Fatalf("%d records", n)
	}
}

// A loss ends the loop with the exact range, again and again; going on behind it is a choice of whoever was told.
func TestLossStopsTheLoopUnlessSomebodyChooses(t *testing.T) {
	d := newDesk(t, 2)
	d.publish(0, 40)
	first := d.p.Tail("log", 1) - 3
	if err := d.p.Expire("log", 1, first); err != nil {
		t.Fatal(err)
	}
	want := consumer.Expired{Partition: 1, From: 3, Head: lane.Sequence(first)}
	d.cfg.Start, d.cfg.StopAtTail = consumer.From(3), true
	c := d.open()
	for range 2 {
		var lost *consumer.Expired
		for r, err := range c.Records(d.ctx) {
			switch {
			case lost != nil:
				t.Fatalf("the loop went on: %v, %v", r, err)
			case err != nil && (!errors.As(err, &lost) || !errors.Is(err, fault.Expired) || *lost != want):
				t.Fatalf("told %v", err)
			case err == nil && r.Partition == 1:
				t.Fatalf("%v was given before the loss was told", r.Position)
			}
		}
		if lost == nil {
			t.Fatal("the loss was not told")
		}
	}

	var told []consumer.Expired
	d.cfg.OnLoss = func(lost *consumer.Expired) consumer.Choice {
		told = append(told, *lost)
		return consumer.SkipToHead
	}
	n, next := 0, lane.Sequence(first)
	for r, err := range d.open().Records(d.ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; r.Partition != 1 {
			continue
		}
		if r.Position.Sequence != next {
			t.Fatalf("%v came where %d was next", r.Position, next)
		}
		next++
	}
	if len(told) != 1 || told[0] != want || n != 4+int(d.p.Tail("log", 0))-2 {
		t.Fatalf("told %+v, then %d records", told, n)
	}
}

// Records that expire while a consumer is away are a loss to it, whatever it has acknowledged before.
func TestLossWhileAway(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.ConsumerID = "mailer"
	d.publish(0, 20)
	c := d.open()
	d.read(c, 5, func(_ int, r consumer.Record) { c.Ack(r) })
	if err := d.p.Expire("log", 0, 11); err != nil {
		t.Fatal(err)
	}
	for _, err := range d.open().Records(d.ctx) {
		var lost *consumer.Expired
		if !errors.As(err, &lost) || *lost != (consumer.Expired{From: 6, Head: 11}) {
			t.Fatalf("told %v", err)
		}
	}
	d.cfg.OnLoss = func(*consumer.Expired) consumer.Choice { return consumer.SkipToHead }
	if got := d.read(d.open(), 10, nil); got[0].Position.Sequence != 11 {
		t.Fatalf("went on at %v", got[0].Position)
	}
}

func TestHistoryCutIsTold(t *testing.T) {
	d := newDesk(t, 1)
	d.publish(0, 10)
	c := d.open()
	var told *consumer.HistoryCut
	n := 0
	for r, err := range c.Records(d.ctx) {
		switch {
		case errors.As(err, &told):
			d.publish(100, 101)
		case err != nil:
			t.Fatal(err)
		case told != nil:
			if r.Position != (lane.Position{Epoch: 2, Sequence: 6}) {
				t.Fatalf("went on at %v", r.Position)
			}
			return
		default:
			if n++; n == 10 {
				if err := d.p.RotateEpoch("log", 0, 5); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Fatal("the loop ended")
}

func TestFencedAndRefused(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.ConsumerID = "mailer"
	d.publish(0, 1)
	first := d.open()
	for _, err := range first.Records(d.ctx) {
		if err != nil {
			if fault.ReasonOf(err) != fault.ConsumerFenced {
				t.Fatal(err)
			}
			break
		}
		d.read(d.open(), 1, nil)
	}
	d.cfg.Stream = "nowhere"
	for _, err := range d.open().Records(d.ctx) {
		if fault.ReasonOf(err) != fault.UnknownStream {
			t.Fatalf("got %v", err)
		}
	}
}

// Large records fill a gateway's window of bytes long before its window of deliveries. The reading goes on all the same, when it
// subscribes and when it reads what was left out from the log, and long before the 20 s after which a subscription counts as dead.
func TestLargeRecordsDoNotShutTheWindow(t *testing.T) {
	for name, drop := range map[string]int{"subscribed": 0, "from the log": 30} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 1)
			const n = 40
			value := make([]byte, 1<<20)                   // of bytes that do not compress
			_, _ = rand.NewChaCha8([32]byte{}).Read(value) // it never fails
			for i := range n {
				if err := d.p.Publish("log", sdktest.Record{Key: fmt.Sprint(i), Value: value}); err != nil {
					t.Fatal(err)
				}
			}
			d.p.Gap(drop)
			ctx, cancel := context.WithTimeout(d.ctx, 15*time.Second)
			defer cancel()
			d.ctx, d.cfg.StopAtTail = ctx, true
			if got := d.read(d.open(), n, nil); len(got) != n {
				t.Fatalf("%d of %d records came", len(got), n)
			}
		})
	}
}

// A first connection that cannot be made ends the loop after ConnectWithin; a later one is waited for.
func TestConnectWithin(t *testing.T) {
	d := newDesk(t, 1)
	retries := 0
	d.cfg.Gateways, d.cfg.ConnectWithin = []string{"tcp://127.0.0.1:1"}, 20*time.Millisecond
	d.cfg.OnRetry = func(err error, after time.Duration) {
		if retries++; !errors.Is(err, fault.Unavailable) || after <= 0 {
			t.Errorf("told of %v, again in %v", err, after)
		}
	}
	for _, err := range d.open().Records(d.ctx) {
		if !errors.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
	}
	if d.ctx.Err() != nil || retries == 0 {
		t.Fatalf("the loop did not end by itself (%v) or told of nothing (%d)", d.ctx.Err(), retries)
	}

	d.cfg.Gateways, d.cfg.ConnectWithin = []string{d.p.Gateway()}, time.Nanosecond
	d.publish(0, 20)
	c := d.open()
	d.read(c, 20, func(i int, _ consumer.Record) {
		if i == 10 {
			d.p.Disconnect()
		}
	})
}
