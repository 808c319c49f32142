package producer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/producer"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

type desk struct {
	t   *testing.T
	p   *sdktest.Provider
	ctx context.Context
	cfg producer.Config
}

func newDesk(t *testing.T, partitions uint32) *desk {
	t.Helper()
	p, err := sdktest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true, Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return &desk{t: t, p: p, ctx: ctx, cfg: producer.Config{Ingest: p.Ingest(), Stream: "orders", ProducerID: "till-1", RetryFirst: time.Millisecond, RetryLongest: 10 * time.Millisecond}}
}

func (d *desk) open() *producer.Producer {
	d.t.Helper()
	p, err := producer.Open(d.ctx, d.cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = p.Close(d.ctx) })
	return p
}

// ledger collects answers.
type ledger struct {
	mu   sync.Mutex
	acks map[int]producer.Ack
	errs map[int]error
}

func (l *ledger) of(i int) func(producer.Ack, error) {
	return func(a producer.Ack, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.acks == nil {
			l.acks, l.errs = map[int]producer.Ack{}, map[int]error{}
		}
		_, twice := l.acks[i]
		if _, refused := l.errs[i]; twice || refused {
			panic(fmt.Sprint("record ", i, " was answered twice"))
		}
		if err != nil {
			l.errs[i] = err
		} else {
			l.acks[i] = a
		}
	}
}

func TestEveryRecordIsStoredOnceInOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults func(*sdktest.Provider)
	}{
		{"quiet", func(*sdktest.Provider) {}},
		{"refusals that pass", func(p *sdktest.Provider) {
			p.FailPublish(fault.Unavailable, false)
			p.FailPublish(fault.Overloaded, false)
			p.FailPublish(fault.DiskFull, false)
		}},
		{"unknown outcomes", func(p *sdktest.Provider) {
			p.FailPublish(fault.UnknownOutcome, true)
			p.FailPublish(fault.UnknownOutcome, false)
			p.FailPublish(fault.UnknownOutcome, true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, 3)
			d.cfg.MaxRequestRecords = 100
			p := d.open()
			c.faults(d.p)
			var l ledger
			const n = 5000
			for i := range n {
				// Every key once: a record refused while later ones were taken may then still be stored (I3).
				err := p.Publish(d.ctx, producer.Record{Key: fmt.Sprintf("key-%05d", i), Value: fmt.Appendf(nil, "%d", i), Headers: map[string]string{"n": fmt.Sprint(i)}}, l.of(i))
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Flush(d.ctx); err != nil {
				t.Fatal(err)
			}
			if len(l.errs) > 0 || len(l.acks) != n {
				t.Fatalf("%d answered, refused: %v", len(l.acks), l.errs)
			}
			logs := map[lane.Partition][]sdktest.Record{}
			stored := 0
			for partition := range uint32(3) {
				logs[lane.Partition(partition)] = d.p.Log("orders", partition)
				stored += len(logs[lane.Partition(partition)])
			}
			if stored != n {
				t.Fatalf("%d records are stored", stored)
			}
			for i, ack := range l.acks {
				if got := logs[ack.Partition][ack.Position.Sequence-1]; got.Key != fmt.Sprintf("key-%05d", i) || got.Headers["n"] != fmt.Sprint(i) {
					t.Fatalf("record %d was answered with %+v, where %+v is", i, ack, got)
				}
			}
		})
	}
}

