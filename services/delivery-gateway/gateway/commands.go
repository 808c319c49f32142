package gateway

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/resets"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

const (
	// commandTimeout bounds one try to put a command into the terms of its stream, commandTries how often that is tried.
	commandTimeout = 30 * time.Second
	commandTries   = 5
	commandPause   = 250 * time.Millisecond
	// MaxHealthResets and MaxHealthBytes bound what a consumer may say of itself in one report.
	MaxHealthResets = 64
	MaxHealthBytes  = 512 << 10
)

// command tells an order to the consumer's live incarnation here, from a task: storage may have to be asked first. Whoever is not
// attached is told when it attaches.
func (s *Service) command(o resets.Order) {
	s.task(func(ctx context.Context) {
		pause := commandPause
		for try := 1; s.resets.IsOpen(o); try++ {
			r, err := s.inTermsOf(ctx, o.Command)
			if err == nil {
				s.sessions.Command(o.Key, o.Incarnation, r)
				return
			}
			if try == commandTries || !fault.ReasonOf(err).Temporary() && ctx.Err() == nil {
				s.log.Warn("a command could not be told to a consumer; it is tried again when the consumer attaches or consumer-state repeats it",
					"command", o.Command.GetCommandId(), "consumer", string(o.Key.Consumer), "error", s.metrics.refusal(err))
				return
			}
			select {
			case <-time.After(pause):
				pause *= 2
			case <-ctx.Done():
				return
			}
		}
	})
}

// inTermsOf puts a command into what its consumer is told: where it names a sequence or a time, that becomes the first sequence to take
// again in each partition, with the epoch it belongs to.
func (s *Service) inTermsOf(ctx context.Context, c *consumerv1.Command) (*deliveryv1.Reset, error) {
	r := &deliveryv1.Reset{
		CommandId: c.GetCommandId(), Action: c.GetAction(), DryRun: c.GetDryRun(), MaxBytesPerSecond: c.GetMaxBytesPerSecond(), Why: c.GetWhy(),
	}
	byTime := c.GetAction() == consumerv1.Action_ACTION_FROM_TIME
	if !byTime && c.GetAction() != consumerv1.Action_ACTION_FROM_SEQUENCE {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	stream, err := s.streams.Fresh(ctx, lane.StreamName(c.GetStream()))
	if err != nil {
		return nil, err
	}
	if stream.GetId() != c.GetStreamId() {
		return nil, fault.New(fault.UnknownStream, "stream %q was deleted and made again since the command was given", c.GetStream())
	}
	for _, l := range stream.GetLanes() {
		from, err := lane.Sequence(c.GetFromSequence()), error(nil)
		if byTime {
			at := storage.StandingOf(lane.StreamID(stream.GetId()), lane.StreamName(c.GetStream()), l)
			from, err = storage.FirstAt(ctx, s.storage, at, c.GetFromTimeMs())
		}
		if err != nil {
			return nil, err
		}
		r.From = append(r.From, &consumerv1.Cursor{Partition: l.GetPartition(), Position: &streamv1.Position{Epoch: l.GetEpoch(), Sequence: uint64(from)}})
	}
	return r, nil
}

// inBand encodes a command as a delivery of a partition's subscription.
func inBand(partition uint32, r *deliveryv1.Reset) []byte {
	metadata, err := proto.Marshal(&deliveryv1.Delivery{Kind: deliveryv1.Delivery_KIND_RESET, Partition: partition, Reset_: r})
	if err != nil { // it came as a message, and so encodes
		return []byte{}
	}
	return metadata
}

// hear takes from a consumer's report which commands have ended; what it says of them goes to consumer-state with the rest.
func (s *Service) hear(one *session.Session, h *consumerv1.Health) error {
	if n := len(h.GetResets()); n > MaxHealthResets {
		return fault.New(fault.InvalidArgument, "the report tells of %d commands, and at most %d fit: leave out those that ended long ago", n, MaxHealthResets)
	}
	if n := proto.Size(h); n > MaxHealthBytes {
		return fault.New(fault.InvalidArgument, "the report takes %d bytes, and at most %d are passed on", n, MaxHealthBytes)
	}
	var ended []string
	for _, p := range h.GetResets() {
		switch p.GetState() {
		case consumerv1.ResetState_RESET_STATE_DONE, consumerv1.ResetState_RESET_STATE_FAILED, consumerv1.ResetState_RESET_STATE_SUPERSEDED:
			ended = append(ended, p.GetCommandId())
		}
	}
	if len(ended) > 0 {
		s.sessions.Settle(one, ended)
		s.resets.Ended(one.Key, ended)
	}
	return nil
}

// fenced ends what a newer incarnation at another gateway has overtaken (S8).
func (s *Service) fenced(k session.Key, incarnation lane.Incarnation) {
	s.sessions.Fence(k, incarnation)
	s.resets.Forget(k)
}
