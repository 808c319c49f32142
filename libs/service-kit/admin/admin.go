// Package admin is the page operators and probes read: /healthz (the process runs), /readyz (it can work; 503 with the reason
// otherwise), /metrics (Prometheus) and /debug/pprof (profiles, for `go tool pprof`).
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
)

// Part serves the page on l, which it owns, for the life of the process. ready is asked at every /readyz and must not block.
func Part(l net.Listener, ready func() error, metrics prometheus.Gatherer) life.Part {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	return life.Part{Name: "admin", Run: func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(l) }() // ends at Close
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		err := server.Close()
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			return served
		}
		return err
	}}
}
