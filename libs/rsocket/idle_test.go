package rsocket

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// idleConnections is how many connections BenchmarkIdleConnection holds open.
const idleConnections = 5000

// BenchmarkIdleConnection says what one idle connection with one open stream costs the server:
// live heap and stack bytes, and goroutines, measured over 5,000 of them. The peers are another
// process, so that only the server's side counts. The time per operation means nothing.
func BenchmarkIdleConnection(b *testing.B) {
	for _, kind := range []string{"tcp", "tls", "ws"} {
		b.Run(kind, func(b *testing.B) {
			s := newTestServer(ServerConfig{})
			address, cfg := s.listenAs(b, kind)
			_ = cfg
			measure := func() (bytes, goroutines int64) {
				for range 3 {
					runtime.GC()
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc + m.StackInuse), int64(runtime.NumGoroutine())
			}
			beforeBytes, beforeGoroutines := measure()
			peers := exec.Command(os.Args[0], "-test.run", "^TestIdlePeers$")
			peers.Env = append(os.Environ(), "RSOCKET_IDLE_PEERS="+address)
			peers.Stderr = os.Stderr
			stdin, err := peers.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := peers.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() { stdin.Close(); _ = peers.Wait() }()
			for end := time.Now().Add(2 * time.Minute); s.open.Load() < idleConnections; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					b.Fatalf("only %d connections", s.open.Load())
				}
			}
			for range idleConnections {
				<-s.setups
			}
			for range b.N { // the measure of one moment, whatever N
			}
			afterBytes, afterGoroutines := measure()
			b.ReportMetric(float64(afterBytes-beforeBytes)/idleConnections, "B/conn")
			b.ReportMetric(float64(afterGoroutines-beforeGoroutines)/idleConnections, "goroutines/conn")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestIdlePeers is the other process of BenchmarkIdleConnection.
func TestIdlePeers(t *testing.T) {
	address := os.Getenv("RSOCKET_IDLE_PEERS")
	if address == "" {
		t.Skip("runs only as the peers of BenchmarkIdleConnection")
	}
	conns := make([]*Conn, 0, idleConnections)
	for i := range idleConnections {
		cfg := ClientConfig{KeepaliveInterval: 10 * time.Second, Lifetime: time.Minute, TLS: insecureTLS()}
		// Ports of one source address run out: spread over 127.0.0.0/8.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%200+1))}}
		cfg.DialContext = d.DialContext
		c, err := Dial(t.Context(), address, cfg)
		if err != nil {
			t.Fatal(strconv.Itoa(i), err)
		}
		if _, err := c.RequestStream(t.Context(), Payload{Data: []byte("idle")}, 64); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	_, _ = fmt.Fscanln(os.Stdin) // until the benchmark is done
	for _, c := range conns {
		c.end(ErrClosed)
	}
	for _, c := range conns {
		<-c.Done()
	}
}
