package consumerstate

import (
	"github.com/prometheus/client_golang/prometheus"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// expiresSoonSeconds is how near the end of what retention leaves a consumer must be to count as expiring.
const expiresSoonSeconds = 3600

var (
	expiringDesc = prometheus.NewDesc("lockstep_consumers_expiring",
		"Consumers whose next record has expired, or will within an hour at the present rates: they need a resync.", []string{"stream"}, nil)
	resetsDesc = prometheus.NewDesc("lockstep_consumer_state_resets", "Commands to consumers that are kept, by state.", []string{"state"}, nil)
)

// fleet counts over all consumers when it is asked.
type fleet struct{ *Service }

func (f fleet) Describe(to chan<- *prometheus.Desc) {
	to <- expiringDesc
	to <- resetsDesc
}

func (f fleet) Collect(to chan<- prometheus.Metric) {
	now := f.nowMs()
	expiring := make(map[lane.StreamName]int)
	states := make(map[roster.State]int)
	for _, c := range f.roster.List("", "") {
		if n := expiring[c.Name]; f.expiring(c, now) {
			expiring[c.Name] = n + 1
		} else {
			expiring[c.Name] = n // streams without any are said, too
		}
		for _, r := range c.Resets {
			states[r.State]++
		}
	}
	for name, n := range expiring {
		to <- prometheus.MustNewConstMetric(expiringDesc, prometheus.GaugeValue, float64(n), string(name))
	}
	for state := roster.Waiting; state.Known(); state++ {
		to <- prometheus.MustNewConstMetric(resetsDesc, prometheus.GaugeValue, float64(states[state]), state.String())
	}
}

func (s *Service) expiring(c *roster.Consumer, nowMs int64) bool {
	for partition, cursor := range c.Cursors {
		e := s.tails.ExpiryOf(lane.ID{Stream: c.Stream, Partition: partition}, c.ID, &cursor.Position, nowMs)
		if e.Will && e.Seconds <= expiresSoonSeconds {
			return true
		}
	}
	return false
}

// showExpiry completes a lane that is shown.
func (s *Service) showExpiry(shown *consumerv1.LaneLag, c *roster.Consumer, id lane.ID, at *lane.Position, nowMs int64) {
	e := s.tails.ExpiryOf(id, c.ID, at, nowMs)
	shown.Head = uint64(e.Head)
	if e.Will {
		shown.ExpiresSeconds = &e.Seconds
	}
}
