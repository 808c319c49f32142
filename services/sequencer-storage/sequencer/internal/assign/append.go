// Package assign decides what becomes of each draft: its sequences, or why not. It is the part of the committer that knows records.
//
// Invariants:
//
//	I1  within a lane sequences are given 1, 2, 3 ... without holes, in the order of Prepare.
//	I2  a batch, its producer chunks and nothing else of it are one atomic write.
//	I3  with less than the reserve free on disk nothing is written; the refusal is DiskFull.
package assign

import (
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/producers"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// Append is one draft on its way. The fields in the first block are the caller's, the others are set by Prepare and may be read
// after Done.
type Append struct {
	Lane  *ledger.Lane
	Draft []byte // stamped in place
	Runs  []producers.Run
	Done  chan error // capacity 1; gets nil, or why it was not written

	// Header is the stamped header; its Base is 0 when Refusals say why not.
	Header   batch.Header
	Refusals []producers.Refusal
	Chain    batch.Chain
	Segment  segment.Number
	refused  error
}

// Written reports whether the draft became a batch.
func (a *Append) Written() bool { return a.Header.Base != 0 }

// Answer tells the caller.
func (a *Append) Answer() { a.Done <- a.refused }

// Env is what an Assigner needs to know of the world.
type Env struct {
	// NewestEpoch gives a producer's newest epoch, 0 when it is not known here.
	NewestEpoch func(producer string) uint64
	// FreeBytes is what the disk has left.
	FreeBytes func() (uint64, error)
	// ReserveBytes stay free for the engine's own work.
	ReserveBytes uint64
	// SegmentBytes is the size at which a segment is full.
	SegmentBytes uint64
}

// Assigner assigns. One goroutine at a time.
type Assigner struct {
	env     Env
	current segment.Number
	bytes   uint64
	write   engine.Batch
	key     []byte
}

// New makes an Assigner that goes on in segment current, which holds bytes already.
func New(env Env, current segment.Number, bytes uint64) *Assigner {
	return &Assigner{env: env, current: current, bytes: bytes}
}

// Prepare decides on a group, in order, and gathers its write; false when there is nothing to write.
func (s *Assigner) Prepare(group []*Append) bool {
	s.write.Reset()
	full := s.full()
	for _, a := range group {
		a.refused = full
		if full == nil {
			a.refused = s.assign(a)
		}
	}
	return s.write.Len() > 0
}

// Write is the gathered write.
func (s *Assigner) Write() *engine.Batch { return &s.write }

// full keeps I3.
func (s *Assigner) full() error {
	free, err := s.env.FreeBytes()
	if err != nil {
		return fault.New(fault.Unavailable, "%w; nothing was written", err)
	}
	if free < s.env.ReserveBytes {
		return fault.New(fault.DiskFull, "the disk has %d MiB left, and %d MiB are kept in reserve; nothing was written, free some space and appends go on by themselves", free>>20, s.env.ReserveBytes>>20)
	}
	return nil
}

func (s *Assigner) assign(a *Append) error {
	l := a.Lane
	if err := l.Usable(); err != nil {
		return err
	}
	if a.Refusals = s.check(a); a.Refusals != nil {
		return nil
	}
	if s.bytes >= s.env.SegmentBytes {
		s.current, s.bytes = s.current+1, 0
	}
	a.Segment = s.current
	a.Header.Base, a.Header.Epoch, a.Header.Previous = l.Next, l.Epoch, l.Chain
	a.Chain = batch.Stamp{Epoch: l.Epoch, Base: l.Next, Previous: l.Chain}.Apply(a.Draft)
	l.Next, l.Chain = a.Header.Next(), a.Chain // I1
	s.key = segment.Key(s.key[:0], s.current, l.Number, a.Header.Base)
	s.write.Put(engine.Log, s.key, a.Draft)
	l.Producers.Record(a.Header.Base, a.Runs, producers.Sink{ // I2
		Put:    func(key, value []byte) { s.write.Put(engine.Producers, key, value) },
		Delete: func(key []byte) { s.write.Delete(engine.Producers, key) },
	})
	s.bytes += uint64(len(a.Draft))
	return nil
}

// check asks for duplicates, and for epochs that were fenced by opening the producer anew, wherever that was.
func (s *Assigner) check(a *Append) []producers.Refusal {
	refusals := a.Lane.Producers.Check(a.Runs)
	for i := range a.Runs {
		r := &a.Runs[i]
		if r.Producer == "" {
			continue
		}
		if newest := s.env.NewestEpoch(r.Producer); r.Epoch < newest {
			if refusals == nil {
				refusals = make([]producers.Refusal, len(a.Runs))
			}
			refusals[i].Fault = producers.Fenced(r.Producer, r.Epoch, newest)
		}
	}
	return refusals
}

// Sequence is the first record's, for answers.
func (a *Append) Sequence() lane.Sequence { return a.Header.Base }
