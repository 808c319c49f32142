package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
	"github.com/lockstep-mq/lockstep/sdk/internal/store"
)

const (
	// ackEvery spaces acknowledgements out: they are cumulative, so later ones make earlier ones needless.
	ackEvery = 100 * time.Millisecond
	// reportEvery is how often the provider is told how we feel, and a missing incarnation is asked for again.
	reportEvery = 5 * time.Second
	// partingTimeout bounds the last words to the provider.
	partingTimeout = 2 * time.Second
)

// link is one connection with what belongs to it.
type link struct {
	*session.Session
	r           *Replica
	incarnation lane.Incarnation // 0: the provider keeps no cursor for us at the moment
	ackDue      bool
	pace        *pace // of a command that was given a rate; nil for none
	lastAck     time.Time
}

// resyncNeeded ends following: a lane has to be made equal again, beginning with a rung of the ladder.
type resyncNeeded struct {
	lane  lane.Partition
	first Rung
	why   string
}

func (e *resyncNeeded) Error() string { return e.why }

func needResync(p lane.Partition, first Rung, format string, args ...any) error {
	return &resyncNeeded{p, first, fmt.Sprintf(format, args...)}
}

// connected is one session from dialling to its end.
func (r *Replica) connected(ctx context.Context, n int) error {
	r.enter(Connecting)
	s, err := session.Dial(ctx, r.cfg.session(), n)
	if err != nil {
		return err
	}
	k := &link{Session: s, r: r}
	defer s.Close()
	stream, err := s.Describe(ctx, r.cfg.Stream)
	if err != nil {
		return err
	}
	meta, err := metaOf(stream)
	if err != nil {
		return err
	}
	if r.gen != nil {
		if err := store.CheckSame(r.cfg.Path, r.gen.Meta(), meta); err != nil {
			return err
		}
	}
	r.meta = meta
	if err := k.attach(ctx); err != nil {
		return err
	}
	r.setSession(s)
	defer r.setSession(nil)
	defer k.part(ctx)
	r.update(func(st *Status) {
		st.Gateway, st.Incarnation = s.Gateway(), k.incarnation
		st.Connections++
	})
	r.hear(stream)
	for {
		if r.gen == nil || !r.need.none() {
			if err := r.resync(ctx, k); err != nil {
				return err
			}
		}
		if err := r.obey(ctx, k); err != nil {
			return err
		}
		if !r.need.none() {
			continue // a command has found something
		}
		err := r.follow(ctx, k)
		if errors.Is(err, errOrdered) {
			continue
		}
		var again *resyncNeeded
		if !errors.As(err, &again) {
			return err
		}
		r.doubt(again.lane, again.first, again.why)
		r.tell(Event{Kind: ResyncNeeded, Partition: again.lane, Why: again.why})
		if err := pause.Wait(ctx, r.retry.Next()); err != nil { // a provider that always contradicts itself must not be flooded
			return err
		}
	}
}

// metaOf gives what a file of the stream must say.
func metaOf(s *streamv1.Stream) (store.Meta, error) {
	if !s.GetSpec().GetKeyed() {
		return store.Meta{}, fault.New(fault.NotKeyed, "stream %q has no keys, so it has no state to keep a replica of: follow its records instead", s.GetSpec().GetName())
	}
	partitions := max(1, s.GetSpec().GetPartitions())
	if partitions > lane.MaxPartitions {
		return store.Meta{}, fault.New(fault.Malformed, "stream %q has %d partitions; at most %d are possible", s.GetSpec().GetName(), partitions, lane.MaxPartitions)
	}
	return store.Meta{Stream: lane.StreamName(s.GetSpec().GetName()), StreamID: lane.StreamID(s.GetId()), Partitions: partitions, DigestSeed: s.GetDigestSeed()}, nil
}

