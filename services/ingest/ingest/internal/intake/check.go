package intake

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// checker goes once over the records of a request.
type checker struct {
	request *Request
	nowMS   int64
	// refused are the faults the protocol found, by index; nil mostly.
	refused map[int]error
}

func (c *checker) refuse(index int, why error) {
	if c.refused == nil {
		c.refused = make(map[int]error)
	}
	c.refused[index] = why
}

// run checks every record, notes the fate of the refused ones, and gives the runs of the others, rising by partition.
func (c *checker) run() []*outbox.Run {
	q := c.request
	var lanes laneRuns
	for i := range q.records {
		r := &q.records[i]
		err := c.refused[i]
		if err == nil {
			err = check(q.stream, r)
		}
		if err != nil {
			q.fates = append(q.fates, fate{spans: []outbox.Span{{First: uint32(i), Count: 1}}, Fate: outbox.Fate{Err: err}})
			continue
		}
		if r.TimeMS == 0 {
			r.TimeMS = c.nowMS
		}
		size := len(r.Key) + len(r.Headers) + len(r.Value)
		q.bytes += size
		// A record without a key has a lane by the same rule: spreading such records would make a retry land in another lane, where
		// nobody knows its producer sequence.
		lanes.add(q, lane.Of(r.Key, q.stream.Partitions), uint32(i), int64(size)+recordMemoryBytes)
	}
	return lanes.rising()
}

// check returns why a record cannot be stored in a stream; nil when it can.
func check(s *catalogue.Stream, r *record.Record) error {
	if err := r.Check(s.Keyed); err != nil {
		return err
	}
	if len(r.Value) > s.MaxValueBytes {
		return fault.New(fault.RecordTooLarge, "the value is %d bytes; stream %q takes at most %d", len(r.Value), s.Name, s.MaxValueBytes)
	}
	if r.Tombstone {
		if len(r.Key) == 0 {
			return fault.New(fault.KeyMissing, "a tombstone without a key deletes nothing; give the key")
		}
	} else if err := s.Schema.Check(r.Value); err != nil {
		return err
	}
	return checkHeaders(r.Headers)
}
