package consumerstate

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	groups  prometheus.Histogram
	commits prometheus.Histogram
	fenced  prometheus.Counter
	kept    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	m := &metrics{
		groups: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lockstep_consumer_state_commit_calls", Help: "Calls that shared one commit.", Buckets: prometheus.ExponentialBuckets(1, 4, 6),
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "lockstep_consumer_state_commit_seconds", Help: "Time of one commit, fsync included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 13),
		}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lockstep_consumer_state_fenced_total", Help: "Calls refused because a newer incarnation lives.",
		}),
		kept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lockstep_consumer_state_cursors_kept_total", Help: "Cursors that came below what is kept and did not move it.",
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	for _, c := range []prometheus.Collector{
		m.groups, m.commits, m.fenced, m.kept, fleet{s},
		gauge("lockstep_consumer_state_consumers", "Consumers registered.", func() float64 { return float64(s.roster.Len()) }),
		gauge("lockstep_consumer_state_attached", "Consumers attached.", func() float64 { return float64(s.attached()) }),
		gauge("lockstep_consumer_state_watches", "Gateways that watch for commands.", func() float64 { return float64(s.watches.Len()) }),
		gauge("lockstep_consumer_state_lanes", "Lanes whose tails are known.", func() float64 { return float64(s.tails.Len()) }),
	} {
		// Services of one process may share a registry; a second consumer-state in it goes without series of its own.
		if err := reg.Register(c); err != nil {
			s.deps.Log.Warn("a metric is registered already; it will not count this service", "error", err)
		}
	}
	return m
}

func (m *metrics) committed(commands int, took time.Duration) {
	m.groups.Observe(float64(commands))
	m.commits.Observe(took.Seconds())
}

func (s *Service) attached() int {
	n, now := 0, s.nowMs()
	for _, c := range s.roster.List("", "") {
		if c.Attached(now, s.cfg.SilentAfter.Milliseconds()) {
			n++
		}
	}
	return n
}