// hear takes note of where the provider's lanes stand, but for those that must be made equal first.
func (r *Replica) hear(s *streamv1.Stream) {
	for _, wire := range s.GetLanes() {
		if int(wire.GetPartition()) >= len(r.lanes) {
			continue
		}
		l := r.lanes[wire.GetPartition()]
		if _, doubted := r.need.lanes[l.Partition]; doubted || lane.Epoch(wire.GetEpoch()) != l.Cursor.Epoch {
			continue
		}
		l.tail, l.tailKnown = max(l.tail, lane.Sequence(wire.GetTail())), true
		if m, ok := markOf(wire.GetDigest()); ok && l.compare(m) == equal {
			r.countVerified()
		} // one that differs is given again with the subscription, and judged there
	}
	r.publishLanes()
}

// countVerified counts a digest that agreed: things go well.
func (r *Replica) countVerified() {
	r.retry.Reset()
	r.update(func(s *Status) { s.Verified++ })
}

// attach makes this the live incarnation. While the provider cannot remember consumers the replica follows as an anonymous reader:
// its own file remembers the cursor.
func (k *link) attach(ctx context.Context) error {
	answer, err := k.Attach(ctx, k.r.cfg.Stream, k.r.cfg.ConsumerID, consumerv1.ConsumerKind_CONSUMER_KIND_REPLICA)
	if err != nil {
		if fault.ReasonOf(err).Temporary() {
			k.r.cfg.Log.Warn("replica: the provider cannot register this consumer now; following anyway", "stream", k.r.cfg.Stream, "error", err)
			return nil
		}
		return err
	}
	k.incarnation = lane.Incarnation(answer.GetIncarnation())
	return nil
}

// ack acknowledges what is committed (I5), at most every ackEvery.
func (k *link) ack(ctx context.Context) {
	if !k.ackDue || k.incarnation == 0 || time.Since(k.lastAck) < ackEvery {
		return
	}
	k.ackDue, k.lastAck = false, time.Now()
	if err := k.Ack(ctx, k.ackRequest()); err != nil {
		k.ackDue = true // the next one says it again
	}
}

func (k *link) ackRequest() *deliveryv1.AckRequest {
	request := &deliveryv1.AckRequest{Stream: k.r.cfg.Stream, ConsumerId: k.r.cfg.ConsumerID, Incarnation: uint64(k.incarnation)}
	for _, l := range k.r.lanes {
		request.Cursors = append(request.Cursors, &consumerv1.Cursor{
			Partition: uint32(l.Partition), TimeMs: l.TimeMS,
			Position: &streamv1.Position{Epoch: uint64(l.Cursor.Epoch), Sequence: uint64(l.Cursor.Sequence)},
		})
	}
	return request
}

// report tells the provider how we feel.
func (k *link) report(ctx context.Context) {
	if k.incarnation == 0 {
		return
	}
	err := k.Report(ctx, &deliveryv1.StatusRequest{Stream: k.r.cfg.Stream, ConsumerId: k.r.cfg.ConsumerID, Incarnation: uint64(k.incarnation), Health: k.r.health()})
	if err != nil {
		k.r.cfg.Log.Debug("replica: report not sent", "error", err)
	}
}

// part says the last words of a connection that ends because of Close.
func (k *link) part(ctx context.Context) {
	if ctx.Err() == nil || k.incarnation == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTimeout)
	defer cancel()
	if len(k.r.lanes) > 0 {
		if _, err := k.AckConfirmed(ctx, k.ackRequest()); err != nil {
			k.r.cfg.Log.Debug("replica: last acknowledgement not confirmed", "error", err)
		}
	}
	err := k.Detach(ctx, &deliveryv1.DetachRequest{Stream: k.r.cfg.Stream, ConsumerId: k.r.cfg.ConsumerID, Incarnation: uint64(k.incarnation)})
	if err != nil {
		k.r.cfg.Log.Debug("replica: leaving was not heard", "error", err)
	}
}

func (r *Replica) setSession(s *session.Session) {
	r.mu.Lock()
	r.session = s
	r.mu.Unlock()
	r.update(func(*Status) {})
}
