package ingest

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// metrics of the service; it is also the outbox's Watch.
type metrics struct {
	records       *prometheus.CounterVec
	stored, again prometheus.Counter
	batches       prometheus.Counter
	batchBytes    *prometheus.CounterVec
	raw, encoded  prometheus.Counter
	batchRecords  prometheus.Histogram
	appends       *prometheus.HistogramVec
	reserved      prometheus.Gauge
}

// newMetrics registers in reg; nil registers nowhere.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		records:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_ingest_records_total", Help: "Records answered, by outcome: stored, duplicate, or the reason of the refusal."}, []string{"outcome"}),
		batches:      prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_ingest_batches_total", Help: "Batches sent to the sequencer."}),
		batchBytes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_ingest_batch_bytes_total", Help: "Bytes of batches before (raw) and after (encoded) compression."}, []string{"form"}),
		batchRecords: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lockstep_ingest_batch_records", Help: "Records per batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 8)}),
		appends:      prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lockstep_ingest_append_seconds", Help: "Time from a batch's sending to its answer, by reason; empty for written.", Buckets: prometheus.ExponentialBuckets(0.0002, 2.5, 12)}, []string{"reason"}),
		reserved:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "lockstep_ingest_pending_bytes", Help: "Bytes that wait for or are at the sequencer."}),
	}
	m.stored, m.again = m.records.WithLabelValues("stored"), m.records.WithLabelValues("duplicate")
	m.raw, m.encoded = m.batchBytes.WithLabelValues("raw"), m.batchBytes.WithLabelValues("encoded")
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.records, m.batches, m.batchBytes, m.batchRecords, m.appends, m.reserved} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Sent implements outbox.Watch.
func (m *metrics) Sent(records, rawBytes, bytes int) {
	m.batches.Inc()
	m.batchRecords.Observe(float64(records))
	m.raw.Add(float64(rawBytes))
	m.encoded.Add(float64(bytes))
}

// Answered implements outbox.Watch.
func (m *metrics) Answered(took time.Duration, reason fault.Reason) {
	m.appends.WithLabelValues(string(reason)).Observe(took.Seconds())
}

// Reserved implements outbox.Watch.
func (m *metrics) Reserved(bytes int64) { m.reserved.Set(float64(bytes)) }

func (m *metrics) published(records uint32, duplicate bool) {
	if duplicate {
		m.again.Add(float64(records))
		return
	}
	m.stored.Add(float64(records))
}

func (m *metrics) refused(records uint32, err error) {
	m.records.WithLabelValues(string(fault.ReasonOf(err))).Add(float64(records))
}
