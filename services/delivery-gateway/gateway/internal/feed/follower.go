package feed

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Log is what a follower asks of storage.
type Log interface {
	Tails(ctx context.Context, lanes []lane.ID) ([]storage.Standing, error)
	Read(ctx context.Context, r storage.Range, visit func(*parcel.Parcel) error) error
}

const (
	retryFirst = 50 * time.Millisecond
	retryLast  = 2 * time.Second
	// idleReadTimeout ends a read in which nothing comes.
	idleReadTimeout = 10 * time.Second
)

var errNotNext = errors.New("storage sent a batch that is not the next one")

// follow keeps f at the lane's tail until ctx ends.
func (f *Feed) follow(ctx context.Context, log Log, statusInterval, heartbeat time.Duration) {
	timer := time.NewTimer(heartbeat)
	defer timer.Stop()
	retry := time.Duration(0)
	for {
		err := f.fill(ctx, log)
		if ctx.Err() != nil {
			return
		}
		wait := f.say(time.Now(), statusInterval, heartbeat)
		if err != nil {
			if !fault.ReasonOf(err).Temporary() {
				f.Fail(err)
			}
			retry = min(max(retry*2, retryFirst), retryLast)
			wait = min(wait, retry/2+rand.N(retry/2))
		} else {
			retry = 0
		}
		timer.Reset(wait)
		kick := f.kick
		if err != nil {
			kick = nil // hints do not shorten the wait for a storage that fails; inline batches still arrive
		}
		select {
		case <-ctx.Done():
			return
		case <-kick:
		case <-timer.C:
		}
	}
}

// fill reads what is missing between the ring and the tail heard of.
func (f *Feed) fill(ctx context.Context, log Log) error {
	for {
		f.mu.Lock()
		r := storage.Range{Stream: f.stream, Lane: f.id, Epoch: f.at.Epoch, From: f.next, Head: f.at.Head}
		stale, missing, gone := f.stale, f.at.Tail >= f.next, f.gone
		f.mu.Unlock()
		switch {
		case gone:
			return nil
		case stale:
			if _, err := f.refresh(ctx, log); err != nil {
				return err
			}
			f.mu.Lock()
			f.stale = false // storage has answered: the hint was ahead of it or wrong
			f.mu.Unlock()
			continue
		case !missing:
			return nil
		}
		progressed, err := f.read(ctx, log, r)
		switch {
		case err == nil && progressed:
		case err == nil:
			return fault.New(fault.Unavailable, "storage has no batch at sequence %d of lane %v yet", r.From, f.id)
		case errors.Is(err, fault.Expired):
			at, err := f.refresh(ctx, log)
			if err != nil {
				return err
			}
			f.restart(at)
		case errors.Is(err, fault.EpochMismatch):
			at, again := f.refresh(ctx, log)
			if again != nil {
				return again
			}
			if at.Epoch == r.Epoch {
				return err
			}
		case errors.Is(err, fault.UnknownStream):
			f.end(err)
			return nil
		default:
			return err
		}
	}
}

func (f *Feed) read(ctx context.Context, log Log, r storage.Range) (progressed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(idleReadTimeout, cancel)
	defer idle.Stop()
	err = log.Read(ctx, r, func(p *parcel.Parcel) error {
		idle.Reset(idleReadTimeout)
		if f.Append(r.Epoch, p, time.Now()) {
			progressed = true
			return nil
		}
		f.mu.Lock()
		next, epoch := f.next, f.at.Epoch
		f.mu.Unlock()
		if epoch != r.Epoch {
			return fault.New(fault.EpochMismatch, "lane %v changed its history during a read", f.id)
		}
		if p.Last < next { // an inline batch was faster
			progressed = true
			return nil
		}
		return fault.New(fault.Unavailable, "lane %v, sequence %d: %w", f.id, next, errNotNext)
	})
	if errors.Is(err, errNotNext) && progressed {
		return true, nil // read again from where the ring ends
	}
	return progressed, err
}

// refresh asks storage where the lane stands.
func (f *Feed) refresh(ctx context.Context, log Log) (storage.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, idleReadTimeout)
	defer cancel()
	standings, err := log.Tails(ctx, []lane.ID{f.id})
	if err != nil {
		return storage.Standing{}, err
	}
	if len(standings) == 0 {
		err := fault.New(fault.UnknownStream, "stream %q was deleted", f.stream)
		f.end(err)
		return storage.Standing{}, err
	}
	f.Stand(standings[0])
	return standings[0], nil
}

// say publishes a status when one is due and returns how long until the next may be (I7).
func (f *Feed) say(now time.Time, statusInterval, heartbeat time.Duration) time.Duration {
	f.mu.Lock()
	d := f.at.Digest
	fresh := d != nil && lane.Sequence(d.GetSequence()) < f.next && (f.marked == nil || d.GetSequence() > f.marked.GetSequence())
	silence := now.Sub(f.sentAt)
	sinceStatus := now.Sub(f.statusAt)
	switch {
	case fresh && sinceStatus < statusInterval:
		f.mu.Unlock()
		return statusInterval - sinceStatus
	case !fresh && silence < heartbeat:
		f.mu.Unlock()
		return heartbeat - silence
	}
	f.newStatus(now)
	listeners := f.takeWaiting()
	f.mu.Unlock()
	wake(listeners)
	return heartbeat
}

// Text writes a sequence or an epoch as a detail of a fault.
func Text[N lane.Sequence | lane.Epoch](n N) string { return strconv.FormatUint(uint64(n), 10) }
