package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
)

func TestSameOverEveryTransport(t *testing.T) {
	h := newHouse(t, withNATS)
	for range 10 {
		h.store.lane.Append(10, 100)
	}
	for _, address := range []string{h.address(), "ws://" + h.gateway.WebSocketAddress().String() + "/rsocket"} {
		t.Run(strings.Split(address, ":")[0], func(t *testing.T) {
			c, err := rsocket.Dial(t.Context(), address, setup(t, current, ""))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close(); <-c.Done() }()
			described := new(deliveryv1.DescribeResponse)
			if err := ask(t, c, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "orders"}, described); err != nil {
				t.Fatal(err)
			}
			if described.GetStream().GetDigestSeed() != 42 || described.GetMajor() != protocol.Current.Major {
				t.Fatalf("got %v", described)
			}
			tail := h.store.lane.Standing().Tail
			r := subscribe(t, c, 5, 8)
			r.until(tail)
			for range 10 { // live: with the batch in the hint, without it, and with no hint at all
				b := h.store.lane.Append(3, 50)
				h.hint(b.Data)
				h.store.lane.Append(3, 50)
				h.hint(nil)
				h.store.lane.Append(3, 50)
			}
			r.until(tail + 90)
		})
	}
}

func TestTLS(t *testing.T) {
	lender := httptest.NewTLSServer(nil) // lends its certificate
	defer lender.Close()
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.TLS = &tls.Config{Certificates: lender.TLS.Certificates} })
	h.store.lane.Append(10, 100)
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	for _, address := range []string{"tls://" + h.gateway.Address().String(), "wss://" + h.gateway.WebSocketAddress().String() + "/rsocket"} {
		t.Run(strings.Split(address, ":")[0], func(t *testing.T) {
			cfg := setup(t, current, "")
			cfg.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
			c, err := rsocket.Dial(t.Context(), address, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close(); <-c.Done() }()
			subscribe(t, c, 0, 8).until(10)
		})
	}
}

func TestSetupIsRefused(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte("# who may read what\nsecret orders,pri*\nother prices\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, func(c *gateway.Config, _ *house) { c.TokensFile = tokens })
	for name, c := range map[string]struct {
		hello  *deliveryv1.Hello
		token  string
		reason fault.Reason
		says   []string
	}{
		"another major": {&deliveryv1.Hello{Major: 9, Minor: 3, ConsumerId: "c1"}, "secret", fault.UnsupportedVersion, []string{"9.3", protocol.Current.String(), "c1"}},
		"no token":      {current, "", fault.Unauthenticated, []string{"token"}},
		"wrong token":   {current, "guess", fault.Unauthenticated, []string{"not known"}},
		"bad name":      {&deliveryv1.Hello{Major: protocol.Current.Major, ConsumerId: "no spaces"}, "secret", fault.InvalidName, nil},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := rsocket.Dial(t.Context(), h.address(), setup(t, c.hello, c.token))
			if err == nil {
				<-conn.Done()
				err = conn.Err()
			}
			var e *rsocket.Error
			if !errors.As(err, &e) || e.Code != rsocket.CodeRejectedSetup {
				t.Fatalf("got %v", err)
			}
			f := fault.Parse(e.Data)
			if f.Reason() != c.reason {
				t.Fatalf("got %v %v", f.Reason(), f)
			}
			for _, says := range c.says {
				if !strings.Contains(f.Error(), says) {
					t.Errorf("%q does not name %q", f, says)
				}
			}
		})
	}
	t.Run("newer minor is served", func(t *testing.T) {
		c, err := rsocket.Dial(t.Context(), h.address(), setup(t, &deliveryv1.Hello{Major: protocol.Current.Major, Minor: 99}, "secret"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(); <-c.Done() }()
		if err := ask(t, c, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "orders"}, new(deliveryv1.DescribeResponse)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a grant that is taken away", func(t *testing.T) {
		c, err := rsocket.Dial(t.Context(), h.address(), setup(t, current, "secret"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(); <-c.Done() }()
		r := subscribe(t, c, 0, 5)
		if err := os.WriteFile(tokens, []byte("secret prices\nother prices\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.ends(); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("the open subscription ended with %v", err)
		}
		if err := ask(t, c, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "orders"}, new(deliveryv1.DescribeResponse)); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("describe on the open connection: %v", err)
		}
	})
	t.Run("a stream that was not granted", func(t *testing.T) {
		h.store.lane.Append(1, 10)
		c, err := rsocket.Dial(t.Context(), h.address(), setup(t, current, "other"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(); <-c.Done() }()
		if err := ask(t, c, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "orders"}, new(deliveryv1.DescribeResponse)); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("describe: %v", err)
		}
		if err := ask(t, c, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: "orders", ConsumerId: "c"}, new(deliveryv1.AttachResponse)); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("attach: %v", err)
		}
		if err := subscribe(t, c, 0, 5).ends(); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("subscribe: %v", err)
		}
		if err := open(t, c, protocol.RouteRange, &deliveryv1.RangeRequest{Stream: "orders", From: 1}, 5).ends(); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("range: %v", err)
		}
		if err := open(t, c, protocol.RouteSnapshot, &deliveryv1.SnapshotRequest{Stream: "orders"}, 5).ends(); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("snapshot: %v", err)
		}
		// Granted and unknown: what is near and not granted stays unsaid.
		err = ask(t, c, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "prices"}, new(deliveryv1.DescribeResponse))
		if !errors.Is(err, fault.UnknownStream) || strings.Contains(err.Error(), "orders") {
			t.Errorf("describe of an unknown stream: %v", err)
		}
	})
}

