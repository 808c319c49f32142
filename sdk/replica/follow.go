package replica

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

// coalesceBytes is how much waiting data one transaction takes at most, beyond one batch (I7): the pages that random keys touch are
// written once a transaction, so behind the tail larger is faster.
const coalesceBytes = 8 << 20

// follow subscribes every lane and applies what comes until something ends it: *resyncNeeded, errOrdered, a fault, or the end of ctx.
func (r *Replica) follow(ctx context.Context, k *link) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel() // before Wait: it is what stops the readers
	inbox := make(chan parcel, inboxBatches)
	room := &budget{limit: inboxBytes}
	for _, l := range r.lanes {
		d, err := k.Subscribe(ctx, k.subscribeRequest(l))
		if err != nil {
			return rungFor(l.Partition, err)
		}
		defer d.Close()
		open := newOpener(r.meta, l.Partition)
		readers.Go(func() { receive(ctx, d, open, inbox, room) })
	}
	r.settlePhase()
	ackTicker := time.NewTicker(ackEvery)
	defer ackTicker.Stop()
	reportTicker := time.NewTicker(reportEvery)
	defer reportTicker.Stop()
	scrubTicker := time.NewTicker(scrubEvery)
	defer scrubTicker.Stop()
	k.ackDue = true
	k.report(ctx)
	var waiting []parcel
	for {
		waiting = waiting[:0]
		select {
		case p := <-inbox:
			waiting = gather(append(waiting, p), inbox)
			if err := r.work(ctx, k, waiting); err != nil {
				return err
			}
			k.ackDue = true // I5: all of it is committed
			for i := range waiting {
				room.give(waiting[i].size())
			}
			clear(waiting) // lets go of the batches
		case <-ackTicker.C:
		case <-scrubTicker.C:
			if r.held {
				r.tidy()
			}
			if err := r.scrubSome(); err != nil {
				return err
			}
		case <-reportTicker.C:
			if k.incarnation == 0 {
				if err := k.attach(ctx); err != nil {
					return err
				}
			}
			k.report(ctx)
		case <-k.Draining():
			return fault.New(fault.Unavailable, "the gateway asks us to go elsewhere")
		case <-ctx.Done():
			return ctx.Err()
		}
		k.ack(ctx)
	}
}

// gather adds what waits already, within coalesceBytes: one transaction for many batches when behind, one for each when live.
func gather(waiting []parcel, inbox <-chan parcel) []parcel {
	bytes := waiting[0].size()
	for bytes < coalesceBytes && waiting[len(waiting)-1].err == nil {
		select {
		case p := <-inbox:
			waiting = append(waiting, p)
			bytes += p.size()
		default:
			return waiting
		}
	}
	return waiting
}

// rungFor tells the failures of a lane that a rung of the ladder ends from those that a retry does.
func rungFor(p lane.Partition, err error) error {
	switch fault.ReasonOf(err) {
	case fault.Expired:
		return needResync(p, RungChanges, "the records that follow the cursor have expired: %v", err)
	case fault.EpochMismatch:
		return needResync(p, RungRepair, "the lane's history was cut: %v", err)
	case fault.AheadOfTail:
		return needResync(p, RungBootstrap, "the replica is ahead of the provider's tail: %v", err)
	}
	return err
}

// work takes parcels in order: runs without gaps are applied together, gaps are filled between them (I2).
func (r *Replica) work(ctx context.Context, k *link, parcels []parcel) error {
	for len(parcels) > 0 {
		n, gap := r.contiguous(parcels)
		if n > 0 {
			if err := r.apply(ctx, parcels[:n]); err != nil {
				return err
			}
		}
		if err := r.after(parcels[:n]); err != nil {
			return err
		}
		parcels = parcels[n:]
		if gap {
			if err := r.fill(ctx, k, parcels[0].lane, parcels[0].header.Base); err != nil {
				return rungFor(parcels[0].lane, err)
			}
		} else if len(parcels) > 0 {
			if err := parcels[0].err; errors.Is(err, io.EOF) {
				return fault.New(fault.Unavailable, "the gateway ended a subscription")
			} else {
				return rungFor(parcels[0].lane, err)
			}
		}
	}
	return nil
}

// contiguous counts the leading parcels that follow each other in their lanes; gap says that the next one would leave a hole. A parcel
// with an error is never counted.
func (r *Replica) contiguous(parcels []parcel) (n int, gap bool) {
	ends := map[lane.Partition]lane.Sequence{}
	for i := range parcels {
		p := &parcels[i]
		if p.err != nil {
			return i, false
		}
		if p.delivery.GetKind() != deliveryv1.Delivery_KIND_BATCH {
			continue
		}
		end, ok := ends[p.lane]
		if !ok {
			end = r.lanes[p.lane].Cursor.Sequence
		}
		if p.header.Base > end+1 {
			return i, true
		}
		ends[p.lane] = max(end, p.last())
	}
	return len(parcels), false
}

// after hears commands that came in band, once what came before them is applied. They are obeyed outside, where nothing arrives.
func (r *Replica) after(parcels []parcel) error {
	heard := false
	for i := range parcels {
		if d := parcels[i].delivery; d.GetKind() == deliveryv1.Delivery_KIND_RESET && d.GetReset_() != nil {
			heard = r.orders.hear(d.GetReset_()) || heard
		}
	}
	if heard {
		return errOrdered
	}
	return nil
}

// fill reads [cursor+1, until) of a lane from the log.
func (r *Replica) fill(ctx context.Context, k *link, p lane.Partition, until lane.Sequence) error {
	l := r.lanes[p]
	from := l.Cursor.Sequence + 1
	d, err := k.Range(ctx, &deliveryv1.RangeRequest{Stream: r.cfg.Stream, Partition: uint32(p), Epoch: uint64(l.Cursor.Epoch), From: uint64(from), Until: uint64(until)})
	if err != nil {
		return err
	}
	defer d.Close()
	open := newOpener(r.meta, p)
	for {
		part := open.next(ctx, d)
		if errors.Is(part.err, io.EOF) {
			break
		}
		if part.err != nil {
			return part.err
		}
		if _, hole := r.contiguous([]parcel{part}); hole {
			return fault.New(fault.Malformed, "the log's answer for [%d, %d) of partition %d has a hole at %d", from, until, p, l.Cursor.Sequence+1)
		}
		if err := r.apply(ctx, []parcel{part}); err != nil {
			return err
		}
	}
	if r.lanes[p].Cursor.Sequence+1 < until {
		return fault.New(fault.Unavailable, "the log's answer for [%d, %d) of partition %d ended at %d", from, until, p, r.lanes[p].Cursor.Sequence)
	}
	r.update(func(s *Status) { s.Gaps++ })
	r.tell(Event{Kind: GapFilled, Partition: p, Sequence: from, Why: "deliveries were missing and were read from the log"})
	return nil
}

// settlePhase enters Live or CatchingUp, by what is known of the tails.
func (r *Replica) settlePhase() {
	var done, expected uint64
	behind := false
	for _, l := range r.lanes {
		done += uint64(l.Cursor.Sequence)
		expected += uint64(max(l.tail, l.Cursor.Sequence))
		behind = behind || l.tailKnown && l.Cursor.Sequence < l.tail
	}
	p := Progress{Phase: Live}
	if behind {
		p = Progress{Phase: CatchingUp, Done: done, Expected: expected}
	}
	if now := r.Status(); now.Phase != p.Phase || p.Phase == CatchingUp && time.Since(r.toldAt) >= progressEvery {
		r.toldAt = time.Now()
		r.progress(p)
	}
}
