package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/pause"
)

const (
	// keptCommands is how many commands that have ended are remembered and reported.
	keptCommands = 16
	// movedTries and movedPause bound the wait until the provider has moved the cursors back.
	movedTries = 40
	movedPause = 50 * time.Millisecond
)

// errAnew ends a connection: the consumer attaches anew, and goes on where a command has put it.
var errAnew = errors.New("a command has moved the consumer back")

// done is a command that has ended.
type done struct {
	*consumerv1.ResetProgress
	// confirmed: the provider has moved its cursors too, or none had to be.
	confirmed bool
}

// obey does a command of the provider once, however often it is heard (I4). The loop is moved back first, then the provider's cursors, by the
// report of the end; what is acknowledged until the next attachment cannot undo that.
func (k *link) obey(ctx context.Context, reset *deliveryv1.Reset) error {
	if i := slices.IndexFunc(k.c.commands, func(d *done) bool { return d.GetCommandId() == reset.GetCommandId() }); i >= 0 {
		return k.conclude(ctx, k.c.commands[i])
	}
	began := time.Now()
	p := &consumerv1.ResetProgress{CommandId: reset.GetCommandId(), State: consumerv1.ResetState_RESET_STATE_RUNNING}
	k.report(ctx, p)
	expired, from, err := k.first(ctx, reset)
	if err != nil && (ctx.Err() != nil || fault.ReasonOf(err).Temporary()) {
		return err // heard again on the next connection
	}
	p = &consumerv1.ResetProgress{CommandId: p.GetCommandId(), State: consumerv1.ResetState_RESET_STATE_DONE, Rung: consumerv1.Rung_RUNG_REPLAY, From: from, Problem: expired}
	if err != nil {
		p.State, p.Rung, p.Problem = consumerv1.ResetState_RESET_STATE_FAILED, consumerv1.Rung_RUNG_UNSPECIFIED, err.Error()
	}
	ended := &done{ResetProgress: p, confirmed: err != nil || reset.GetDryRun() || len(from) == 0}
	if !ended.confirmed {
		if err := k.flush(ctx); err != nil {
			return err // heard again on the next connection
		}
		k.c.moveBack(from)
	}
	p.TookMs = uint64(time.Since(began).Milliseconds())
	k.c.cfg.Log.Warn("consumer: a command of the provider", "stream", k.c.cfg.Stream, "command", p.GetCommandId(), "action", reset.GetAction(), "state", p.GetState(), "problem", p.GetProblem())
	k.c.commands = append(k.c.commands, ended)
	if over := len(k.c.commands) - keptCommands; over > 0 {
		k.c.commands = slices.Delete(k.c.commands, 0, over)
	}
	return k.conclude(ctx, ended)
}

// conclude reports an end, and when cursors have to move back, waits until they have. After that the consumer has to attach anew.
func (k *link) conclude(ctx context.Context, d *done) error {
	k.report(ctx, nil)
	if d.confirmed {
		return nil
	}
	for range movedTries {
		moved, err := k.moved(ctx, d.GetFrom())
		if err != nil {
			return err
		}
		if moved {
			d.confirmed = true
			return errAnew
		}
		if err := pause.Wait(ctx, movedPause); err != nil {
			return err
		}
		k.report(ctx, nil) // the one before may have been lost
	}
	return fault.New(fault.Unavailable, "the provider has not moved the cursors back as command %s wants; the loop has, and the provider is told again", d.GetCommandId())
}