func TestRequestsAreRefused(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(10, 10)
	h.store.lane.Append(10, 10)
	h.store.lane.Retain(11)
	c := h.dial()
	position := func(epoch, sequence uint64) *deliveryv1.SubscribeRequest {
		return &deliveryv1.SubscribeRequest{Stream: "orders", After: &streamv1.Position{Epoch: epoch, Sequence: sequence}}
	}
	for name, x := range map[string]struct {
		r      *reading
		reason fault.Reason
		detail [2]string
	}{
		"ahead of the tail":    {open(t, c, protocol.RouteSubscribe, position(1, 21), 5), fault.AheadOfTail, [2]string{"tail", "20"}},
		"another epoch":        {open(t, c, protocol.RouteSubscribe, position(2, 15), 5), fault.EpochMismatch, [2]string{"epoch", "1"}},
		"expired":              {open(t, c, protocol.RouteSubscribe, position(1, 3), 5), fault.Expired, [2]string{"head", "11"}},
		"expired range":        {open(t, c, protocol.RouteRange, &deliveryv1.RangeRequest{Stream: "orders", From: 1}, 5), fault.Expired, [2]string{"head", "11"}},
		"empty range":          {open(t, c, protocol.RouteRange, &deliveryv1.RangeRequest{Stream: "orders"}, 5), fault.InvalidArgument, [2]string{}},
		"unknown stream":       {open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "order"}, 5), fault.UnknownStream, [2]string{}},
		"unknown partition":    {open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", Partition: 1}, 5), fault.InvalidArgument, [2]string{}},
		"unknown incarnation":  {open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: "c", Incarnation: 3}, 5), fault.ConsumerFenced, [2]string{}},
		"unknown route":        {open(t, c, "lockstep.nothing", &deliveryv1.SubscribeRequest{}, 5), fault.InvalidArgument, [2]string{}},
		"request of one route": {open(t, c, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "orders"}, 5), fault.InvalidArgument, [2]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			x.r.t = t
			err := x.r.ends()
			if !errors.Is(err, x.reason) || x.detail[0] != "" && fault.Of(err).Detail(x.detail[0]) != x.detail[1] {
				t.Fatalf("got %v %v", err, fault.Of(err).Details())
			}
		})
	}
	if _, err := c.RequestResponse(t.Context(), rsocket.Payload{Data: []byte("x")}); !errors.Is(restored(err), fault.Malformed) {
		t.Errorf("no metadata: %v", err)
	}
	if _, err := c.RequestResponse(t.Context(), rsocket.Payload{Metadata: []byte{0xFE, 0, 9, 9}, Data: []byte("x")}); !errors.Is(restored(err), fault.Malformed) {
		t.Errorf("cut metadata: %v", err)
	}
}

