package archive

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// expireEvery is how often Run looks for what may go.
const expireEvery = 5 * time.Second

// Run removes snapshots that may go until ctx ends; then it ends the builds and waits for them.
func (a *Archive) Run(ctx context.Context) error {
	defer func() {
		a.mu.Lock() // so that none begins behind it
		a.end()
		a.mu.Unlock()
		a.wait.Wait()
	}()
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := a.Expire(); err != nil {
				a.env.Log.Warn("snapshots that may go are still there; it is tried again", "error", err)
			}
		}
	}
}

// Expire removes what is neither leased nor the newest of its lane, what is old, and what is over the budget.
func (a *Archive) Expire() error {
	now := a.env.Now()
	a.mu.Lock()
	all := make([]*Kept, 0, len(a.kept))
	for _, k := range a.kept {
		all = append(all, k)
	}
	a.mu.Unlock()
	slices.SortFunc(all, func(x, y *Kept) int { return y.made.Compare(x.made) }) // newest first
	newest := map[segment.LaneNumber]bool{}
	var failed error
	var total uint64
	for _, k := range all {
		first := !newest[k.lane]
		newest[k.lane] = true
		leased := k.LeasedUntil()
		switch {
		case now.Before(leased): // I2
		case !first, now.Sub(leased) > KeepNewest, total+k.Bytes() > a.env.DiskBytes:
			failed = errors.Join(failed, a.drop(k))
			continue
		}
		total += k.Bytes()
	}
	return failed
}

// Forget removes all snapshots of a lane, whose stream was deleted.
func (a *Archive) Forget(l segment.LaneNumber) error {
	a.mu.Lock()
	var gone []*Kept
	for _, k := range a.kept {
		if k.lane == l {
			gone = append(gone, k)
		}
	}
	a.mu.Unlock()
	var failed error
	for _, k := range gone {
		failed = errors.Join(failed, a.drop(k))
	}
	return failed
}

// drop removes a snapshot: out of sight, then the row, then the files; the start tidies what is left of it.
func (a *Archive) drop(k *Kept) error {
	a.mu.Lock()
	delete(a.kept, k.ID)
	a.mu.Unlock()
	if err := a.env.Catalogue.DropSnapshot(k.ID); err != nil {
		return err
	}
	return a.unlink(k.ID)
}

// room keeps I5.
func (a *Archive) room() error {
	free, err := a.env.FreeBytes()
	if err != nil {
		return fault.New(fault.Unavailable, "%w; no snapshot was made", err)
	}
	if free < a.env.ReserveBytes {
		return fault.New(fault.DiskFull, "the disk has %d MiB left, and %d MiB are kept in reserve; no snapshot was made, free some space and ask again", free>>20, a.env.ReserveBytes>>20)
	}
	return nil
}