func TestVersionsOfAKeyKeepTheirOrder(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.MaxRequestRecords = 1
	p := d.open()
	for range 10 {
		d.p.FailPublish(fault.Unavailable, false)
	}
	var l ledger
	const n = 300
	for i := range n {
		if err := p.Publish(d.ctx, producer.Record{Key: fmt.Sprint("k", i%3), Value: fmt.Append(nil, i)}, l.of(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(d.ctx); err != nil {
		t.Fatal(err)
	}
	for i, err := range l.errs {
		if fault.ReasonOf(err) != fault.OutOfOrder {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if len(l.acks)+len(l.errs) != n || len(d.p.Log("orders", 0)) != len(l.acks) {
		t.Fatalf("%d stored, %d acknowledged, %d refused", len(d.p.Log("orders", 0)), len(l.acks), len(l.errs))
	}
	newest := map[string]int{}
	for _, r := range d.p.Log("orders", 0) {
		var v int
		if _, err := fmt.Sscan(string(r.Value), &v); err != nil {
			t.Fatal(err)
		}
		if before, ok := newest[r.Key]; ok && v <= before {
			t.Fatalf("key %s went from %d back to %d", r.Key, before, v)
		}
		newest[r.Key] = v
	}
}

func TestPutDeleteAndState(t *testing.T) {
	d := newDesk(t, 1)
	p := d.open()
	ack, err := p.Put(d.ctx, "a", []byte("1"))
	if err != nil || ack.Position != (lane.Position{Epoch: 1, Sequence: 1}) {
		t.Fatalf("got %+v, %v", ack, err)
	}
	if _, err := p.Put(d.ctx, "b", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if ack, err = p.Delete(d.ctx, "a"); err != nil || ack.Position.Sequence != 3 {
		t.Fatalf("got %+v, %v", ack, err)
	}
	if state := d.p.State("orders"); len(state) != 1 || state["b"] != "2" {
		t.Fatalf("got %v", state)
	}
}

func TestRefusals(t *testing.T) {
	d := newDesk(t, 1)
	p := d.open()
	if _, err := p.Put(d.ctx, "", []byte("x")); fault.ReasonOf(err) != fault.KeyMissing {
		t.Fatalf("without a key: %v", err)
	}
	if _, err := p.Put(d.ctx, "a", make([]byte, 2<<20)); fault.ReasonOf(err) != fault.RecordTooLarge {
		t.Fatalf("too large: %v", err)
	}
	newer := d.open()
	if _, err := newer.Put(d.ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Put(d.ctx, "a", nil); fault.ReasonOf(err) != fault.ProducerFenced {
		t.Fatalf("fenced: %v", err)
	}
	if err := p.Publish(d.ctx, producer.Record{Key: "a"}, nil); fault.ReasonOf(err) != fault.ProducerFenced {
		t.Fatalf("after being fenced: %v", err)
	}
	d.cfg.Stream = "nowhere"
	lost := d.open()
	if _, err := lost.Put(d.ctx, "a", nil); fault.ReasonOf(err) != fault.UnknownStream {
		t.Fatalf("unknown stream: %v", err)
	}
}

func TestBackPressureAndClose(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.MaxInFlightBytes = 4 << 10
	p := d.open()
	for range 1000 {
		d.p.FailPublish(fault.Unavailable, false)
	}
	var l ledger
	taken := 0
	for i := range 100 {
		ctx, cancel := context.WithTimeout(d.ctx, 20*time.Millisecond)
		err := p.Publish(ctx, producer.Record{Key: fmt.Sprint(i), Value: make([]byte, 500)}, l.of(i))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken++
	}
	if taken == 0 || taken > 8 {
		t.Fatalf("%d records of 500 bytes were taken into 4 KiB", taken)
	}
	ctx, cancel := context.WithTimeout(d.ctx, 20*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if len(l.errs) != taken {
		t.Fatalf("%d of %d were answered at Close", len(l.errs), taken)
	}
	if err := p.Publish(d.ctx, producer.Record{Key: "x"}, nil); fault.ReasonOf(err) != fault.Unavailable {
		t.Fatalf("after Close: %v", err)
	}
}

func TestGivesUp(t *testing.T) {
	d := newDesk(t, 1)
	d.cfg.GiveUpAfter = time.Millisecond
	p := d.open()
	for range 100 {
		d.p.FailPublish(fault.DiskFull, false)
	}
	if _, err := p.Put(d.ctx, "a", nil); fault.ReasonOf(err) != fault.DiskFull {
		t.Fatalf("got %v", err)
	}
}
