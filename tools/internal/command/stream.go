package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
)

func newStream(c *console) *cobra.Command {
	return group("stream", "Create, list, inspect and delete streams", newStreamCreate(c), newStreamList(c), newStreamInfo(c), newStreamDelete(c))
}

// streams calls ingest's Streams service.
func (c *console) streams(call func(ingestv1.StreamsClient) error) error {
	conn, err := c.dial(c.ingest, "ingest")
	if err != nil {
		return err
	}
	defer conn.Close()
	return reach(call(ingestv1.NewStreamsClient(conn)), "ingest", c.ingest, "ingest")
}

func newStreamCreate(c *console) *cobra.Command {
	var spec streamv1.StreamSpec
	var retention streamv1.Retention
	var keyless, ifAbsent bool
	var maxAge time.Duration
	var schemaFile string
	cmd := &cobra.Command{
		Use: "create STREAM", Short: "Create a stream", Args: exactly("STREAM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Name, spec.Keyed = args[0], !keyless
			if maxAge < 0 {
				return usage("--max-age %v is negative", maxAge)
			}
			retention.MaxAgeMs = uint64(maxAge.Milliseconds())
			spec.Retention = &retention
			if schemaFile != "" {
				schema, err := os.ReadFile(schemaFile)
				if err != nil {
					return usage("--schema: %w", err)
				}
				spec.JsonSchema = string(schema)
			}
			return c.streams(func(s ingestv1.StreamsClient) error {
				answer, err := s.CreateStream(cmd.Context(), &ingestv1.CreateStreamRequest{Spec: &spec, IfAbsent: ifAbsent})
				if err != nil {
					return err
				}
				if c.json {
					return c.streamLine(answer.GetStream(), map[string]any{"created": answer.GetCreated()})
				}
				verb := "exists already"
				if answer.GetCreated() {
					verb = "created"
				}
				_, err = fmt.Fprintf(c.out, "stream %s %s: %s\n", spec.GetName(), verb, describe(answer.GetStream()))
				return err
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&keyless, "keyless", false, "records have no keys: a log without a state, which cannot have replicas")
	f.Uint32Var(&spec.Partitions, "partitions", 1, "number of partitions, 1 to 1024; fixed for the life of the stream")
	f.DurationVar(&maxAge, "max-age", 0, "let records go after this time, such as 72h; 0 keeps them")
	f.Uint64Var(&retention.MaxBytes, "max-bytes", 0, "bytes of log kept per partition; 0 means no bound")
	f.Uint64Var(&retention.MaxRecords, "max-records", 0, "records of log kept per partition; 0 means no bound")
	f.BoolVar(&retention.UntilConsumed, "until-consumed", false, "also let go of what every registered consumer has passed")
	f.StringVar(&schemaFile, "schema", "", "file with a JSON Schema every value must satisfy")
	f.Uint32Var(&spec.MaxValueBytes, "max-value-bytes", 0, "largest value; 0 means the service's limit")
	f.BoolVar(&ifAbsent, "if-absent", false, "not an error when a stream of the same properties exists")
	return cmd
}

func newStreamList(c *console) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the streams", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.streams(func(s ingestv1.StreamsClient) error {
			answer, err := s.ListStreams(cmd.Context(), &ingestv1.ListStreamsRequest{})
			if err != nil {
				return err
			}
			var rows [][]any
			for _, stream := range answer.GetStreams() {
				if c.json {
					if err := c.streamLine(stream, nil); err != nil {
						return err
					}
					continue
				}
				records, bytes := extent(stream)
				rows = append(rows, []any{stream.GetSpec().GetName(), kindOf(stream), len(stream.GetLanes()), records, bytes})
			}
			if c.json {
				return nil
			}
			if len(rows) == 0 {
				c.say("there are no streams yet; `lockstep stream create NAME` makes one")
				return nil
			}
			return c.table([]any{"STREAM", "KIND", "PARTITIONS", "RECORDS", "BYTES"}, rows)
		})
	}}
}

