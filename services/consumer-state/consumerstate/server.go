package consumerstate

import (
	"context"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

// api is the gRPC surface: one method per call, which checks, calls and translates.
type api struct {
	consumerv1.UnimplementedConsumerStateServer
	*Service
}

func (a *api) Attach(ctx context.Context, r *consumerv1.AttachRequest) (*consumerv1.AttachResponse, error) {
	key, err := checkKey(r.GetStreamId(), r.GetConsumerId())
	if err == nil {
		err = lane.CheckName("stream", r.GetStream())
	}
	if err == nil {
		err = checkTexts(r.GetClient(), r.GetGateway())
	}
	if _, known := consumerv1.ConsumerKind_name[int32(r.GetKind())]; err == nil && !known {
		err = fault.New(fault.InvalidArgument, "consumer %q is of kind %d, which this service does not know; nothing was stored", key.ID, r.GetKind())
	}
	if err != nil {
		return nil, err
	}
	wish := roster.Attach{Key: key, Name: lane.StreamName(r.GetStream()), Kind: roster.Kind(r.GetKind()), Client: r.GetClient(), Gateway: r.GetGateway()}
	answer := &consumerv1.AttachResponse{}
	err = a.do(ctx, func(d *roster.Draft) error {
		c, err := d.Attach(wish, a.nowMs())
		if err != nil {
			return err
		}
		answer.Incarnation = uint64(c.Incarnation)
		answer.Cursors = protoCursors(c.Cursors)
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.deps.Log.Info("consumer attached", "stream", wish.Name, "consumer", key.ID, "incarnation", answer.GetIncarnation(), "client", wish.Client)
	return answer, nil
}

// Checkpoint answers with the cursors kept of the partitions that were named.
func (a *api) Checkpoint(ctx context.Context, r *consumerv1.CheckpointRequest) (*consumerv1.CheckpointResponse, error) {
	key, err := checkKey(r.GetStreamId(), r.GetConsumerId())
	if err != nil {
		return nil, err
	}
	cursors, err := readCursors("cursor", r.GetCursors())
	if err != nil {
		return nil, err
	}
	tails, err := readCursors("tail", r.GetTails())
	if err != nil {
		return nil, err
	}
	answer := &consumerv1.CheckpointResponse{Cursors: make([]*consumerv1.Cursor, 0, len(cursors))}
	err = a.do(ctx, func(d *roster.Draft) error {
		c, err := d.Checkpoint(key, lane.Incarnation(r.GetIncarnation()), cursors, a.nowMs())
		if err != nil {
			return err
		}
		for partition, asked := range cursors {
			kept := c.Cursors[partition]
			if asked.Position.Compare(kept.Position) < 0 {
				a.metrics.kept.Inc()
			}
			answer.Cursors = append(answer.Cursors, protoCursor(partition, kept))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortCursors(answer.Cursors)
	now := a.nowMs()
	for partition, tail := range tails {
		if tail.Position.Epoch != 0 { // epoch 0: the gateway does not know
			a.tails.Hear(lane.ID{Stream: key.Stream, Partition: partition}, tail.Position, tail.TimeMs, now)
		}
	}
	return answer, nil
}

func (a *api) Report(ctx context.Context, r *consumerv1.ReportRequest) (*consumerv1.ReportResponse, error) {
	key, err := checkKey(r.GetStreamId(), r.GetConsumerId())
	if err != nil {
		return nil, err
	}
	said, err := readAccount(key.ID, r.GetHealth())
	if err != nil {
		return nil, err
	}
	return &consumerv1.ReportResponse{}, a.do(ctx, func(d *roster.Draft) error {
		return d.Report(key, lane.Incarnation(r.GetIncarnation()), said, a.nowMs())
	})
}

func (a *api) Detach(ctx context.Context, r *consumerv1.DetachRequest) (*consumerv1.DetachResponse, error) {
	key, err := checkKey(r.GetStreamId(), r.GetConsumerId())
	if err != nil {
		return nil, err
	}
	return &consumerv1.DetachResponse{}, a.do(ctx, func(d *roster.Draft) error {
		return d.Detach(key, lane.Incarnation(r.GetIncarnation()), a.nowMs())
	})
}

// ListConsumers shows the consumers of the streams that the caller may read.
func (a *api) ListConsumers(ctx context.Context, r *consumerv1.ListConsumersRequest) (*consumerv1.ListConsumersResponse, error) {
	pass, err := a.reader(ctx, r.GetStream())
	if err != nil {
		return nil, err
	}
	now := a.nowMs()
	answer := &consumerv1.ListConsumersResponse{}
	for _, c := range a.roster.List(lane.StreamName(r.GetStream()), lane.ConsumerID(r.GetConsumerId())) {
		if pass.Check(grants.Read, c.Name) != nil {
			continue
		}
		shown, err := a.consumer(c, now)
		if err != nil {
			return nil, err
		}
		answer.Consumers = append(answer.Consumers, shown)
	}
	return answer, nil
}

func (a *api) DeleteConsumer(ctx context.Context, r *consumerv1.DeleteConsumerRequest) (*consumerv1.DeleteConsumerResponse, error) {
	name, id := lane.StreamName(r.GetStream()), lane.ConsumerID(r.GetConsumerId())
	pass, err := a.admit(ctx)
	if err != nil {
		return nil, err
	}
	if err := pass.Check(grants.Manage, name); err != nil {
		return nil, err
	}
	if err := lane.CheckName("stream", string(name)); err != nil {
		return nil, err
	}
	if err := lane.CheckName("consumer", string(id)); err != nil {
		return nil, err
	}
	if err := a.do(ctx, func(d *roster.Draft) error { return d.Delete(name, id) }); err != nil {
		return nil, err
	}
	a.deps.Log.Info("consumer deleted", "stream", name, "consumer", id)
	return &consumerv1.DeleteConsumerResponse{}, nil
}

func (a *api) ExchangeTails(_ context.Context, r *consumerv1.ExchangeTailsRequest) (*consumerv1.ExchangeTailsResponse, error) {
	if n := len(r.GetLanes()); n > a.cfg.MaxLanes {
		return nil, fault.New(fault.InvalidArgument, "%d lanes in one call, and %d are allowed: raise max-lanes", n, a.cfg.MaxLanes)
	}
	for _, l := range r.GetLanes() {
		if l.GetStreamId() == 0 || l.GetPartition() >= lane.MaxPartitions || l.GetEpoch() == 0 {
			return nil, fault.New(fault.InvalidArgument, "lane %d/%d at epoch %d cannot be: stream ids and epochs begin at 1, partitions end at %d; nothing was taken",
				l.GetStreamId(), l.GetPartition(), l.GetEpoch(), lane.MaxPartitions-1)
		}
	}
	now := a.nowMs()
	answer := &consumerv1.ExchangeTailsResponse{Lanes: make([]*consumerv1.LaneCursors, 0, len(r.GetLanes()))}
	for _, l := range r.GetLanes() {
		id := lane.ID{Stream: lane.StreamID(l.GetStreamId()), Partition: lane.Partition(l.GetPartition())}
		epoch := lane.Epoch(l.GetEpoch())
		a.tails.Hear(id, lane.Position{Epoch: epoch, Sequence: lane.Sequence(l.GetTail())}, l.GetTailTimeMs(), now)
		a.tails.Watch(id, lane.Position{Epoch: epoch, Sequence: lane.Sequence(l.GetHead())}, func() map[lane.ConsumerID]lane.Position { return a.roster.Cursors(id) }, now)
		passed := a.roster.Passed(id, epoch)
		answer.Lanes = append(answer.Lanes, &consumerv1.LaneCursors{
			StreamId: l.GetStreamId(), Partition: l.GetPartition(), Epoch: uint64(passed.Epoch), Consumers: uint32(passed.Consumers),
			Lowest: uint64(passed.Lowest), Highest: uint64(passed.Highest),
		})
	}
	return answer, nil
}

// admit lets a person's call in; calls of other services are not asked.
func (a *api) admit(ctx context.Context) (grants.Pass, error) {
	token, err := grants.Bearer(rpc.Authorization(ctx))
	if err != nil {
		return grants.Pass{}, err
	}
	return a.book.Admit(token)
}

// reader lets a call in that shows what is kept of a stream, or of all that the caller may read when none is named.
func (a *api) reader(ctx context.Context, stream string) (grants.Pass, error) {
	pass, err := a.admit(ctx)
	if err == nil && stream != "" {
		err = pass.Check(grants.Read, lane.StreamName(stream))
	}
	return pass, err
}

// do is the one way to change anything.
func (a *api) do(ctx context.Context, command func(*roster.Draft) error) error {
	err := a.committer.Do(ctx, command)
	if fault.ReasonOf(err) == fault.ConsumerFenced {
		a.metrics.fenced.Inc()
	}
	return err
}

func protoPosition(p lane.Position) *streamv1.Position {
	return &streamv1.Position{Epoch: uint64(p.Epoch), Sequence: uint64(p.Sequence)}
}
