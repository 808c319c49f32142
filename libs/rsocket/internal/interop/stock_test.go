//go:build !race

// Not under the race detector: the stock client itself writes its SETUP and its first frames from
// two goroutines without a lock, which fails the test for no fault of ours.

package interop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	stock "github.com/rsocket/rsocket-go"
	"github.com/rsocket/rsocket-go/core/transport"
	"github.com/rsocket/rsocket-go/logger"
	"github.com/rsocket/rsocket-go/payload"
	"github.com/rsocket/rsocket-go/rx"
	"github.com/rsocket/rsocket-go/rx/flux"
	"github.com/rsocket/rsocket-go/rx/mono"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/internal/echo"
)

// serve gives an echo server over TCP or WebSocket until the test ends.
func serve(t *testing.T, kind string, accept rsocket.Acceptor) string {
	t.Helper()
	s := rsocket.NewServer(rsocket.ServerConfig{}, accept)
	if kind == "ws" {
		h := httptest.NewServer(s.WebSocket())
		t.Cleanup(func() { h.Close(); s.Close() })
		return "ws://" + h.Listener.Addr().String() + "/rsocket"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return "tcp://" + l.Addr().String()
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func init() { logger.SetLevel(logger.LevelError) }

func stockClient(t *testing.T, address string, setup payload.Payload, more func(stock.ClientBuilder) stock.ClientBuilder, responder stock.RSocket) (stock.Client, chan error) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var tp transport.ClientTransporter
	if u.Scheme == "ws" {
		tp = stock.WebsocketClient().SetURL(address).Build()
	} else {
		port, _ := strconv.Atoi(u.Port())
		tp = stock.TCPClient().SetHostAndPort(u.Hostname(), port).Build()
	}
	closed := make(chan error, 1)
	b := stock.Connect().SetupPayload(setup).KeepAlive(300*time.Millisecond, 2*time.Second, 1).OnClose(func(err error) { closed <- err })
	if more != nil {
		b = more(b)
	}
	if responder != nil {
		b2 := b.Acceptor(func(context.Context, stock.RSocket) stock.RSocket { return responder })
		c, err := b2.Transport(tp).Start(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return c, closed
	}
	c, err := b.Transport(tp).Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c, closed
}

func TestStockClient(t *testing.T) {
	for _, kind := range []string{"tcp", "ws"} {
		t.Run(kind, func(t *testing.T) {
			setups := make(chan rsocket.Setup, 1)
			s := &echo.Server{Accepted: func(setup rsocket.Setup, _ *rsocket.Conn) { setups <- setup }}
			address := serve(t, kind, s.Accept)
			c, closed := stockClient(t, address, payload.NewString("hello", "meta"), nil, nil)
			setup := <-setups
			if string(setup.Payload.Data) != "hello" || string(setup.Payload.Metadata) != "meta" || setup.Lifetime != 2*time.Second {
				t.Errorf("setup %+v", setup)
			}
			ctx := within(t)
			p, err := c.RequestResponse(payload.NewString("ping", "m")).Block(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m, _ := p.MetadataUTF8(); p.DataUTF8() != "ping" || m != "m" {
				t.Errorf("echo %q %q", p.DataUTF8(), m)
			}
			if _, err := c.RequestResponse(payload.NewString("error no such thing", "")).Block(ctx); err == nil || !strings.Contains(err.Error(), "no such thing") {
				t.Errorf("error %v", err)
			}
			if p, err := c.RequestResponse(payload.New(make([]byte, 600_000), nil)).Block(ctx); err != nil || len(p.Data()) != 600_000 {
				t.Errorf("600 kB echo: %v", err)
			}
			c.FireAndForget(payload.NewString("note", ""))
			waitFor(t, "fire-and-forget", func() bool { return s.Notes.Load() == 1 })

			// Credit 5, more from inside onNext: all in order, then complete.
			for _, n := range []int{1, 5, 64} {
				got := make(chan error, 1)
				var sub rx.Subscription
				count, used := 0, 0
				c.RequestStream(payload.NewString("stream 2000 50", "")).Subscribe(ctx,
					rx.OnSubscribe(func(_ context.Context, x rx.Subscription) { sub = x; x.Request(n) }),
					rx.OnNext(func(p payload.Payload) error {
						count++
						if used++; used == n {
							used = 0
							sub.Request(n)
						}
						return nil
					}),
					rx.OnComplete(func() { got <- nil }), rx.OnError(func(err error) { got <- err }))
				select {
				case err := <-got:
					if err != nil || count != 2000 {
						t.Errorf("credit %d: %d payloads, %v", n, count, err)
					}
				case <-ctx.Done():
					t.Fatalf("credit %d: stream stands still", n)
				}
			}

			// Cancel closes the source.
			var sub rx.Subscription
			first := make(chan struct{})
			var once sync.Once
			c.RequestStream(payload.NewString("endless 50", "")).Subscribe(ctx,
				rx.OnSubscribe(func(_ context.Context, x rx.Subscription) { sub = x; x.Request(3) }),
				rx.OnNext(func(payload.Payload) error { once.Do(func() { close(first) }); return nil }))
			<-first
			sub.Cancel()
			waitFor(t, "cancel", func() bool { return s.Open.Load() == 0 })

			if _, err := c.RequestStream(payload.NewString("nothing", "")).BlockLast(ctx); err == nil || !strings.Contains(err.Error(), "no stream") {
				t.Errorf("stream error %v", err)
			}
			// A channel is refused on its stream; the connection stays.
			if _, err := c.RequestChannel(flux.Just(payload.NewString("a", ""))).BlockLast(ctx); err == nil || !strings.Contains(err.Error(), "not supported") {
				t.Errorf("channel: %v", err)
			}
			// The server keeps a client that only sends KEEPALIVE for longer than its lifetime.
			select {
			case err := <-closed:
				t.Fatalf("connection ended while idle: %v", err)
			case <-time.After(2500 * time.Millisecond):
			}
			if _, err := c.RequestResponse(payload.NewString("still here", "")).Block(ctx); err != nil {
				t.Error(err)
			}
			c.Close()
			waitFor(t, "Closed", func() bool { return s.Closed.Load() == 1 })
		})
	}
}

func TestStockClientFragments(t *testing.T) {
	c, _ := stockClient(t, serve(t, "tcp", new(echo.Server).Accept), payload.NewString("hello", ""), func(b stock.ClientBuilder) stock.ClientBuilder { return b.Fragment(700) }, nil)
	defer c.Close()
	data := strings.Repeat("0123456789", 30_000)
	p, err := c.RequestResponse(payload.NewString(data, strings.Repeat("m", 2000))).Block(within(t))
	if err != nil || p.DataUTF8() != data {
		t.Fatalf("300 kB in fragments: %v", err)
	}
	if m, _ := p.MetadataUTF8(); len(m) != 2000 {
		t.Errorf("%d bytes of metadata", len(m))
	}
}

func TestStockClientIsRefused(t *testing.T) {
	address := serve(t, "tcp", new(echo.Server).Accept)
	for name, tc := range map[string]struct {
		setup string
		more  func(stock.ClientBuilder) stock.ClientBuilder
		want  string
	}{
		"acceptor": {"reject", nil, "go away"},
		"resume":   {"hello", func(b stock.ClientBuilder) stock.ClientBuilder { return b.Resume() }, "resume is not supported"},
		"lease":    {"hello", func(b stock.ClientBuilder) stock.ClientBuilder { return b.Lease() }, "lease is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			p := payload.NewString(tc.setup, "")
			c, closed := stockClient(t, address, p, tc.more, nil)
			defer c.Close()
			select {
			case err := <-closed:
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("closed with %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("not refused")
			}
		})
	}
}

// Our server asks a stock client, and our client asks a stock server.
func TestStockResponder(t *testing.T) {
	responder := func() stock.RSocket {
		return stock.NewAbstractSocket(
			stock.RequestResponse(func(p payload.Payload) mono.Mono {
				if p.DataUTF8() == "error" {
					return mono.Error(errors.New("no such thing"))
				}
				return mono.Just(payload.Clone(p))
			}),
			stock.RequestStream(func(p payload.Payload) flux.Flux {
				n, _ := strconv.Atoi(p.DataUTF8())
				all := make([]payload.Payload, 0, n)
				for i := range n {
					all = append(all, payload.New([]byte{0, 0, 0, 0, 0, 0, byte(i >> 8), byte(i)}, nil))
				}
				return flux.Just(all...)
			}),
			stock.FireAndForget(func(payload.Payload) {}))
	}
	ask := func(ctx context.Context, c *rsocket.Conn) error {
		p, err := c.RequestResponse(ctx, rsocket.Payload{Data: []byte("ping"), Metadata: []byte("m")})
		if err != nil || string(p.Data) != "ping" || string(p.Metadata) != "m" {
			return fmt.Errorf("echo %q: %v", p, err)
		}
		var e *rsocket.Error
		if _, err := c.RequestResponse(ctx, rsocket.Payload{Data: []byte("error")}); !errors.As(err, &e) || !strings.Contains(string(e.Data), "no such thing") {
			return fmt.Errorf("error: %v", err)
		}
		if err := c.FireAndForget(ctx, rsocket.Payload{Data: []byte("x")}); err != nil {
			return err
		}
		in, err := c.RequestStream(ctx, rsocket.Payload{Data: []byte("300")}, 1<<31-1) // the stock library stalls at small windows
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			p, err := in.Recv(ctx)
			if err == io.EOF && i == 300 {
				break
			}
			if err != nil || binary.BigEndian.Uint64(p.Data) != uint64(i) {
				return fmt.Errorf("payload %d is %x: %v", i, p.Data, err)
			}
		}
		if p, err := c.RequestResponse(ctx, rsocket.Payload{Data: make([]byte, 900_000)}); err != nil || len(p.Data) != 900_000 {
			return fmt.Errorf("900 kB echo: %v", err)
		}
		return nil
	}
	t.Run("stock server", func(t *testing.T) {
		for _, fragment := range []int{0, 600} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan struct{})
			b := stock.Receive()
			if fragment > 0 {
				b = b.Fragment(fragment) // the stock server answers in fragments: our client puts them together
			}
			go func() {
				defer close(served)
				_ = b.Acceptor(func(context.Context, payload.SetupPayload, stock.CloseableRSocket) (stock.RSocket, error) {
					return responder(), nil
				}).
					Transport(func(context.Context) (transport.ServerTransport, error) {
						return transport.NewTCPServerTransport(func(context.Context) (net.Listener, error) { return l, nil }), nil
					}).Serve(ctx)
			}()
			c, err := rsocket.Dial(ctx, "tcp://"+l.Addr().String(), rsocket.ClientConfig{KeepaliveInterval: 200 * time.Millisecond, Lifetime: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if err := ask(within(t), c); err != nil {
				t.Errorf("fragments of %d: %v", fragment, err)
			}
			c.Close()
			<-c.Done()
			cancel()
			l.Close()
			<-served
		}
	})
	t.Run("stock client", func(t *testing.T) {
		conns := make(chan *rsocket.Conn, 1)
		s := &echo.Server{Accepted: func(_ rsocket.Setup, conn *rsocket.Conn) { conns <- conn }}
		address := serve(t, "tcp", s.Accept)
		c, _ := stockClient(t, address, payload.NewString("hello", ""), nil, responder())
		defer c.Close()
		// Only after Start has returned: the stock client writes its SETUP and its first answer from
		// two goroutines without a lock.
		if err := ask(within(t), <-conns); err != nil {
			t.Error(err)
		}
	})
}
