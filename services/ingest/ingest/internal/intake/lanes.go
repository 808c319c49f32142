package intake

import (
	"cmp"
	"slices"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// laneRuns collects the runs of one request. Most requests have one lane, so the lane of the record before is looked at first.
type laneRuns struct {
	last        *outbox.Run
	byPartition map[lane.Partition]*outbox.Run // nil while there is one lane
	runs        []*outbox.Run
}

// add puts record i into the run of partition p.
func (l *laneRuns) add(q *Request, p lane.Partition, i uint32, costBytes int64) {
	run := l.last
	if run == nil || run.Lane.Partition != p {
		run = l.find(q, p)
		l.last = run
	}
	run.CostBytes += costBytes
	if n := len(run.Spans); n > 0 && run.Spans[n-1].First+run.Spans[n-1].Count == i {
		run.Spans[n-1].Count++
		return
	}
	run.Spans = append(run.Spans, outbox.Span{First: i, Count: 1})
}

func (l *laneRuns) find(q *Request, p lane.Partition) *outbox.Run {
	if run := l.byPartition[p]; run != nil {
		return run
	}
	run := &outbox.Run{
		Stream: q.stream.Name, Lane: lane.ID{Stream: q.stream.ID, Partition: p},
		Producer: q.producer, Session: q.session, Records: q.records, Owner: (*owner)(q),
	}
	if l.byPartition == nil {
		l.byPartition = make(map[lane.Partition]*outbox.Run)
	}
	l.byPartition[p] = run
	l.runs = append(l.runs, run)
	return run
}

// rising gives the runs by rising partition, as outbox.Reserve wants them.
func (l *laneRuns) rising() []*outbox.Run {
	slices.SortFunc(l.runs, func(a, b *outbox.Run) int { return cmp.Compare(a.Lane.Partition, b.Lane.Partition) })
	return l.runs
}