func TestRange(t *testing.T) {
	h := newHouse(t)
	for range 10 {
		h.store.lane.Append(3, 10)
	}
	c := h.dial()
	for name, x := range map[string]struct{ from, until, first, last uint64 }{
		"inside batches": {5, 11, 4, 12},
		"to the tail":    {28, 0, 28, 30},
		"beyond it":      {28, 1000, 28, 30},
		"nothing":        {31, 0, 0, 30},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, c, protocol.RouteRange, &deliveryv1.RangeRequest{Stream: "orders", From: x.from, Until: x.until}, 2)
			r.cursor = lane.Sequence(x.from - 1)
			first := uint64(0)
			for {
				d, _, err := r.next()
				if err != nil {
					break
				}
				if first == 0 {
					first = d.GetFirst()
				}
			}
			if err := r.ends(); err != nil || first != x.first || uint64(r.cursor) != x.last {
				t.Fatalf("got [%d, %d], %v; want [%d, %d]", first, r.cursor, err, x.first, x.last)
			}
		})
	}
}

func TestNATSAndStorageMayGo(t *testing.T) {
	h := newHouse(t, withNATS)
	h.store.lane.Append(5, 10)
	r := subscribe(t, h.dial(), 0, 16)
	r.until(5)

	b := h.store.lane.Append(5, 10)
	h.hint(b.Data)
	r.until(10)

	h.nats.Shutdown()
	h.nats.WaitForShutdown()
	h.store.lane.Append(5, 10)
	r.until(15)

	h.store.lane.SetDown(true)
	h.store.lane.Append(5, 10)
	slow := subscribe(t, h.dial(), 2, 16) // must wait for storage, and must not fail
	h.store.lane.SetDown(false)
	r.until(20)
	slow.until(20)
}

func TestIncarnationsAreFenced(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(5, 10)
	first, second := h.dial(), h.dial()
	attach := func(c *rsocket.Conn) uint64 {
		out := new(deliveryv1.AttachResponse)
		if err := ask(t, c, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: "orders", ConsumerId: "c1"}, out); err != nil {
			t.Fatal(err)
		}
		return out.GetIncarnation()
	}
	follow := func(c *rsocket.Conn, incarnation uint64) *reading {
		return open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: "c1", Incarnation: incarnation}, 16)
	}
	ack := func(c *rsocket.Conn, incarnation, sequence uint64) error {
		return ask(t, c, protocol.RouteAck, &deliveryv1.AckRequest{Stream: "orders", ConsumerId: "c1", Incarnation: incarnation,
			Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: sequence}}}}, new(deliveryv1.AckResponse))
	}
	one := attach(first)
	r1 := follow(first, one)
	r1.until(5)
	two := attach(second)
	if err := r1.ends(); !errors.Is(err, fault.ConsumerFenced) {
		t.Fatalf("the older subscription ended with %v", err)
	}
	if err := ack(first, one, 5); !errors.Is(err, fault.ConsumerFenced) {
		t.Fatalf("the older incarnation's ack: %v", err)
	}
	if err := ack(first, two, 5); !errors.Is(err, fault.ConsumerFenced) {
		t.Fatalf("the newer incarnation on the older's connection: %v", err)
	}
	// Attached at another gateway: this one finds out by itself.
	r2 := follow(second, two)
	r2.until(5)
	if err := ack(second, two, 4); err != nil {
		t.Fatal(err)
	}
	h.keeper.locked(func() { h.keeper.incarnations["c1"]++ })
	if err := r2.ends(); !errors.Is(err, fault.ConsumerFenced) {
		t.Fatalf("fenced elsewhere, it ended with %v", err)
	}
	three := attach(first)
	_ = first.Close()
	eventually(t, "consumer-state is told that the connection went", h.keeper.left(three))
}

