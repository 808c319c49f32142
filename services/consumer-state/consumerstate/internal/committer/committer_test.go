package committer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/committer"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk takes a second for every commit and then answers with fail.
type disk struct {
	commits []int // consumers of each
	fail    error
}

func (d *disk) Commit(_ context.Context, changes roster.Changes) error {
	time.Sleep(time.Second) // the bubble's clock
	d.commits = append(d.commits, len(changes.Consumers))
	return d.fail
}

func attach(id lane.ConsumerID) committer.Command {
	return func(d *roster.Draft) error {
		_, err := d.Attach(roster.Attach{Key: roster.Key{Stream: 1, ID: id}, Name: "orders"}, 1)
		return err
	}
}

// bench runs f beside a committer, in a bubble with a clock of its own, and gives what Run returned.
func bench(t *testing.T, d *disk, f func(t *testing.T, c *committer.Committer, r *roster.Roster)) (ran error) {
	synctest.Test(t, func(t *testing.T) {
		r := roster.New(roster.Kept{}, roster.Limits{Consumers: 100_000})
		c := committer.New(r, d, committer.Hooks{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		f(t, c, r)
		cancel()
		ran = <-done
		if err := c.Do(context.Background(), attach("late")); !errors.Is(err, fault.Unavailable) {
			t.Errorf("after the end: %v", err)
		}
	})
	return ran
}

func TestCallersShareACommit(t *testing.T) {
	d := &disk{}
	err := bench(t, d, func(t *testing.T, c *committer.Committer, r *roster.Roster) {
		var all sync.WaitGroup
		do := func(id lane.ConsumerID) {
			all.Go(func() {
				if err := c.Do(t.Context(), attach(id)); err != nil {
					t.Error(err)
				}
				if len(r.List("", id)) != 1 {
					t.Errorf("%s was answered before it was visible", id)
				}
			})
		}
		do("first")
		synctest.Wait() // it is on its way to the disk
		for _, id := range []lane.ConsumerID{"a", "b", "c", "d"} {
			do(id)
		}
		synctest.Wait()
		if r.Len() != 0 {
			t.Error("visible before it is on disk")
		}
		all.Wait()
	})
	if err != nil || len(d.commits) != 2 || d.commits[0] != 1 || d.commits[1] != 4 {
		t.Errorf("Run: %v, commits of %v", err, d.commits)
	}
}

func TestRefusedCommandHarmsNobody(t *testing.T) {
	d := &disk{}
	_ = bench(t, d, func(t *testing.T, c *committer.Committer, r *roster.Roster) {
		refused := func(d *roster.Draft) error { return d.Detach(roster.Key{Stream: 1, ID: "nobody"}, 1, 1) }
		if err := c.Do(t.Context(), refused); !errors.Is(err, fault.UnknownConsumer) {
			t.Error(err)
		}
		if len(d.commits) != 0 {
			t.Error("nothing was to be stored, and it was")
		}
		if err := c.Do(t.Context(), attach("a")); err != nil {
			t.Error(err)
		}
	})
}

func TestFullDiskRefusesAndGoesOn(t *testing.T) {
	d := &disk{fail: fault.New(fault.DiskFull, "full")}
	err := bench(t, d, func(t *testing.T, c *committer.Committer, r *roster.Roster) {
		if err := c.Do(t.Context(), attach("a")); !errors.Is(err, fault.DiskFull) || r.Len() != 0 {
			t.Errorf("got %v with %d consumers", err, r.Len())
		}
		d.fail = nil
		if err := c.Do(t.Context(), attach("a")); err != nil || r.Len() != 1 {
			t.Errorf("with room again: %v with %d consumers", err, r.Len())
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFailedDiskEndsRun(t *testing.T) {
	boom := errors.New("I/O error")
	err := bench(t, &disk{fail: boom}, func(t *testing.T, c *committer.Committer, r *roster.Roster) {
		if err := c.Do(t.Context(), attach("a")); !errors.Is(err, fault.UnknownOutcome) || r.Len() != 0 {
			t.Errorf("got %v with %d consumers", err, r.Len())
		}
	})
	if !errors.Is(err, boom) {
		t.Errorf("Run: %v", err)
	}
}

func TestBounds(t *testing.T) {
	const callers = 6000
	d := &disk{}
	_ = bench(t, d, func(t *testing.T, c *committer.Committer, r *roster.Roster) {
		go func() { _ = c.Do(context.Background(), attach("first")) }()
		synctest.Wait()
		results := make(chan error, callers)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		for range callers {
			go func() { results <- c.Do(ctx, attach("a")) }()
		}
		count := map[fault.Reason]int{}
		gaveUp := 0
		for range callers {
			if err := <-results; errors.Is(err, context.DeadlineExceeded) {
				gaveUp++
			} else {
				count[fault.ReasonOf(err)]++
			}
		}
		if count[fault.Overloaded] != callers-4096 || gaveUp != 4096 {
			t.Errorf("refused %v, %d gave up waiting", count, gaveUp)
		}
	})
	if len(d.commits) != 1+4 { // what was taken is stored, though nobody waits any more
		t.Errorf("%d commits", len(d.commits))
	}
}
