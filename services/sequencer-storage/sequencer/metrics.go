package sequencer

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the service's figures. Made once per service over the injected registerer; nil registers nowhere.
type metrics struct {
	records, bytes, refused prometheus.Counter
	groupAppends            prometheus.Histogram
	fsyncSeconds            prometheus.Histogram
	readBytes               prometheus.Counter
	stopped                 prometheus.GaugeFunc
	pendingBytes            prometheus.GaugeFunc
	undigested              prometheus.GaugeFunc
}

func newMetrics(reg prometheus.Registerer, stopped, pendingBytes, undigested func() float64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "lockstep", Subsystem: "sequencer", Name: name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "lockstep", Subsystem: "sequencer", Name: name, Help: help}, f)
	}
	m := &metrics{
		records: counter("appended_records_total", "Records made durable."),
		bytes:   counter("appended_bytes_total", "Bytes of batches made durable, as stored."),
		refused: counter("refused_appends_total", "Appends refused whole: duplicates, fenced producers, full disk, stopped lanes."),
		groupAppends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "lockstep", Subsystem: "sequencer", Name: "group_appends", Help: "Appends published together.", Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		fsyncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "lockstep", Subsystem: "sequencer", Name: "fsync_seconds", Help: "Duration of the fsync of the write-ahead log.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		readBytes:    counter("read_bytes_total", "Bytes of batches sent to readers."),
		stopped:      gauge("stopped_lanes", "Lanes that refuse work.", stopped),
		pendingBytes: gauge("pending_bytes", "Bytes of appends that wait to be written.", pendingBytes),
		undigested:   gauge("undigested_records", "Records between the newest digests and the tails of keyed lanes.", undigested),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.bytes, m.refused, m.groupAppends, m.fsyncSeconds, m.readBytes, m.stopped, m.pendingBytes, m.undigested)
	}
	return m
}