func TestAcksAreGatheredAndKept(t *testing.T) {
	h := newHouse(t)
	for range 10 {
		h.store.lane.Append(100, 10)
	}
	c := h.dial()
	attached := new(deliveryv1.AttachResponse)
	if err := ask(t, c, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: "orders", ConsumerId: "c1"}, attached); err != nil {
		t.Fatal(err)
	}
	subscribe(t, c, 0, 16).until(1000)
	request := func(sequence uint64) *deliveryv1.AckRequest {
		return &deliveryv1.AckRequest{Stream: "orders", ConsumerId: "c1", Incarnation: attached.GetIncarnation(),
			Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: sequence}}}}
	}
	for i := range uint64(500) {
		if err := c.FireAndForget(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteAck), Data: message(t, request(i+1))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.FireAndForget(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteStatus), Data: message(t, &deliveryv1.StatusRequest{
		Stream: "orders", ConsumerId: "c1", Incarnation: attached.GetIncarnation(), Health: &consumerv1.Health{Phase: consumerv1.Phase_PHASE_LIVE},
	})}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last ack arrives", h.keeper.has("c1", 500))
	eventually(t, "the health arrives", func() (ok bool) {
		h.keeper.locked(func() { ok = h.keeper.health.GetPhase() == consumerv1.Phase_PHASE_LIVE })
		return ok
	})
	h.keeper.locked(func() {
		if h.keeper.checkpoints > 100 {
			t.Errorf("500 acks made %d calls", h.keeper.checkpoints)
		}
	})

	// A confirmed ack waits for a consumer-state that is away; a lower one is answered with what is kept.
	h.keeper.locked(func() { h.keeper.down = true })
	done := make(chan error, 1)
	answer := new(deliveryv1.AckResponse)
	go func() { done <- ask(t, c, protocol.RouteAck, request(700), answer) }()
	eventually(t, "the ack is under way", func() bool {
		select {
		case err := <-done:
			t.Fatalf("answered while consumer-state is down: %v", err)
			return false
		case <-time.After(50 * time.Millisecond):
			return true
		}
	})
	h.keeper.locked(func() { h.keeper.down = false })
	if err := <-done; err != nil || answer.GetCursors()[0].GetPosition().GetSequence() != 700 {
		t.Fatalf("got %v, %v", answer, err)
	}
	h.keeper.locked(func() {
		if len(h.keeper.tails) != 1 || h.keeper.tails[0].GetPosition().GetSequence() != 1000 {
			t.Errorf("the tail beside the ack: %v", h.keeper.tails)
		}
	})
	if err := ask(t, c, protocol.RouteAck, request(3), answer); err != nil || answer.GetCursors()[0].GetPosition().GetSequence() != 700 {
		t.Fatalf("a lower ack: %v, %v", answer, err)
	}
}

func TestSlowConsumerHoldsUpNobody(t *testing.T) {
	h := newHouse(t, withNATS)
	h.store.lane.Append(1, 10)
	slow, fast := subscribe(t, h.dial(), 0, 1), subscribe(t, h.dial(), 0, 16)
	for range 200 {
		b := h.store.lane.Append(10, 100)
		h.hint(b.Data)
	}
	fast.until(2001)
	slow.until(2001)
}

func TestFromTail(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(10, 10)
	r := open(t, h.dial(), protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", FromTail: true}, 16)
	d, _, err := r.next()
	if err != nil || d.GetKind() != deliveryv1.Delivery_KIND_STATUS || d.GetTail() != 10 {
		t.Fatalf("at the tail: %v, %v", d, err)
	}
	r.cursor = 10
	h.store.lane.Append(1, 10)
	r.until(11)
}

func TestDrain(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(5, 10)
	c := h.dial()
	r := subscribe(t, c, 0, 16)
	r.until(5)
	if err := h.gateway.Ready(); err != nil {
		t.Fatal(err)
	}
	h.stop()
	if err := h.gateway.Ready(); !errors.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
	<-c.Done()
	if _, err := rsocket.Dial(t.Context(), h.address(), setup(t, current, "")); err == nil {
		t.Error("a stopped gateway took a connection")
	}
}

// S7: what consumer-state keeps is never above the tail, whatever a consumer says.
func TestAckAheadOfTheTailIsRefused(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(10, 10)
	c := h.dial()
	attached := new(deliveryv1.AttachResponse)
	if err := ask(t, c, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: "orders", ConsumerId: "c1"}, attached); err != nil {
		t.Fatal(err)
	}
	request := func(epoch, sequence uint64) *deliveryv1.AckRequest {
		return &deliveryv1.AckRequest{Stream: "orders", ConsumerId: "c1", Incarnation: attached.GetIncarnation(),
			Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: epoch, Sequence: sequence}}}}
	}
	answer := new(deliveryv1.AckResponse)
	if err := ask(t, c, protocol.RouteAck, request(1, 11), answer); !errors.Is(err, fault.AheadOfTail) {
		t.Errorf("ahead: %v", err)
	}
	if err := ask(t, c, protocol.RouteAck, request(2, 5), answer); !errors.Is(err, fault.EpochMismatch) {
		t.Errorf("another epoch: %v", err)
	}
	open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: "c1", Incarnation: attached.GetIncarnation()}, 16).until(10)
	for _, sequence := range []uint64{1000, 7} { // without an answer, in this order
		if err := c.FireAndForget(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteAck), Data: message(t, request(1, sequence))}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the good one arrives", h.keeper.has("c1", 7))
	if err := ask(t, c, protocol.RouteAck, request(1, 10), answer); err != nil || answer.GetCursors()[0].GetPosition().GetSequence() != 10 {
		t.Errorf("the tail itself: %v, %v", answer, err)
	}
}

