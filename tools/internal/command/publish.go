package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/tools/internal/jsonlines"
	"github.com/lockstep-mq/lockstep/tools/internal/progress"
	"github.com/lockstep-mq/lockstep/tools/internal/publisher"
)

// readAhead is how many parsed lines wait at most while a request is on its way.
const readAhead = publisher.MaxRequestRecords

type publishing struct {
	c        *console
	stream   string
	keyField string
	skipBad  bool
	retryFor time.Duration

	bar       *progress.Bar
	published uint64
	skipped   uint64
}

func newPublish(c *console) *cobra.Command {
	p := &publishing{c: c}
	cmd := &cobra.Command{
		Use:   "publish STREAM [FILE|-]",
		Short: "Publish JSON lines; each line is a value, stored byte for byte",
		Long: `Publish JSON lines from a file or standard input; each line is a value, stored byte for byte.

A stream that does not exist is created: keyed with --key, else keyless. The command ends when every record is durable.
With --json one line per record is printed once it is durable: {"line":1,"key":"a","partition":0,"epoch":1,"sequence":1}.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage("`lockstep publish` takes STREAM and at most one FILE; %d arguments were given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.stream = args[0]
			input, size := c.in, int64(0)
			if len(args) == 2 && args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return usage("%w", err)
				}
				defer func() { _ = f.Close() }() // only read
				input = f
				if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
					size = info.Size()
				}
			}
			return p.run(cmd.Context(), input, size)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.keyField, "key", "", "name of the top-level field that is the record's key")
	f.BoolVar(&p.skipBad, "skip-bad", false, "leave out lines that cannot be taken, and count them")
	f.DurationVar(&p.retryFor, "retry-for", 30*time.Second, "how long to retry while nothing gets through")
	return cmd
}

func (p *publishing) run(ctx context.Context, input io.Reader, sizeBytes int64) error {
	conn, err := p.c.dial(p.c.ingest, "ingest")
	if err != nil {
		return err
	}
	defer conn.Close()
	warned := false
	retrying := func(err error) {
		if !warned {
			p.c.say("no records are taken just now, retrying for %v: %v", p.retryFor, err)
			warned = true
		}
	}
	err = publisher.Patiently(ctx, p.retryFor, retrying, func(ctx context.Context) error { return p.c.ensureStream(ctx, p.stream, p.keyField != "") })
	if err != nil {
		return err
	}
	out, err := publisher.Open(ctx, ingestv1.NewIngestClient(conn), publisher.Config{
		Stream: lane.StreamName(p.stream), GiveUpAfter: p.retryFor, OnRetry: retrying,
	})
	if err != nil {
		return reach(err, "ingest", p.c.ingest, "ingest")
	}
	p.bar = progress.Start(p.c.err, p.c.onTerminal(), "publish "+p.stream, sizeBytes)
	err = p.pump(ctx, out, input)
	p.bar.Stop()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("published %d records to %s", p.published, p.stream)
	if p.skipped > 0 {
		text += fmt.Sprintf("; left out %d bad lines", p.skipped)
	}
	p.c.say("%s", text)
	return nil
}

// pump gathers what has been read into requests; it never waits for a fuller one.
func (p *publishing) pump(ctx context.Context, out *publisher.Publisher, input io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type read struct {
		line jsonlines.Line
		err  error
	}
	lines := make(chan read, readAhead)
	go func() { // ends at the input's end, its first bad line unless skipping, or when pump returns; a blocked read ends with the process
		defer close(lines)
		r := jsonlines.NewReader(input, p.keyField)
		for {
			line, err := r.Next()
			select {
			case lines <- read{line, err}:
			case <-ctx.Done():
				return
			}
			var bad *jsonlines.BadLine
			if err != nil && !errors.As(err, &bad) {
				return
			}
		}
	}()
	w := bufio.NewWriter(p.c.out) // flushed by send
	var batch []jsonlines.Line
	var bytes int
	send := func() error {
		err := p.send(ctx, out, batch, w)
		batch, bytes = batch[:0], 0
		return errors.Join(err, w.Flush())
	}
	for {
		if len(batch) > 0 && (len(lines) == 0 || len(batch) == publisher.MaxRequestRecords || bytes >= publisher.MaxRequestBytes) {
			if err := send(); err != nil {
				return err
			}
		}
		var next read
		select {
		case next = <-lines:
		case <-ctx.Done():
			return ctx.Err()
		}
		var bad *jsonlines.BadLine
		switch {
		case errors.Is(next.err, io.EOF):
			if len(batch) > 0 {
				return send()
			}
			return nil
		case errors.As(next.err, &bad) && p.skipBad:
			p.leaveOut(bad)
		case next.err != nil:
			if len(batch) > 0 {
				if err := send(); err != nil {
					return err
				}
			}
			return p.stopped(next.err)
		default:
			batch = append(batch, next.line)
			bytes += len(next.line.Key) + len(next.line.Value)
		}
	}
}

func (p *publishing) leaveOut(bad *jsonlines.BadLine) {
	p.skipped++
	if p.skipped <= 10 {
		p.c.say("left out: %v", bad)
	} else if p.skipped == 11 {
		p.c.say("left out: more lines, counted at the end")
	}
}

// stopped says what was kept when a line ends the command.
func (p *publishing) stopped(err error) error {
	return fault.New(fault.ReasonOf(err), "%w\n%d records of other lines are published and durable; mend the line, or leave such lines out with --skip-bad", err, p.published)
}

// send publishes lines and writes their places to w with --json.
func (p *publishing) send(ctx context.Context, out *publisher.Publisher, lines []jsonlines.Line, w io.Writer) error {
	records := make([]*ingestv1.Record, len(lines))
	bytes := 0
	for i, l := range lines {
		records[i] = &ingestv1.Record{Key: l.Key, Value: l.Value}
		bytes += len(l.Value) + 1
	}
	fates, err := out.Publish(ctx, records)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fault.New(fault.ReasonOf(err), "from line %d on records may not be published; the %d before are durable: %w", lines[0].Number, p.published, err)
	}
	var first error
	for i, fate := range fates {
		if fate.Fault != nil {
			bad := &jsonlines.BadLine{Number: lines[i].Number, Fault: fate.Fault}
			if p.skipBad {
				p.leaveOut(bad)
			} else if first == nil {
				first = bad
			}
			continue
		}
		p.published++
		if p.c.json {
			if _, err := fmt.Fprintf(w, `{"line":%d,"key":%s,"partition":%d,"epoch":%d,"sequence":%d}`+"\n",
				lines[i].Number, quoted(lines[i].Key), fate.Partition, fate.At.Epoch, fate.At.Sequence); err != nil {
				return err
			}
		}
	}
	p.bar.Add(int64(bytes))
	if first != nil {
		return p.stopped(first)
	}
	return nil
}

// ensureStream creates the stream if there is none, and says so.
func (c *console) ensureStream(ctx context.Context, name string, keyed bool) error {
	if err := lane.CheckName("stream", name); err != nil {
		return err
	}
	stream, err := c.stream(ctx, name)
	switch {
	case err == nil:
		if stream.GetSpec().GetKeyed() && !keyed {
			return usage("stream %q is keyed: say with --key which field of a line is the key", name)
		}
		return nil
	case !errors.Is(err, fault.UnknownStream):
		return err
	}
	return c.streams(func(s ingestv1.StreamsClient) error {
		answer, err := s.CreateStream(ctx, &ingestv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: name, Partitions: 1, Keyed: keyed}, IfAbsent: true})
		if err == nil && answer.GetCreated() {
			c.say("stream %s did not exist; created it: %s", name, describe(answer.GetStream()))
		}
		return err
	})
}
