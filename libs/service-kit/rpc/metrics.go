package rpc

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"
)

type serverMetrics struct{ calls *prometheus.CounterVec }

func newServerMetrics(reg prometheus.Registerer) *serverMetrics {
	m := &serverMetrics{calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_rpc_calls_total", Help: "gRPC calls ended, by method and code.",
	}, []string{"method", "code"})}
	if reg != nil {
		// One process may run several services over one registry; they share the counter.
		if err := reg.Register(m.calls); err != nil {
			var already prometheus.AlreadyRegisteredError
			if errors.As(err, &already) {
				m.calls = already.ExistingCollector.(*prometheus.CounterVec)
			}
		}
	}
	return m
}

func (m *serverMetrics) count(method string, err error) {
	m.calls.WithLabelValues(strings.TrimPrefix(method, "/"), status.Code(err).String()).Inc()
}
