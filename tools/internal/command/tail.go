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

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/tools/internal/lanetail"
)

func newTail(c *console) *cobra.Command {
	var from, count uint64
	var noFollow bool
	cmd := &cobra.Command{
		Use:   "tail STREAM",
		Short: "Print records as they are committed",
		Long: `Print records as they are committed: behind the tail, or from --from on.

With --json each line has partition, epoch, sequence, time_ms, key, headers, and the value: under "value" when it is JSON, else as
"value_text" or "value_base64". A deletion has "tombstone":true.`,
		Args: exactly("STREAM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := lanetail.Config{
				Gateway: strings.Split(c.gateway, ",")[0], Token: c.token, Stream: lane.StreamName(args[0]), From: lane.Sequence(from),
				Bounded: noFollow, GiveUpAfter: 5 * time.Second, Log: c.log(),
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
	return cmd
}

// errEnough ends a tail that has printed --count records.
var errEnough = errors.New("enough")

func (c *console) tail(ctx context.Context, cfg lanetail.Config, count uint64) error {
	w := bufio.NewWriter(c.out)
	printed := uint64(0)
	err := lanetail.Read(ctx, cfg, func(r lanetail.Record) error {
		if count > 0 && printed == count {
			return errEnough // another partition's, already on its way when the last one was printed
		}
		if err := c.printRecord(w, r); err != nil {
			return err
		}
		printed++
		// Somebody watches a live tail; a bounded one is for a program, which gets it by the buffer.
		if !cfg.Bounded {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		if printed == count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || !cfg.Bounded && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // interrupting is how following ends
	}
	return errors.Join(err, w.Flush())
}

func (c *console) printRecord(w *bufio.Writer, r lanetail.Record) error {
	if !c.json {
		value := fmt.Sprintf("%q", r.Value)
		if utf8.Valid(r.Value) {
			value = string(r.Value)
		}
		if r.Tombstone {
			value = "(deleted)"
		}
		_, err := fmt.Fprintf(w, "%d %s %s\n", r.Sequence, r.Key, value)
		return err
	}
	members := map[string]any{"partition": r.Partition, "epoch": r.Epoch, "sequence": r.Sequence, "time_ms": r.TimeMS, "key": string(r.Key)}
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
