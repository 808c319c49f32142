package consumerstate_test

import (
	"context"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
)

// expiring gives the metric of the stream; -1 when there is no such series.
func (r *rig) expiring(t failer) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "lockstep_consumers_expiring" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == streamName {
					return m.GetGauge().GetValue()
				}
			}
		}
	}
	return -1
}

// A consumer that is away learns, and so do people, when what it needs will be gone; also from a service that has only just started.
func TestWarningOfExpiry(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	inc := r.attach(t, "c").GetIncarnation()
	say := func(sequence uint64) {
		t.Helper()
		if _, err := r.checkpoint("c", inc, cursor(0, 1, sequence)); err != nil {
			t.Fatal(err)
		}
	}
	head := func(epoch, head uint64) {
		t.Helper()
		if _, err := r.ExchangeTails(ctx, &consumerv1.ExchangeTailsRequest{Lanes: []*consumerv1.LaneTail{
			{Stream: streamName, StreamId: streamID, Epoch: epoch, Head: head, Tail: 1_000_000},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, wantHead uint64, seconds, metric float64) {
		t.Helper()
		l := r.consumer(t, "c").GetLanes()[0]
		got := -1.0
		if l.ExpiresSeconds != nil {
			got = l.GetExpiresSeconds()
		}
		if l.GetHead() != wantHead || got != seconds || r.expiring(t) != metric {
			t.Errorf("%s: head %d, expires in %v s, %v expiring; want %d, %v, %v", what, l.GetHead(), got, r.expiring(t), wantHead, seconds, metric)
		}
	}
	say(20_000)
	expect("nobody told of the head", 0, -1, 0)
	head(1, 1)
	expect("not watched for long", 1, -1, 0)
	for i := range uint64(20) { // the head moves by 100 a second, and the consumer does not
		r.clock.advance(time.Second)
		head(1, 1+100*(i+1))
	}
	expect("20 s later", 2001, 180.01, 1)
	r.restart(t)
	expect("after a restart", 0, -1, 0)
	head(1, 3001)
	for i := range uint64(20) {
		r.clock.advance(time.Second)
		head(1, 3001+100*(i+1))
	}
	expect("and 20 s, of a consumer that has not been heard of since", 5001, 150.01, 1)
	for i := range uint64(130) { // it applies as fast as the head moves
		r.clock.advance(time.Second)
		say(20_000 + 100*(i+1))
		head(1, 5001+100*(i+1))
	}
	expect("it keeps its distance", 18_001, -1, 0)
	for range 130 { // it stands still, and the head does too
		r.clock.advance(time.Second)
		head(1, 18_001)
	}
	l := r.consumer(t, "c").GetLanes()[0]
	if l.ExpiresSeconds == nil || l.GetExpiresSeconds() < 15_001/100 || r.expiring(t) != 1 {
		t.Errorf("the rate of the last half hour counts: %v", l)
	}
	head(1, 33_001)
	if l := r.consumer(t, "c").GetLanes()[0]; l.ExpiresSeconds == nil || l.GetExpiresSeconds() == 0 || l.GetExpiresSeconds() > 1 {
		t.Errorf("the next record is the first there is, and has not expired: %v", l)
	}
}

func TestExpiredAndUnknown(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	inc := r.attach(t, "c").GetIncarnation()
	seconds := func() float64 {
		t.Helper()
		l := r.consumer(t, "c").GetLanes()[0]
		if l.ExpiresSeconds == nil {
			return -1
		}
		return l.GetExpiresSeconds()
	}
	exchange := func(epoch, head, tail uint64) {
		t.Helper()
		r.clock.advance(20 * time.Second)
		if _, err := r.ExchangeTails(ctx, &consumerv1.ExchangeTailsRequest{Lanes: []*consumerv1.LaneTail{
			{Stream: streamName, StreamId: streamID, Epoch: epoch, Head: head, Tail: tail},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	say := func(epoch, sequence uint64) {
		t.Helper()
		if _, err := r.checkpoint("c", inc, cursor(0, epoch, sequence)); err != nil {
			t.Fatal(err)
		}
	}
	exchange(1, 5, 100)
	if got := seconds(); got != -1 {
		t.Errorf("no cursor: %v", got)
	}
	say(1, 3)
	if got := seconds(); got != 0 {
		t.Errorf("record 4 has expired: %v", got)
	}
	say(1, 100)
	exchange(1, 50, 100)
	exchange(1, 101, 100)
	if got := seconds(); got != -1 {
		t.Errorf("at the tail there is nothing to lose: %v", got)
	}
	exchange(2, 101, 150)
	exchange(2, 120, 150)
	if got := seconds(); got != -1 {
		t.Errorf("a cursor of an older epoch: %v", got)
	}
	say(2, 110)
	if got := seconds(); got != 0 {
		t.Errorf("records [111, 120) have expired: %v", got)
	}
	r.clock.advance(time.Minute)
	if got := seconds(); got != -1 || r.expiring(t) != 0 {
		t.Errorf("old news is no news: %v", got)
	}
}