// first gives the first sequences to take again, of the partitions in which that is behind us, and what is not there any more.
func (k *link) first(ctx context.Context, reset *deliveryv1.Reset) (expired string, from []*consumerv1.Cursor, err error) {
	switch action := reset.GetAction(); action {
	case consumerv1.Action_ACTION_FROM_SEQUENCE, consumerv1.Action_ACTION_FROM_TIME:
	case consumerv1.Action_ACTION_VERIFY, consumerv1.Action_ACTION_REPAIR, consumerv1.Action_ACTION_FULL:
		what := map[consumerv1.Action]string{consumerv1.Action_ACTION_VERIFY: "verify", consumerv1.Action_ACTION_REPAIR: "repair", consumerv1.Action_ACTION_FULL: "take anew"}
		return "", nil, fault.New(fault.InvalidArgument, "this consumer follows records and holds no rows to %s: it can take records again from a sequence or a time", what[action])
	default:
		return "", nil, fault.New(fault.UnsupportedVersion, "this version knows no command %v: upgrade the consumer", action)
	}
	stream, err := k.Describe(ctx, k.c.cfg.Stream)
	if err != nil {
		return "", nil, err
	}
	var gone []string
	for _, c := range reset.GetFrom() {
		at := k.c.lanes[lane.Partition(c.GetPartition())]
		n := slices.IndexFunc(stream.GetLanes(), func(l *streamv1.Lane) bool { return l.GetPartition() == c.GetPartition() })
		if at == nil || n < 0 {
			continue
		}
		l := stream.GetLanes()[n]
		wanted := max(1, c.GetPosition().GetSequence())
		begin := max(wanted, l.GetHead())
		if begin > wanted {
			gone = append(gone, fmt.Sprintf("records [%d, %d) of partition %d have expired and are not taken again", wanted, begin, at.partition))
		}
		if lane.Sequence(begin) <= at.last.Sequence {
			from = append(from, &consumerv1.Cursor{Partition: c.GetPartition(), Position: &streamv1.Position{Epoch: l.GetEpoch(), Sequence: begin}})
		}
	}
	return strings.Join(gone, "; "), from, nil
}

// moveBack puts the loop before the first sequences to take again. Acknowledgements of what was given before count no more.
func (c *Consumer) moveBack(from []*consumerv1.Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range from {
		at := c.lanes[lane.Partition(f.GetPartition())]
		if at.last.Compare(at.given) > 0 {
			at.given = at.last
		}
		at.last.Sequence = lane.Sequence(f.GetPosition().GetSequence()) - 1
		at.stopped = false
		c.turns[at.partition]++
		delete(c.acks, at.partition)
	}
}

// flush stores what was acknowledged, so that it is known which cursors the provider keeps.
func (k *link) flush(ctx context.Context) error {
	request := k.ackRequest()
	if request == nil {
		return nil
	}
	kept, err := k.AckConfirmed(ctx, request)
	if err != nil {
		k.c.mu.Lock()
		k.c.ackDue = true
		k.c.mu.Unlock()
		return err
	}
	for _, c := range kept {
		k.cursors = slices.DeleteFunc(k.cursors, func(old *consumerv1.Cursor) bool { return old.GetPartition() == c.GetPartition() })
		k.cursors = append(k.cursors, c)
	}
	return nil
}

// moved reports whether every cursor the provider keeps is before what is taken again. It asks by acknowledging nothing: what is kept is the
// answer.
func (k *link) moved(ctx context.Context, from []*consumerv1.Cursor) (bool, error) {
	request := &deliveryv1.AckRequest{Stream: k.c.cfg.Stream, ConsumerId: k.c.cfg.ConsumerID, Incarnation: k.incarnation}
	first := map[uint32]*streamv1.Position{}
	for _, f := range from {
		first[f.GetPartition()] = f.GetPosition()
	}
	for _, c := range k.cursors {
		if f := first[c.GetPartition()]; f != nil && f.GetEpoch() == c.GetPosition().GetEpoch() {
			request.Cursors = append(request.Cursors, &consumerv1.Cursor{Partition: c.GetPartition(), Position: &streamv1.Position{Epoch: f.GetEpoch()}})
		}
	}
	kept, err := k.AckConfirmed(ctx, request)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(kept, func(c *consumerv1.Cursor) bool {
		f := first[c.GetPartition()]
		return f != nil && c.GetPosition().GetSequence() >= f.GetSequence()
	}), nil
}

// report tells the provider of commands: those that have ended, and the one that runs, nil for none.
func (k *link) report(ctx context.Context, running *consumerv1.ResetProgress) {
	health := &consumerv1.Health{}
	for _, d := range k.c.commands {
		health.Resets = append(health.Resets, d.ResetProgress)
	}
	if running != nil {
		health.Resets = append(health.Resets, running)
	}
	err := k.Report(ctx, &deliveryv1.StatusRequest{Stream: k.c.cfg.Stream, ConsumerId: k.c.cfg.ConsumerID, Incarnation: k.incarnation, Health: health})
	if err != nil {
		k.c.cfg.Log.Debug("consumer: report not sent", "error", err)
	}
}
