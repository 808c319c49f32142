package ingest

import (
	"context"
	"crypto/rand"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/intake"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// server speaks ingest.v1.Ingest.
type server struct {
	ingestv1.UnimplementedIngestServer
	cfg     Config
	book    *grants.Book
	in      *intake.Intake
	opener  opener
	metrics *metrics
	// stopping is closed when the service is to stop: open PublishStream calls answer what they read, and end.
	stopping <-chan struct{}
	// calls counts the open PublishStream calls.
	calls atomic.Int64
}

// admit lets a gRPC caller in (I6).
func admit(ctx context.Context, book *grants.Book) (grants.Pass, error) {
	token, err := grants.Bearer(rpc.Authorization(ctx))
	if err != nil {
		return grants.Pass{}, err
	}
	return book.Admit(token)
}

func (s *server) OpenProducer(ctx context.Context, r *ingestv1.OpenProducerRequest) (*ingestv1.OpenProducerResponse, error) {
	pass, err := admit(ctx, s.book)
	if err != nil {
		return nil, err
	}
	id, epoch, err := s.opener.open(ctx, pass, r.GetProducerId())
	if err != nil {
		return nil, err
	}
	return &ingestv1.OpenProducerResponse{ProducerId: id, ProducerEpoch: epoch}, nil
}

// opener opens producers, whatever the protocol.
type opener struct{ sequencer sequencerv1.SequencerClient }

// open gives a producer its next epoch, which fences the older ones; without an id it makes one up. A producer belongs to no stream, so
// whoever may publish at all may open one.
func (o opener) open(ctx context.Context, pass grants.Pass, id string) (string, uint64, error) {
	if err := pass.Anywhere(grants.Publish); err != nil {
		return "", 0, err
	}
	if id == "" {
		id = "p-" + strings.ToLower(rand.Text())
	}
	if err := lane.CheckName("producer", id); err != nil {
		return "", 0, err
	}
	answer, err := o.sequencer.OpenProducer(ctx, &sequencerv1.OpenProducerRequest{ProducerId: id})
	return id, answer.GetProducerEpoch(), err
}

func (s *server) Publish(ctx context.Context, r *ingestv1.PublishRequest) (*ingestv1.PublishResponse, error) {
	pass, err := admit(ctx, s.book)
	if err != nil {
		return nil, err
	}
	q := s.in.Take(ctx, intake.FromProto(r, pass, nil), outbox.Patience(s.cfg.OverloadWait))
	select {
	case <-q.Done():
	case <-ctx.Done():
		return nil, fault.New(fault.UnknownOutcome, "the call ended before the records were answered; they may still be written: %w", ctx.Err())
	}
	if err := q.Err(); err != nil {
		s.metrics.refused(q.Count(), err)
		return nil, err
	}
	return s.respond(q), nil
}

// PublishStream reads requests ahead, within StreamReadAheadBytes, and answers them in order.
//
//	Recv ─▶ Take ─▶ unanswered (in order) ─▶ wait for each ─▶ Send
func (s *server) PublishStream(call grpc.BidiStreamingServer[ingestv1.PublishRequest, ingestv1.PublishResponse]) error {
	defer s.calls.Add(-1)
	if s.calls.Add(1) > s.cfg.MaxCalls { // I4
		return fault.New(fault.Overloaded, "%d publish calls are open, the most this service takes; nothing was taken: try again in a second, or another ingest", s.cfg.MaxCalls).With("retry_after_ms", "1000")
	}
	pass, err := admit(call.Context(), s.book)
	if err != nil {
		return err
	}
	c := &publishCall{
		server: s, call: call, ctx: call.Context(), pass: pass,
		window:     semaphore.NewWeighted(s.cfg.StreamReadAheadBytes),
		unanswered: make(chan flight, maxUnanswered),
	}
	go c.read() // ends when the call does
	return c.answer()
}

// respond makes the answer of a request that is done.
func (s *server) respond(q *intake.Request) *ingestv1.PublishResponse {
	outcomes := s.in.Finish(q)
	made := make([]ingestv1.Outcome, len(outcomes))
	answer := &ingestv1.PublishResponse{Outcomes: make([]*ingestv1.Outcome, len(outcomes))}
	for i, o := range outcomes {
		m := &made[i]
		answer.Outcomes[i] = m
		m.Count = o.Count
		if o.Err != nil {
			s.metrics.refused(o.Count, o.Err)
			m.Fault = faultstatus.Proto(o.Err)
			continue
		}
		s.metrics.published(o.Count, o.Duplicate)
		m.Partition, m.Epoch, m.FirstSequence, m.Duplicate = uint32(o.Partition), uint64(o.Epoch), uint64(o.FirstSequence), o.Duplicate
	}
	return answer
}
