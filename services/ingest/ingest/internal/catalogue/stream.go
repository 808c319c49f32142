package catalogue

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/schema"
)

// Stream is what ingest knows of one stream. Immutable; safe to share.
type Stream struct {
	ID         lane.StreamID
	Name       lane.StreamName
	Keyed      bool
	Partitions uint32
	// MaxValueBytes is the largest value taken: the stream's own limit, or record.MaxValueBytes.
	MaxValueBytes int
	// Schema is what every value must satisfy; nil for none.
	Schema *schema.Schema
}

func newStream(s *streamv1.Stream) (*Stream, error) {
	spec := s.GetSpec()
	compiled, err := schema.Compile(spec.GetJsonSchema())
	if err != nil {
		return nil, fault.New(fault.Internal, "the schema kept for stream %q does not compile here: %w", spec.GetName(), err)
	}
	known := &Stream{
		ID:            lane.StreamID(s.GetId()),
		Name:          lane.StreamName(spec.GetName()),
		Keyed:         spec.GetKeyed(),
		Partitions:    max(spec.GetPartitions(), 1),
		MaxValueBytes: record.MaxValueBytes,
		Schema:        compiled,
	}
	if own := int(spec.GetMaxValueBytes()); own > 0 {
		known.MaxValueBytes = min(own, record.MaxValueBytes)
	}
	return known, nil
}
