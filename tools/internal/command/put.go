package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/tools/internal/publisher"
)

func newPut(c *console) *cobra.Command {
	var headers map[string]string
	cmd := &cobra.Command{
		Use: "put STREAM KEY VALUE", Short: "Publish one record; VALUE is stored byte for byte", Args: exactly("STREAM", "KEY", "VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.publishAll(cmd.Context(), args[0], []*ingestv1.Record{{Key: args[1], Value: []byte(args[2]), Headers: headers}}, "put")
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
			records := make([]*ingestv1.Record, len(keys))
			for i, key := range keys {
				records[i] = &ingestv1.Record{Key: key, Tombstone: true}
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
func (c *console) publishAll(ctx context.Context, stream string, records []*ingestv1.Record, verb string) error {
	if _, err := c.stream(ctx, stream); err != nil {
		return err
	}
	conn, err := c.dial(c.ingest, "ingest")
	if err != nil {
		return err
	}
	defer conn.Close()
	out, err := publisher.Open(ctx, ingestv1.NewIngestClient(conn), publisher.Config{Stream: lane.StreamName(stream), GiveUpAfter: 10 * time.Second})
	if err != nil {
		return reach(err, "ingest", c.ingest, "ingest")
	}
	done := 0
	for len(records) > 0 {
		n := min(len(records), publisher.MaxRequestRecords)
		fates, err := out.Publish(ctx, records[:n])
		if err != nil {
			return fault.New(fault.ReasonOf(err), "%d records were published, of the others it is not known: %w", done, err)
		}
		for i, fate := range fates {
			if fate.Fault != nil {
				return fault.New(fate.Fault.Reason(), "%s %s: %w (%d records were published)", verb, records[i].GetKey(), fate.Fault, done)
			}
			done++
			if c.json {
				if err := c.line(map[string]any{"key": records[i].GetKey(), "partition": fate.Partition, "epoch": fate.At.Epoch, "sequence": fate.At.Sequence}); err != nil {
					return err
				}
				continue
			}
			if _, err := fmt.Fprintf(c.out, "%s %s: sequence %d of partition %d\n", verb, records[i].GetKey(), fate.At.Sequence, fate.Partition); err != nil {
				return err
			}
		}
		records = records[n:]
	}
	return nil
}
