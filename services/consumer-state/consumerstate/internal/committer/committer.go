// Package committer lets many callers share one fsync.
//
//	Do ──▶ queue (bounded) ──▶ Run: take all that wait ──▶ draft ──▶ store.Commit ──▶ roster.Publish ──▶ answers
//
// There is no timer: while one group is on its way to the disk, the next gathers.
//
// Invariants:
//
//	I1  Do returns nil only after its change is on disk and visible in the roster.
//	I2  a caller finds a full queue or a stopped committer refused at once, with nothing done.
//	I3  after an error of the store that leaves the disk's content unknown, Run ends, and with it the service.
package committer

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate/internal/roster"
)

const (
	// queueLength bounds the callers that wait.
	queueLength = 4096
	// maxGroup bounds the commands of one transaction.
	maxGroup = 1024
)

// Disk stores changes: all of them, durably, or none.
type Disk interface {
	Commit(ctx context.Context, changes roster.Changes) error
}

// Command changes the draft or returns an error and has changed nothing. It must not block, and must copy what it wants to keep.
type Command func(*roster.Draft) error

type waiting struct {
	command Command
	answer  chan error // room for one
}

// Committer is the one writer of a roster and its disk. Do is safe for concurrent use.
type Committer struct {
	roster *roster.Roster
	disk   Disk
	queue  chan waiting
	ended  chan struct{}
	hooks  Hooks
}

// Hooks are told of what happened, by the goroutine that commits: they must not block. Each may be nil.
type Hooks struct {
	// Committed is told of every commit.
	Committed func(commands int, took time.Duration)
	// Published is told of what has just become visible, before the callers are answered.
	Published func(roster.Changes)
}

// New makes a Committer.
func New(r *roster.Roster, disk Disk, hooks Hooks) *Committer {
	if hooks.Committed == nil {
		hooks.Committed = func(int, time.Duration) {}
	}
	if hooks.Published == nil {
		hooks.Published = func(roster.Changes) {}
	}
	return &Committer{roster: r, disk: disk, queue: make(chan waiting, queueLength), ended: make(chan struct{}), hooks: hooks}
}

// Do runs command and waits until what it did is on disk (I1). When ctx ends first it may still happen.
func (c *Committer) Do(ctx context.Context, command Command) error {
	w := waiting{command, make(chan error, 1)}
	select {
	case <-c.ended:
		return stopping()
	default:
	}
	select {
	case c.queue <- w:
	default: // I2
		return fault.New(fault.Overloaded, "%d calls wait for the disk already; nothing was stored: try again later", queueLength).With("retry_after_ms", "200")
	}
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		select { // the answer may have come just before the end
		case err := <-w.answer:
			return err
		default:
			return stopping()
		}
	}
}

// Run commits until ctx ends and the queue is empty, or until the disk fails (I3). It is called once.
func (c *Committer) Run(ctx context.Context) error {
	defer close(c.ended)
	group := make([]waiting, 0, maxGroup)
	for {
		group = group[:0]
		select {
		case w := <-c.queue:
			group = append(group, w)
		case <-ctx.Done():
			select {
			case w := <-c.queue:
				group = append(group, w)
			default:
				return nil
			}
		}
	gather:
		for len(group) < maxGroup {
			select {
			case w := <-c.queue:
				group = append(group, w)
			default:
				break gather
			}
		}
		if err := c.commit(group); err != nil {
			return err
		}
	}
}

// commit answers every command of the group. The error is what must stop the service.
func (c *Committer) commit(group []waiting) error {
	draft := c.roster.NewDraft()
	done := make([]waiting, 0, len(group))
	for _, w := range group {
		if err := w.command(draft); err != nil {
			w.answer <- err
			continue
		}
		done = append(done, w)
	}
	changes := draft.Changes()
	var answer, fatal error
	if !changes.Empty() {
		begin := time.Now()
		// A commit is not given up half-way: it has no deadline but the disk's own.
		answer = c.disk.Commit(context.Background(), changes)
		c.hooks.Committed(len(done), time.Since(begin))
		switch fault.ReasonOf(answer) {
		case "":
			c.roster.Publish(changes)
			c.hooks.Published(changes)
		case fault.DiskFull, fault.Unavailable:
		default: // I3
			fatal = fmt.Errorf("storing consumers: %w", answer)
			answer = fault.New(fault.UnknownOutcome, "the disk failed; it may or may not have been stored: attach again and compare (%w)", answer)
		}
	}
	for _, w := range done {
		w.answer <- answer
	}
	return fatal
}

func stopping() error {
	return fault.New(fault.Unavailable, "consumer-state is stopping; nothing was stored: try again")
}
