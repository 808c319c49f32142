package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/consumer"
)

func newTail(c *console) *cobra.Command {
	var from, count uint64
	var noFollow, skipExpired bool
	cmd := &cobra.Command{
		Use:   "tail STREAM",
		Short: "Print records as they are committed",
		Long: `Print records as they are committed: behind the tail, or from --from on.

With --json each line has partition, epoch, sequence, time_ms, key, headers, and the value: under "value" when it is JSON, else as
"value_text" or "value_base64". A deletion has "tombstone":true.`,
		Args: exactly("STREAM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := consumer.Config{
				Stream: args[0], Gateways: strings.Split(c.gateway, ","), Client: "lockstep tail", Token: c.token, StopAtTail: noFollow,
				ConnectWithin: 5 * time.Second, RetryLongest: longestPause, Log: c.log(),
			}
			if skipExpired {
				cfg.OnLoss = func(lost *consumer.Expired) consumer.Choice {
					c.say("%v; going on at %d", lost, lost.Head)
					return consumer.SkipToHead
				}
			}
			if from > 0 {
				cfg.Start = consumer.From(lane.Sequence(from))
			} else if !noFollow {
				cfg.Start = consumer.Tail()
			}
			if cmd.Flags().Changed("from") && from == 0 {
				return usage("--from 0: sequences begin at 1")
			}
			return reach(c.tail(cmd.Context(), cfg, count), "the gateway", c.gateway, "gateway")
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&from, "from", 0, "first sequence of each partition; without it, behind the tail (with --no-follow: the first there is)")
	f.Uint64Var(&count, "count", 0, "end after this many records; 0 means no bound")
	f.BoolVar(&noFollow, "no-follow", false, "end at the tail of this moment")
	f.BoolVar(&skipExpired, "skip-expired", false, "when records have expired before they were read, say which, and go on at the first that is left")
	return cmd
}

func (c *console) tail(ctx context.Context, cfg consumer.Config, count uint64) error {
	following := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cfg.OnRetry = func(err error, _ time.Duration) {
		if !fault.ReasonOf(err).Temporary() {
			cancel(err) // the loop would wait for somebody to mend it; somebody watches
		}
	}
	reader, err := consumer.Open(cfg)
	if err != nil {
		return err
	}
	defer reader.Close()
	w := bufio.NewWriter(c.out)
	printed := uint64(0)
	for r, err := range reader.Records(ctx) {
		if err == nil {
			err = c.printRecord(w, r)
		} else if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if err != nil {
			if !cfg.StopAtTail && following.Err() != nil && errors.Is(err, context.Canceled) {
				err = nil // interrupting is how following ends
			}
			return errors.Join(tailing(err), w.Flush())
		}
		printed++
		if printed == count {
			break
		}
		// Somebody watches a live tail; a bounded one is for a program, which gets it by the buffer.
		if !cfg.StopAtTail {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

// tailing says what records that are not there mean for whoever asked for them.
func tailing(err error) error {
	var expired *consumer.Expired
	var cut *consumer.HistoryCut
	switch {
	case errors.As(err, &expired):
		return fault.New(fault.Expired, "%w; the first there is has sequence %d: --skip-expired goes on there", err, expired.Head)
	case errors.As(err, &cut) && cut.Had.Epoch == 0:
		return fault.New(fault.AheadOfTail, "sequence %d of partition %d does not exist yet: its tail is %d", cut.Had.Sequence+1, cut.Partition, cut.Tail)
	case errors.As(err, &cut):
		return fault.New(fault.EpochMismatch, "%w", err)
	}
	return err
}

func (c *console) printRecord(w *bufio.Writer, r consumer.Record) error {
	if !c.json {
		value := fmt.Sprintf("%q", r.Value)
		if utf8.Valid(r.Value) {
			value = string(r.Value)
		}
		if r.Tombstone {
			value = "(deleted)"
		}
		_, err := fmt.Fprintf(w, "%d %s %s\n", r.Position.Sequence, r.Key, value)
		return err
	}
	members := map[string]any{"partition": r.Partition, "epoch": r.Position.Epoch, "sequence": r.Position.Sequence, "time_ms": r.TimeMS, "key": r.Key}
	if len(r.Headers) > 0 {
		members["headers"] = json.RawMessage(r.Headers)
	}
	if r.Tombstone {
		members["tombstone"] = true
	} else {
		addValue(members, r.Value)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(members)
}
