package command

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/tools/internal/progress"
)

func newReplica(c *console) *cobra.Command {
	k := keeping{c: c, tell: c.tellSynced}
	cmd := &cobra.Command{
		Use:   "replica STREAM FILE.db",
		Short: "Keep an SQLite file equal to a stream's state, and prove it",
		Long: `Keep an SQLite file equal to a stream's state, and prove it.

The file has one table named after the stream (key, value, headers, seq, time) and can be opened with sqlite3 at any time.
With --once the command ends, with exit code 0, when the file was proven equal at the tail of the moment the command began.`,
		Args: exactly("STREAM", "FILE.db"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.run(cmd.Context(), args[0], args[1])
		},
	}
	cmd.Flags().BoolVar(&k.once, "once", false, "end when proven equal")
	k.flags(cmd)
	return cmd
}

// keeping is one run of the replica command, or of repair.
type keeping struct {
	c        *console
	once     bool
	consumer string
	retryFor time.Duration
	// tell says what was proven; before is the status at the beginning.
	tell func(cfg replica.Config, before, after replica.Status) error
}

func (k *keeping) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.consumer, "consumer", "", "name under which the cursor is kept (default: made of host and path)")
	text := "how long to look for a gateway"
	if !k.once {
		text = "with --once: " + text
	}
	cmd.Flags().DurationVar(&k.retryFor, "retry-for", 30*time.Second, text)
}

func (k *keeping) run(ctx context.Context, stream, path string) error {
	cfg := k.c.comparing(stream)
	cfg.Path, cfg.ConsumerID = path, k.consumer
	show := &phases{c: k.c, bar: progress.New(k.c.err, k.c.onTerminal())}
	cfg.OnProgress, cfg.OnEvent = show.progress, show.event
	r, err := replica.Open(ctx, cfg)
	if err != nil {
		return err
	}
	before := r.Status()
	err = k.sync(ctx, r)
	if err == nil {
		err = k.tell(cfg, before, r.Status())
	}
	if err == nil && !k.once {
		k.c.say("following %s; interrupt to stop, the file stays as it is", cfg.Stream)
		err = follow(ctx, r)
	}
	show.bar.Stop()
	return errors.Join(err, r.Close())
}

// sync waits until the replica is proven equal; with --once not for ever for a gateway.
func (k *keeping) sync(ctx context.Context, r *replica.Replica) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var gaveUp error
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		tick := time.NewTicker(watchInterval)
		defer tick.Stop()
		told := false
		for began := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s := r.Status()
			if s.Connections > 0 {
				return
			}
			if s.Problem != nil && !told {
				k.c.say("no gateway yet, trying again: %v", s.Problem)
				told = true
			}
			if k.once && s.Problem != nil && time.Since(began) > k.retryFor {
				gaveUp = reach(s.Problem, "the gateway", k.c.gateway, "gateway")
				cancel()
				return
			}
		}
	}()
	err := r.WaitSynced(ctx)
	cancel()
	<-watched
	if gaveUp != nil {
		return gaveUp
	}
	return err
}

// watchInterval is how often a replica is asked whether it goes on.
const watchInterval = 200 * time.Millisecond

// follow returns nil when ctx ends, and why when the replica has stopped for good.
func follow(ctx context.Context, r *replica.Replica) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s := r.Status(); s.Phase == replica.Failed && s.RetryAt.IsZero() {
				return s.Problem
			}
		}
	}
}

// tellSynced says what was proven.
func (c *console) tellSynced(cfg replica.Config, _, s replica.Status) error {
	var rows uint64
	lanes := make([]map[string]any, 0, len(s.Lanes))
	for _, l := range s.Lanes {
		rows += l.Digest.Count
		lanes = append(lanes, map[string]any{"partition": l.Partition, "epoch": l.VerifiedAt.Epoch, "sequence": l.VerifiedAt.Sequence, "digest": l.Digest.Sum.String(), "rows": l.Digest.Count})
	}
	if c.json {
		return c.line(map[string]any{"stream": cfg.Stream, "file": cfg.Path, "rows": rows, "verified": true, "partitions": lanes, "bootstraps": s.Bootstraps})
	}
	_, err := fmt.Fprintf(c.out, "%s: %d rows, proven equal to %s\n", cfg.Path, rows, cfg.Stream)
	return err
}

// phases shows what a replica does: a bar per phase on a terminal, lines of text elsewhere. Called from the replica's goroutine and ours.
type phases struct {
	c   *console
	bar *progress.Bar
	mu  sync.Mutex // guards what follows
	// last is the phase that was shown; any is false before the first.
	last replica.Phase
	any  bool
	// between is true while there is no connection: the tries are not shown one by one.
	between bool
	on      replica.Rung
}

func (p *phases) progress(now replica.Progress) {
	p.mu.Lock()
	changed := !p.any || now.Phase != p.last
	between := now.Phase == replica.Connecting || now.Phase == replica.Failed
	again := between && p.between
	onto := now.On > 0 && now.On != p.on
	p.last, p.any, p.between, p.on = now.Phase, true, between, now.On
	p.mu.Unlock()
	if p.c.onTerminal() {
		if again {
			return // one line for all tries
		}
		name := phaseName(now.Phase)
		if now.On > 0 {
			name = fmt.Sprintf("%v: %s", now.On, name)
		}
		if now.Phase == replica.Receiving && now.ExpectedBytes == 0 && now.Expected > 0 {
			name += ", the provider makes the snapshot"
		}
		if now.ExpectedBytes > 0 {
			p.bar.Bytes(name, int64(now.ExpectedBytes))
			p.bar.Set(int64(now.DoneBytes))
			return
		}
		p.bar.Phase(name, int64(now.Expected))
		p.bar.Set(int64(now.Done))
		return
	}
	if onto {
		p.c.say("resync by %v", now.On)
	}
	if changed && !again {
		p.c.say("%s", phaseName(now.Phase))
	}
}

func (p *phases) event(e replica.Event) {
	p.c.say("%s: %s", e.Kind, e.Why)
}

// phaseName says of a failure that it is not the end.
func phaseName(phase replica.Phase) string {
	if phase == replica.Failed {
		return "interrupted, trying again"
	}
	return phase.String()
}