func newStreamInfo(c *console) *cobra.Command {
	return &cobra.Command{Use: "info STREAM", Short: "Show a stream's properties and where its partitions stand", Args: exactly("STREAM"), RunE: func(cmd *cobra.Command, args []string) error {
		stream, err := c.stream(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		expiring, unknown := c.expiring(cmd.Context(), args[0])
		if c.json {
			extra := map[string]any{}
			if unknown == nil {
				extra["expiring"] = expiring
			}
			return c.streamLine(stream, extra)
		}
		if _, err := fmt.Fprintf(c.out, "stream %s: %s, created %s\n", args[0], describe(stream), moment(stream.GetCreatedMs())); err != nil {
			return err
		}
		var rows [][]any
		for _, l := range stream.GetLanes() {
			digest := "-"
			if d := l.GetDigest(); d != nil {
				digest = fmt.Sprintf("%x (%d rows at %d)", d.GetSum(), d.GetCount(), d.GetSequence())
			}
			rows = append(rows, []any{l.GetPartition(), l.GetEpoch(), l.GetHead(), l.GetTail(), moment(l.GetTailTimeMs()), l.GetBytes(), digest, l.GetStopped()})
		}
		if err := c.table([]any{"PARTITION", "EPOCH", "HEAD", "TAIL", "TAIL TIME", "BYTES", "DIGEST", "STOPPED"}, rows); err != nil {
			return err
		}
		if unknown != nil {
			c.say("who will need a resync is not known: %v", unknown)
			return nil
		}
		return c.warn(expiring)
	}}
}

func newStreamDelete(c *console) *cobra.Command {
	return &cobra.Command{Use: "delete STREAM", Short: "Delete a stream, its records and its state, for good", Args: exactly("STREAM"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.streams(func(s ingestv1.StreamsClient) error {
			if _, err := s.DeleteStream(cmd.Context(), &ingestv1.DeleteStreamRequest{Name: args[0]}); err != nil {
				return err
			}
			if c.json {
				return c.line(map[string]any{"stream": args[0], "deleted": true})
			}
			_, err := fmt.Fprintf(c.out, "stream %s deleted\n", args[0])
			return err
		})
	}}
}

// stream asks ingest for one stream.
func (c *console) stream(ctx context.Context, name string) (stream *streamv1.Stream, err error) {
	err = c.streams(func(s ingestv1.StreamsClient) error {
		answer, err := s.GetStream(ctx, &ingestv1.GetStreamRequest{Name: name})
		stream = answer.GetStream()
		return err
	})
	return stream, err
}

// streamLine writes a stream in the contract's own JSON, with extra members.
func (c *console) streamLine(stream *streamv1.Stream, extra map[string]any) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(stream)
	if err != nil {
		return err
	}
	members := map[string]any{}
	var own map[string]json.RawMessage
	if err := json.Unmarshal(text, &own); err != nil {
		return err
	}
	for name, value := range own {
		members[name] = value
	}
	for name, value := range extra {
		members[name] = value
	}
	return c.line(members)
}

func extent(stream *streamv1.Stream) (records, bytes uint64) {
	for _, l := range stream.GetLanes() {
		records += l.GetTail() + 1 - l.GetHead()
		bytes += l.GetBytes()
	}
	return records, bytes
}

func kindOf(stream *streamv1.Stream) string {
	if stream.GetSpec().GetKeyed() {
		return "keyed"
	}
	return "keyless"
}

func describe(stream *streamv1.Stream) string {
	text := fmt.Sprintf("%s, %d partition(s)", kindOf(stream), max(1, stream.GetSpec().GetPartitions()))
	r := stream.GetSpec().GetRetention()
	if r.GetMaxAgeMs() > 0 {
		text += fmt.Sprintf(", kept for %v", time.Duration(r.GetMaxAgeMs())*time.Millisecond)
	}
	if r.GetMaxBytes() > 0 {
		text += fmt.Sprintf(", at most %d bytes per partition", r.GetMaxBytes())
	}
	if r.GetMaxRecords() > 0 {
		text += fmt.Sprintf(", at most %d records per partition", r.GetMaxRecords())
	}
	if r.GetUntilConsumed() {
		text += ", until consumed"
	}
	return text
}

// moment writes milliseconds since 1970 for people; "-" for none.
func moment(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}
