// Package seal writes down which range of each lane a full segment holds, off the path of appends.
//
// Invariants:
//
//	I1  a segment is sealed after all its batches were fsynced: when the first batch of a later one is.
//	I2  segments are sealed in order, and one that could not be is tried again; until then recovery reads it back.
package seal

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// retryDelay is the time between two tries.
const retryDelay = time.Second

// Write is how a sealed segment is written down; repeating it is harmless.
type Write func(n segment.Number, extents map[segment.LaneNumber]segment.Extent, nowMS int64) error

// Sealer seals. Safe for concurrent use.
type Sealer struct {
	write Write
	log   *slog.Logger

	mu     sync.Mutex // protects the fields below
	open   segment.Number
	sealed segment.Number
	lanes  map[segment.Number]map[*ledger.Lane]struct{} // of segments above sealed
	wake   chan struct{}
}

// New makes a Sealer that has sealed everything up to sealed.
func New(write Write, log *slog.Logger, sealed segment.Number) *Sealer {
	return &Sealer{write: write, log: log, sealed: sealed, lanes: map[segment.Number]map[*ledger.Lane]struct{}{}, wake: make(chan struct{}, 1)}
}

// Touch says that l has a published batch in segment n.
func (s *Sealer) Touch(n segment.Number, l *ledger.Lane) {
	s.mu.Lock()
	if s.lanes[n] == nil {
		s.lanes[n] = map[*ledger.Lane]struct{}{}
	}
	s.lanes[n][l] = struct{}{}
	s.mu.Unlock()
	s.Reach(n)
}

// Reach says that everything before segment n is full and durable.
func (s *Sealer) Reach(n segment.Number) {
	s.mu.Lock()
	news := n > s.open
	s.open = max(s.open, n)
	s.mu.Unlock()
	if news {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Sealed is the highest sealed segment.
func (s *Sealer) Sealed() segment.Number {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed
}

// Run seals until ctx ends.
func (s *Sealer) Run(ctx context.Context) error {
	for {
		if err := s.sealAll(); err != nil {
			s.log.Warn("a segment could not be sealed; trying again", "error", err)
			select {
			case <-time.After(retryDelay):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return s.sealAll()
		}
	}
}

func (s *Sealer) sealAll() error {
	for {
		s.mu.Lock()
		n, full := s.sealed+1, s.sealed+1 < s.open
		extents := map[segment.LaneNumber]segment.Extent{}
		if full {
			for l := range s.lanes[n] {
				for _, x := range l.Extents() {
					if x.Segment == n {
						extents[l.Number] = x
					}
				}
			}
		}
		s.mu.Unlock()
		if !full {
			return nil
		}
		if err := s.write(n, extents, time.Now().UnixMilli()); err != nil {
			return err
		}
		s.mu.Lock()
		s.sealed = n // I2
		delete(s.lanes, n)
		s.mu.Unlock()
	}
}
