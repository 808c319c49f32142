package intake

import (
	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// FromProto makes the Draft of a gRPC request. The Draft aliases the request.
func FromProto(r *ingestv1.PublishRequest, pass grants.Pass, session *outbox.Session) Draft {
	d := Draft{
		Pass:     pass,
		Stream:   lane.StreamName(r.GetStream()),
		Producer: outbox.Producer{ID: r.GetProducerId(), Epoch: r.GetProducerEpoch(), First: r.GetFirstProducerSequence()},
		Session:  session,
		Count:    uint32(len(r.GetRecords())),
	}
	switch {
	case len(r.GetPacked()) > 0 && len(r.GetRecords()) > 0:
		d.Decode = func([]record.Record, func(int, error)) ([]record.Record, error) {
			return nil, fault.New(fault.InvalidArgument, "the request has records both as `records` and as `packed`; send one of them")
		}
	case len(r.GetRecords()) > 0:
		d.Decode = func(into []record.Record, refuse func(int, error)) ([]record.Record, error) {
			return plain(r.GetRecords(), into, refuse), nil
		}
	default:
		d.Count = r.GetPackedCount()
		d.Decode = func(into []record.Record, _ func(int, error)) ([]record.Record, error) {
			return packed(r.GetPacked(), into)
		}
	}
	return d
}

// packed reads a batch body; the records alias it (I3).
func packed(body []byte, into []record.Record) ([]record.Record, error) {
	reader := record.NewReader(body, 1)
	for {
		n := len(into)
		if n < cap(into) {
			into = into[:n+1]
		} else {
			into = append(into, record.Record{})
		}
		if !reader.Next(&into[n]) {
			return into[:n], reader.Err()
		}
	}
}

// plain turns protobuf records into ours. Keys are copied into one piece of memory; values are aliased.
func plain(records []*ingestv1.Record, into []record.Record, refuse func(int, error)) []record.Record {
	keysBytes := 0
	for _, r := range records {
		keysBytes += len(r.GetKey())
	}
	keys := make([]byte, 0, keysBytes)
	for i, r := range records {
		from := len(keys)
		keys = append(keys, r.GetKey()...)
		headers, err := record.NewHeaders(r.GetHeaders())
		if err != nil {
			refuse(i, err)
		}
		into = append(into, record.Record{
			TimeMS: r.GetTimeMs(), Key: keys[from:len(keys):len(keys)], Headers: headers, Value: r.GetValue(), Tombstone: r.GetTombstone(),
		})
	}
	return into
}
