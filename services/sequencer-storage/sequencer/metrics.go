package sequencer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/archive"
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

// figures are what a running service is asked for.
type figures struct {
	stopped, pendingBytes, undigested func() float64
	tombstones                        func() (n int64, oldest time.Duration)
	snapshots                         func() archive.Counts
}

func newMetrics(reg prometheus.Registerer, ask figures) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "lockstep", Subsystem: "sequencer", Name: name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "lockstep", Subsystem: "sequencer", Name: name, Help: help}, f)
	}
	count := func(name, help string, f func() float64) prometheus.CounterFunc {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "lockstep", Subsystem: "sequencer", Name: name, Help: help}, f)
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
		stopped:      gauge("stopped_lanes", "Lanes that refuse work.", ask.stopped),
		pendingBytes: gauge("pending_bytes", "Bytes of appends that wait to be written.", ask.pendingBytes),
		undigested:   gauge("undigested_records", "Records between the newest digests and the tails of keyed lanes.", ask.undigested),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.bytes, m.refused, m.groupAppends, m.fsyncSeconds, m.readBytes, m.stopped, m.pendingBytes, m.undigested,
			gauge("tombstones", "Deleted keys that are remembered.", func() float64 { n, _ := ask.tombstones(); return float64(n) }),
			gauge("tombstones_oldest_seconds", "Age of the oldest deleted key that is remembered: to replicas that were away for less, all deletions can be told.",
				func() float64 { _, oldest := ask.tombstones(); return oldest.Seconds() }),
			gauge("snapshots", "Snapshots kept.", func() float64 { return float64(ask.snapshots().Kept) }),
			gauge("snapshot_bytes", "Bytes of the snapshots kept.", func() float64 { return float64(ask.snapshots().Bytes) }),
			count("snapshot_builds_total", "Snapshots made.", func() float64 { return float64(ask.snapshots().Builds) }),
			count("snapshot_build_failures_total", "Snapshots begun and not made.", func() float64 { return float64(ask.snapshots().Failed) }),
			count("snapshot_build_seconds_total", "Seconds that making snapshots took.", func() float64 { return ask.snapshots().Building.Seconds() }),
		)
	}
	return m
}
