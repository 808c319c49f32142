package sequencer

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/assign"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/herald"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/reader"
)

// appendServer answers the Sequencer contract: check, call, translate.
type appendServer struct {
	sequencerv1.UnimplementedSequencerServer
	*Service
}

// OpenProducer gives the next epoch, durable before the answer, and fences every older one from then on.
func (s *appendServer) OpenProducer(_ context.Context, r *sequencerv1.OpenProducerRequest) (*sequencerv1.OpenProducerResponse, error) {
	if err := lane.CheckName("producer", r.GetProducerId()); err != nil {
		return nil, err
	}
	epoch, err := s.catalogue.OpenProducer(r.GetProducerId(), time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	s.epochs.note(r.GetProducerId(), epoch)
	return &sequencerv1.OpenProducerResponse{ProducerEpoch: epoch}, nil
}

// Append hands a checked draft to the committer and waits. When the caller gives up first, the outcome is unknown to it.
func (s *appendServer) Append(ctx context.Context, r *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
	l, err := s.ledger.Find(lane.StreamID(r.GetStreamId()), lane.StreamName(r.GetStream()), lane.Partition(r.GetPartition()))
	if err != nil {
		return nil, err
	}
	a, err := s.admit(ctx, l, r)
	if err != nil {
		return nil, err
	}
	if err := s.committer.Submit(a, len(a.Draft)); err != nil {
		return nil, err
	}
	select {
	case err = <-a.Done:
	case <-ctx.Done():
		return nil, fault.New(fault.UnknownOutcome, "the caller gave up while the append was under way; it may or may not be written: %w", ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	answer := &sequencerv1.AppendResponse{Epoch: uint64(l.Epoch), FirstSequence: uint64(a.Header.Base)}
	for i := range a.Refusals {
		answer.Refusals = append(answer.Refusals, refusal(l, &a.Refusals[i]))
	}
	return answer, nil
}

func refusal(l *ledger.Lane, r *producers.Refusal) *sequencerv1.RunRefusal {
	m := &sequencerv1.RunRefusal{}
	if r.Fault != nil {
		m.Fault = faultstatus.Proto(r.Fault)
	}
	for _, d := range r.Duplicates {
		m.Duplicates = append(m.Duplicates, &sequencerv1.Duplicate{Offset: d.Offset, Count: d.Count, Epoch: uint64(l.Epoch), FirstSequence: uint64(d.First)})
	}
	return m
}

// admit checks everything about an append that can be checked before its turn, so that the committer meets only sound drafts: a
// draft that was acknowledged and cannot be read would stop its lane for good.
func (s *appendServer) admit(ctx context.Context, l *ledger.Lane, r *sequencerv1.AppendRequest) (*assign.Append, error) {
	h, err := batch.ParseDraft(r.GetBatch())
	if err != nil {
		return nil, err
	}
	if h.Lane != l.ID {
		return nil, fault.New(fault.InvalidArgument, "the batch is made for lane %v and was sent to lane %v", h.Lane, l.ID)
	}
	if err := checkDraft(&h, r.GetBatch(), l.Keyed); err != nil {
		return nil, err
	}
	runs, err := s.runs(ctx, r.GetRuns(), h.Count)
	if err != nil {
		return nil, err
	}
	return &assign.Append{Lane: l, Draft: r.GetBatch(), Header: h, Runs: runs, Done: make(chan error, 1)}, nil
}

// runs checks that the runs are well formed, add up to the batch, and name producers that were opened.
func (s *appendServer) runs(ctx context.Context, in []*sequencerv1.ProducerRun, count uint32) ([]producers.Run, error) {
	runs := make([]producers.Run, len(in))
	var total uint64
	for i, m := range in {
		run := producers.Run{Count: m.GetCount(), Producer: m.GetProducerId(), Epoch: m.GetProducerEpoch()}
		pairs := m.GetSequenceRuns()
		if len(pairs)%2 != 0 {
			return nil, fault.New(fault.InvalidArgument, "sequence_runs has %d values, and they come in pairs", len(pairs))
		}
		for j := 0; j < len(pairs); j += 2 {
			run.Pairs = append(run.Pairs, producers.Pair{First: pairs[j], Count: pairs[j+1]})
		}
		if err := run.Check(); err != nil {
			return nil, err
		}
		if run.Producer != "" {
			if err := s.knowProducer(ctx, &run); err != nil {
				return nil, err
			}
		}
		runs[i], total = run, total+uint64(run.Count)
	}
	if total != uint64(count) {
		return nil, fault.New(fault.InvalidArgument, "the batch has %d records, and its producer runs have %d", count, total)
	}
	return runs, nil
}

// knowProducer brings the producer's newest epoch into memory, where the committer compares it.
func (s *appendServer) knowProducer(ctx context.Context, r *producers.Run) error {
	if s.epochs.newest(r.Producer) >= r.Epoch {
		return nil
	}
	if err := lane.CheckName("producer", r.Producer); err != nil {
		return err
	}
	newest, err := s.catalogue.ProducerEpoch(ctx, r.Producer)
	if err != nil {
		return err
	}
	if r.Epoch > newest {
		return fault.New(fault.InvalidArgument, "producer %q uses epoch %d, and %d is the newest that was given out: open the producer first", r.Producer, r.Epoch, newest)
	}
	s.epochs.note(r.Producer, newest)
	return nil
}

// Read sends batches until `until`, the tail or the byte bound.
func (s *appendServer) Read(r *sequencerv1.ReadRequest, stream grpc.ServerStreamingServer[sequencerv1.ReadResponse]) error {
	l, err := s.ledger.Find(lane.StreamID(r.GetStreamId()), lane.StreamName(r.GetStream()), lane.Partition(r.GetPartition()))
	if err != nil {
		return err
	}
	if err := l.Usable(); err != nil {
		return err
	}
	at, from := l.Standing(), lane.Sequence(r.GetFrom())
	switch {
	case r.GetEpoch() != 0 && lane.Epoch(r.GetEpoch()) != l.Epoch:
		return fault.New(fault.EpochMismatch, "the position belongs to epoch %d, and the lane is in epoch %d: its history was cut, bootstrap", r.GetEpoch(), l.Epoch).With("epoch", decimal(uint64(l.Epoch)))
	case from == 0:
		return fault.New(fault.InvalidArgument, "sequences begin at 1")
	case from > at.Tail+1:
		return fault.New(fault.AheadOfTail, "sequence %d was asked for, and the lane ends at %d", from, at.Tail).With("tail", decimal(uint64(at.Tail)))
	case from < at.Head:
		return reader.Expired(at.Head, from)
	}
	sent, told := uint64(0), from
	err = reader.Batches(s.engine, l, from, lane.Sequence(r.GetUntil()), func(h *batch.Header, b []byte) error {
		if r.GetMaxBytes() > 0 && sent > 0 && sent+uint64(len(b)) > r.GetMaxBytes() {
			return errBound
		}
		m := &sequencerv1.ReadResponse{Batch: append([]byte(nil), b...), Tail: uint64(l.Standing().Tail)}
		if mark, ok := l.MarkIn(told, h.Last()); ok {
			m.Digest, told = herald.Mark(l, &mark), mark.Sequence+1
		}
		sent += uint64(len(b))
		s.metrics.readBytes.Add(float64(len(b)))
		return stream.Send(m)
	})
	if errors.Is(err, errBound) {
		return nil
	}
	return err
}

// Tails answers where lanes stand. Lanes that do not exist are left out.
func (s *appendServer) Tails(_ context.Context, r *sequencerv1.TailsRequest) (*sequencerv1.TailsResponse, error) {
	lanes := s.ledger.Lanes()
	if len(r.GetLanes()) > 0 {
		lanes = lanes[:0]
		for _, ref := range r.GetLanes() {
			if l, err := s.ledger.Find(lane.StreamID(ref.GetStreamId()), "", lane.Partition(ref.GetPartition())); err == nil {
				lanes = append(lanes, l)
			}
		}
	}
	answer := &sequencerv1.TailsResponse{}
	for _, l := range lanes {
		answer.Lanes = append(answer.Lanes, &sequencerv1.LaneTail{StreamId: uint64(l.ID.Stream), Stream: string(l.Stream), Lane: laneMessage(l)})
	}
	return answer, nil
}

// damaged stops the lane when err says its bytes are damaged (I4).
func (s *Service) damaged(l *ledger.Lane, err error) error {
	if fault.ReasonOf(err) != fault.Corrupt {
		return err
	}
	if l.Stop(err) {
		s.log.Error("a lane is stopped: its state is damaged", "stream", l.Stream, "partition", l.ID.Partition, "error", err)
	}
	return l.Usable()
}
