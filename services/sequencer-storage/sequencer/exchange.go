package sequencer

import (
	"context"
	"sync"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// passed remembers what the consumers of each lane have passed, as consumer-state said last. Safe for concurrent use.
type passed struct {
	mu sync.RWMutex // protects by
	by map[lane.ID]lane.Sequence
}

func (p *passed) lowest(id lane.ID) (lane.Sequence, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	at, ok := p.by[id]
	return at, ok
}

func (p *passed) replace(by map[lane.ID]lane.Sequence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by = by
}

// exchange tells consumer-state where lanes stand and learns what consumers have passed, every interval until ctx ends. Without an
// answer the cursors are unknown, and retention by consumers waits.
func (s *Service) exchange(ctx context.Context) error {
	t := time.NewTicker(s.cfg.ExchangeInterval)
	defer t.Stop()
	reachable := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if s.consumers == nil {
			continue
		}
		err := s.exchangeOnce(ctx)
		if err != nil {
			s.passed.replace(nil)
		}
		if ok := err == nil; ok != reachable && ctx.Err() == nil {
			if reachable = ok; ok {
				s.log.Info("consumer-state is back")
			} else {
				s.log.Warn("consumer-state does not answer; retention by consumers waits", "error", err)
			}
		}
	}
}

func (s *Service) exchangeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request := &consumerv1.ExchangeTailsRequest{}
	for _, l := range s.ledger.Lanes() {
		at := l.Standing()
		request.Lanes = append(request.Lanes, &consumerv1.LaneTail{
			Stream: string(l.Stream), StreamId: uint64(l.ID.Stream), Partition: uint32(l.ID.Partition), Epoch: uint64(l.Epoch),
			Head: uint64(at.Head), Tail: uint64(at.Tail), TailTimeMs: at.TailMS,
		})
	}
	answer, err := s.consumers.ExchangeTails(ctx, request)
	if err != nil {
		return err
	}
	by := map[lane.ID]lane.Sequence{}
	for _, c := range answer.GetLanes() {
		l, err := s.ledger.Find(lane.StreamID(c.GetStreamId()), "", lane.Partition(c.GetPartition()))
		if err != nil || c.GetStreamId() == 0 || lane.Epoch(c.GetEpoch()) != l.Epoch {
			continue
		}
		if c.GetConsumers() > 0 {
			by[l.ID] = lane.Sequence(c.GetLowest())
		}
		if tail := l.Standing().Tail; lane.Sequence(c.GetHighest()) > tail { // another witness of what was acknowledged
			if l.Stop(fault.New(fault.LaneStopped, "a consumer applied sequence %d, and the log ends at %d: acknowledged records are missing", c.GetHighest(), tail)) {
				s.log.Error("a lane is stopped: a consumer is ahead of its log", "stream", l.Stream, "partition", l.ID.Partition, "consumer", c.GetHighest(), "tail", tail)
			}
		}
	}
	s.passed.replace(by)
	return nil
}
