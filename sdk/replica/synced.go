package replica

import (
	"context"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/internal/session"
)

// WaitSynced waits until the replica was compared equal with the provider, in every partition, at a sequence at or above the tail of
// the moment of the call (I6). It returns the refusal when the provider cannot serve this replica (an unknown stream, a stream
// without keys, another major version), ConsumerFenced when another process took over, and ctx's error. Connections that come and go
// are waited out.
func (r *Replica) WaitSynced(ctx context.Context) error {
	for {
		targets, err := r.targets(ctx)
		if err != nil {
			return err
		}
		again, err := r.reach(ctx, targets)
		if err != nil || !again {
			return err
		}
	}
}

// targets asks the provider where its lanes stand now.
func (r *Replica) targets(ctx context.Context) ([]lane.Position, error) {
	for {
		s, changed, err := r.waitable()
		if err != nil {
			return nil, err
		}
		if s != nil {
			stream, err := s.Describe(ctx, r.cfg.Stream)
			if err == nil {
				targets := make([]lane.Position, len(stream.GetLanes()))
				for _, l := range stream.GetLanes() {
					if int(l.GetPartition()) >= len(targets) {
						return nil, fault.New(fault.Malformed, "the provider names partition %d of %d", l.GetPartition(), len(targets))
					}
					targets[l.GetPartition()] = lane.Position{Epoch: lane.Epoch(l.GetEpoch()), Sequence: lane.Sequence(l.GetTail())}
				}
				return targets, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if permanent(fault.ReasonOf(err)) {
				return nil, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, r.unsynced(ctx)
		}
	}
}

// reach waits until every lane was verified at its target; again says that an epoch changed, so that the targets mean nothing.
func (r *Replica) reach(ctx context.Context, targets []lane.Position) (again bool, err error) {
	for {
		_, changed, err := r.waitable()
		if err != nil {
			return false, err
		}
		switch reached, cut := r.reached(targets); {
		case cut:
			return true, nil
		case reached:
			return false, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, r.unsynced(ctx)
		}
	}
}

func (r *Replica) reached(targets []lane.Position) (reached, cut bool) {
	s := r.Status()
	if len(s.Lanes) != len(targets) {
		return false, false
	}
	for i, l := range s.Lanes {
		if l.VerifiedAt.Epoch > targets[i].Epoch {
			return false, true
		}
		if l.VerifiedAt.Epoch != targets[i].Epoch || l.VerifiedAt.Sequence < targets[i].Sequence {
			return false, false
		}
	}
	return true, false
}

// waitable gives the session, if there is one, and what is closed when the status changes; an error when waiting is in vain.
func (r *Replica) waitable() (*session.Session, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped != nil {
		return nil, nil, r.stopped
	}
	if r.status.Phase == Failed && permanent(fault.ReasonOf(r.status.Problem)) {
		return nil, nil, r.status.Problem
	}
	return r.session, r.changed, nil
}

// unsynced says what was going on when the waiting ended.
func (r *Replica) unsynced(ctx context.Context) error {
	s := r.Status()
	if s.Problem != nil {
		return fault.New(fault.Unavailable, "the replica of stream %q is not synced (%v); the last problem was: %s: %w", r.cfg.Stream, s.Phase, s.Problem, ctx.Err())
	}
	return fault.New(fault.Unavailable, "the replica of stream %q is not synced: it is %v: %w", r.cfg.Stream, s.Phase, ctx.Err())
}