// S7: a cursor never passes what the consumer was sent on this connection, or said it had when it came.
func TestAckBeyondWhatWasDeliveredIsRefused(t *testing.T) {
	h := newHouse(t)
	h.store.lane.Append(5, 10)
	attach := func(c *rsocket.Conn, id string) uint64 {
		t.Helper()
		out := new(deliveryv1.AttachResponse)
		if err := ask(t, c, protocol.RouteAttach, &deliveryv1.AttachRequest{Stream: "orders", ConsumerId: id}, out); err != nil {
			t.Fatal(err)
		}
		return out.GetIncarnation()
	}
	request := func(id string, incarnation, sequence uint64) *deliveryv1.AckRequest {
		return &deliveryv1.AckRequest{Stream: "orders", ConsumerId: id, Incarnation: incarnation,
			Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: sequence}}}}
	}
	taken := func(c *rsocket.Conn, id string, incarnation, sequence uint64) {
		t.Helper()
		if err := ask(t, c, protocol.RouteAck, request(id, incarnation, sequence), new(deliveryv1.AckResponse)); err != nil {
			t.Errorf("%d: %v", sequence, err)
		}
	}
	refused := func(c *rsocket.Conn, id string, incarnation, sequence uint64) {
		t.Helper()
		if err := ask(t, c, protocol.RouteAck, request(id, incarnation, sequence), new(deliveryv1.AckResponse)); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("%d: %v", sequence, err)
		}
	}
	subscribe := func(c *rsocket.Conn, id string, incarnation, after uint64) *reading {
		return open(t, c, protocol.RouteSubscribe, &deliveryv1.SubscribeRequest{Stream: "orders", ConsumerId: id, Incarnation: incarnation,
			After: &streamv1.Position{Epoch: 1, Sequence: after}}, 16)
	}

	one := h.dial()
	inc := attach(one, "c1")
	refused(one, "c1", inc, 1) // nothing was sent
	r := subscribe(one, "c1", inc, 0)
	r.until(5)
	r.in.Cancel()
	// Answered behind the CANCEL.
	if err := ask(t, one, protocol.RouteDescribe, &deliveryv1.DescribeRequest{Stream: "orders"}, new(deliveryv1.DescribeResponse)); err != nil {
		t.Fatal(err)
	}
	h.store.lane.Append(5, 10) // committed, and not sent
	refused(one, "c1", inc, 10)
	for _, sequence := range []uint64{10, 3} { // without an answer, in this order
		if err := one.FireAndForget(t.Context(), rsocket.Payload{Metadata: metadata(protocol.RouteAck), Data: message(t, request("c1", inc, sequence))}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the good one arrives, and the other did not", h.keeper.has("c1", 3))

	// A connection later: what the first one delivered may be acknowledged, whether or not consumer-state had heard of it.
	two := h.dial()
	inc = attach(two, "c1")
	taken(two, "c1", inc, 3) // what consumer-state keeps
	refused(two, "c1", inc, 5)
	subscribe(two, "c1", inc, 5)
	taken(two, "c1", inc, 5) // at once behind the subscribe
	// Another consumer on the same connection gains nothing by it.
	other := attach(two, "c2")
	refused(two, "c2", other, 5)

	three := h.dial()
	inc = attach(three, "c3")
	refused(three, "c3", inc, 10)
	if err := open(t, three, protocol.RouteRange, &deliveryv1.RangeRequest{Stream: "orders", From: 1, Until: 6}, 16).ends(); err != nil {
		t.Fatal(err)
	}
	taken(three, "c3", inc, 5)
	refused(three, "c3", inc, 10)
	h.keep(10, 10)
	m, id, err := manifest(t, three, &deliveryv1.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, three, m, id, 0, uint32(m.Chunks())); err != nil {
		t.Fatal(err)
	}
	taken(three, "c3", inc, 10)
}
