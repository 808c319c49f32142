package gateway

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// metrics is what a gateway counts. All names begin with lockstep_gateway_.
type metrics struct {
	batches, records, bytes prometheus.Counter
	refused                 *prometheus.CounterVec
	requests                *prometheus.CounterVec
	droppedAcks             prometheus.Counter
	resynced                *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Service) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "lockstep", Subsystem: "gateway", Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lockstep", Subsystem: "gateway", Name: name, Help: help}, labels)
	}
	m := &metrics{
		batches:     counter("deliveries_total", "Batches sent to consumers."),
		records:     counter("delivered_records_total", "Records sent to consumers."),
		bytes:       counter("delivered_bytes_total", "Bytes of batches sent to consumers, before framing."),
		requests:    vec("requests_total", "Requests of consumers, by route.", "route"),
		refused:     vec("refused_total", "Requests and connections refused, by reason.", "reason"),
		droppedAcks: counter("dropped_acks_total", "Acknowledgements dropped because too many waited."),
		resynced:    vec("resync_bytes_total", "Bytes sent to resynchronise consumers, before framing, by rung.", "rung"),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "lockstep", Subsystem: "gateway", Name: name, Help: help}, value)
	}
	count := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "lockstep", Subsystem: "gateway", Name: name, Help: help}, value)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.batches, m.records, m.bytes, m.requests, m.refused, m.droppedAcks, m.resynced,
		gauge("connections", "Connections open.", func() float64 { return float64(s.server.Stats().Connections) }),
		gauge("streams", "Request-streams open.", func() float64 { return float64(s.server.Stats().Streams) }),
		gauge("sessions", "Consumers attached here.", func() float64 { return float64(len(s.sessions.All())) }),
		gauge("lanes", "Lanes followed.", func() float64 { return float64(s.feeds.Lanes()) }),
		gauge("ring_bytes", "Bytes of recent batches in memory.", func() float64 { return float64(s.budget.UsedBytes()) }),
		gauge("catchup_bytes", "Bytes of older batches in memory.", func() float64 { return float64(s.older.UsedBytes()) }),
		gauge("bootstraps", "Bootstraps running.", func() float64 { return float64(s.bootstraps.InUse()) }),
		gauge("repairs", "Repairs running.", func() float64 { return float64(s.repairs.InUse()) }),
		gauge("snapshot_waiting", "Consumers that wait for a snapshot.", func() float64 { return float64(s.asking.InUse()) }),
		count("bootstraps_refused_total", "Bootstraps told to come back later.", func() float64 { return float64(s.bootstraps.Refused()) }),
		count("repairs_refused_total", "Repairs told to come back later.", func() float64 { return float64(s.repairs.Refused()) }),
		gauge("resync_rate_waiting", "Pieces that wait for the rate of resynchronisation.", func() float64 { return float64(s.bucket.Waiting()) }),
		gauge("resync_rate_bytes_per_second", "Rate of resynchronisation of this moment: it gives way to live tails.", s.bucket.BytesPerSecond),
		count("resync_rate_wait_seconds_total", "Seconds that pieces waited for the rate of resynchronisation.", func() float64 { return s.bucket.Waited().Seconds() }),
		gauge("snapshot_copies", "Copies of snapshots on disk.", func() float64 { return float64(s.depot.Counts().Copies) }),
		gauge("snapshot_disk_bytes", "Bytes of copies of snapshots on disk.", func() float64 { return float64(s.depot.Counts().DiskBytes) }),
		gauge("sketch_bytes", "Bytes of sketches in memory.", func() float64 { return float64(s.depot.Counts().SketchBytes) }),
		count("snapshot_pulls_total", "Snapshots fetched from storage.", func() float64 { return float64(s.depot.Counts().Pulled) }),
		count("snapshot_chunks_mended_total", "Chunks of snapshots fetched again because they were damaged.", func() float64 { return float64(s.depot.Counts().Mended) }),
		gauge("acks_waiting", "Consumers with acknowledgements not yet forwarded.", func() float64 { return float64(s.acks.Pending()) }),
		count("catchup_hits_total", "Older batches found in memory.", func() float64 { return float64(s.older.Counts().Hits) }),
		count("catchup_shared_hits_total", "Blocks found in the shared cache.", func() float64 { return float64(s.older.Counts().SharedHits) }),
		count("catchup_loads_total", "Blocks read from storage.", func() float64 { return float64(s.older.Counts().Loads) }),
		count("catchup_failures_total", "Reads of older batches that failed.", func() float64 { return float64(s.older.Counts().Failures) }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) delivered(records, bytes int) {
	m.batches.Inc()
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

// refusal counts err by reason and returns it.
func (m *metrics) refusal(err error) error {
	if err != nil {
		m.refused.WithLabelValues(string(fault.ReasonOf(err))).Inc()
	}
	return err
}
