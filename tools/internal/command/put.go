package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/sdk/producer"
)

func newPut(c *console) *cobra.Command {
	var headers map[string]string
	cmd := &cobra.Command{
		Use: "put STREAM KEY VALUE", Short: "Publish one record; VALUE is stored byte for byte", Args: exactly("STREAM", "KEY", "VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.publishAll(cmd.Context(), args[0], []producer.Record{{Key: args[1], Value: []byte(args[2]), Headers: headers}}, "put")
		},
	}
	cmd.Flags().StringToStringVar(&headers, "header", nil, "a header, NAME=TEXT; may be given more than once")
	return cmd
}

func newDelete(c *console) *cobra.Command {
	var keysFrom string
	cmd := &cobra.Command{
		Use: "delete STREAM KEY...", Short: "Delete keys from a stream's state, each by a tombstone record",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("`lockstep delete` takes STREAM and KEYs, or STREAM and --keys-from FILE")
			}
			if len(args) == 1 && keysFrom == "" {
				return usage("name the keys to delete, or a file with one per line: --keys-from FILE (to delete the stream: `lockstep stream delete %s`)", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			keys := args[1:]
			if keysFrom != "" {
				more, err := c.keysIn(keysFrom)
				if err != nil {
					return err
				}
				keys = append(keys, more...)
			}
			records := make([]producer.Record, len(keys))
			for i, key := range keys {
				records[i] = producer.Record{Key: key, Tombstone: true}
			}
			return c.publishAll(cmd.Context(), args[0], records, "delete")
		},
	}
	cmd.Flags().StringVar(&keysFrom, "keys-from", "", "file with one key per line; - for standard input")
	return cmd
}

// keysIn reads one key per line; empty lines are left out.
func (c *console) keysIn(file string) ([]string, error) {
	input := c.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("--keys-from: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		input = f
	}
	var keys []string
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 2*record.MaxKeyBytes)
	for lines.Scan() {
		if key := lines.Text(); key != "" {
			keys = append(keys, key)
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fault.New(fault.RecordTooLarge, "line %d is longer than a key may be (%d bytes); nothing was deleted", len(keys)+1, record.MaxKeyBytes)
		}
		return nil, err
	}
	return keys, nil
}

// publishAll publishes records to a stream that exists and says where each went.
func (c *console) publishAll(ctx context.Context, stream string, records []producer.Record, verb string) error {
	if _, err := c.stream(ctx, stream); err != nil {
		return err
	}
	out, err := c.producer(ctx, stream, 10*time.Second, nil)
	if err != nil {
		return err
	}
	defer leave(out)
	done := 0
	var first error
	for outcomes, err := range out.PublishAll(ctx, slices.Values(records)) {
		if err != nil {
			return fault.New(fault.ReasonOf(err), "%d records were published, of the others it is not known: %w", done, err)
		}
		for _, o := range outcomes {
			if o.Err != nil && !ofRecord(o.Err) {
				return fault.New(fault.ReasonOf(o.Err), "%d records were published, of the others it is not known: %w", done, o.Err)
			}
			if o.Err != nil {
				if first == nil {
					first = fault.New(fault.ReasonOf(o.Err), "%s %s: %w", verb, o.Record.Key, o.Err)
				}
				continue
			}
			done++
			if err := c.tellPlace(verb, o); err != nil {
				return err
			}
		}
	}
	if first != nil {
		return fault.New(fault.ReasonOf(first), "%w (%d records were published)", first, done)
	}
	return nil
}

// tellPlace says where a record is stored.
func (c *console) tellPlace(verb string, o producer.Outcome) error {
	at := o.Ack.Position
	if c.json {
		return c.line(map[string]any{"key": o.Record.Key, "partition": o.Ack.Partition, "epoch": at.Epoch, "sequence": at.Sequence})
	}
	_, err := fmt.Fprintf(c.out, "%s %s: sequence %d of partition %d\n", verb, o.Record.Key, at.Sequence, o.Ack.Partition)
	return err
}
