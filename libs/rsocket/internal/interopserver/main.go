// Command interopserver serves package echo over TCP and WebSocket for the clients of other
// languages: it prints "tcp PORT" and "ws PORT" and ends when its standard input is closed.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/libs/rsocket/internal/echo"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "interopserver:", err)
		os.Exit(1)
	}
}

func run() error {
	answers := &echo.Server{Accepted: greet}
	server := rsocket.NewServer(rsocket.ServerConfig{OriginPatterns: []string{"*"}}, answers.Accept)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(context.Background(), tcp) }()
	go func() {
		h := &http.Server{Handler: server.WebSocket(), ReadHeaderTimeout: 5 * time.Second}
		failed <- h.Serve(web)
	}()
	fmt.Printf("tcp %d\nws %d\n", tcp.Addr().(*net.TCPAddr).Port, web.Addr().(*net.TCPAddr).Port)
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	select {
	case <-ended:
		return server.Close()
	case err := <-failed:
		return err
	}
}

// greet asks the client: requests of the server are tried too.
func greet(_ rsocket.Setup, conn *rsocket.Conn) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = conn.FireAndForget(ctx, rsocket.Payload{Data: []byte("hello")})
		if p, err := conn.RequestResponse(ctx, rsocket.Payload{Data: []byte("who?")}); err == nil {
			_ = conn.FireAndForget(ctx, rsocket.Payload{Data: append([]byte("you are "), p.Data...)})
		}
	}()
}
