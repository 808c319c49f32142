package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/producer"
	"github.com/lockstep-mq/lockstep/tools/internal/jsonlines"
	"github.com/lockstep-mq/lockstep/tools/internal/progress"
)

// readAhead is how many parsed lines wait at most for the producer.
const readAhead = 1024

type publishing struct {
	c        *console
	stream   string
	keyField string
	skipBad  bool
	retryFor time.Duration

	bar       *progress.Bar
	published uint64
	enough    chan struct{} // closed when first is set

	mu      sync.Mutex // protects what follows: lines are read on another goroutine than outcomes are
	skipped uint64
	first   error // the first line that cannot be taken
}

func newPublish(c *console) *cobra.Command {
	p := &publishing{c: c, enough: make(chan struct{})}
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
	warned := false
	retrying := func(err error) {
		if !warned {
			p.c.say("no records are taken just now, retrying for %v: %v", p.retryFor, err)
			warned = true
		}
	}
	err := patiently(ctx, p.retryFor, retrying, func(ctx context.Context) error { return p.c.ensureStream(ctx, p.stream, p.keyField != "") })
	if err != nil {
		return err
	}
	out, err := p.c.producer(ctx, p.stream, p.retryFor, retrying)
	if err != nil {
		return err
	}
	defer leave(out)
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

// read is a line of the input, or why there is none.
type read struct {
	line jsonlines.Line
	err  error
}

// pump publishes the lines of input and hears of each.
func (p *publishing) pump(ctx context.Context, out *producer.Producer, input io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan read, readAhead)
	go func() { // ends at the input's end, its first bad line unless skipping, or when pump returns; a blocked read ends with the process
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
	records := func(yield func(producer.Record) bool) {
		for {
			select {
			case next := <-lines:
				var bad *jsonlines.BadLine
				switch {
				case errors.Is(next.err, io.EOF):
					return
				case errors.As(next.err, &bad) && p.skipBad:
					p.leaveOut(bad)
				case next.err != nil:
					p.stop(next.err)
					return
				case !yield(producer.Record{Key: next.line.Key, Value: next.line.Value, Tag: next.line.Number}):
					return
				}
			case <-p.enough:
				return
			case <-ctx.Done():
				return
			}
		}
	}
	w := bufio.NewWriter(p.c.out)
	for outcomes, err := range out.PublishAll(ctx, records) {
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			return p.unknown("no more records are taken", err)
		}
		for _, o := range outcomes {
			if err := p.settle(o, w); err != nil {
				return errors.Join(err, w.Flush())
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first != nil {
		return fault.New(fault.ReasonOf(p.first), "%w\n%d records of other lines are published and durable; mend the line, or leave such lines out with --skip-bad", p.first, p.published)
	}
	return nil
}

// settle counts a record and, with --json, says where it is. An error means that nothing is known of the records that follow.
func (p *publishing) settle(o producer.Outcome, w io.Writer) error {
	p.bar.Add(int64(len(o.Record.Value)) + 1)
	number, _ := o.Record.Tag.(int)
	switch {
	case o.Err == nil:
		p.published++
	case !ofRecord(o.Err):
		return p.unknown(fmt.Sprintf("from line %d on records may not be published", number), o.Err)
	case p.skipBad:
		p.leaveOut(&jsonlines.BadLine{Number: number, Fault: fault.Of(o.Err)})
		return nil
	default:
		p.stop(&jsonlines.BadLine{Number: number, Fault: fault.Of(o.Err)})
		return nil
	}
	if !p.c.json {
		return nil
	}
	_, err := fmt.Fprintf(w, `{"line":%d,"key":%s,"partition":%d,"epoch":%d,"sequence":%d}`+"\n",
		number, quoted(o.Record.Key), o.Ack.Partition, o.Ack.Position.Epoch, o.Ack.Position.Sequence)
	return err
}

// unknown says what was kept when nothing gets through any more.
func (p *publishing) unknown(what string, err error) error {
	return fault.New(fault.ReasonOf(err), "%s; %d are known to be durable: %w", what, p.published, err)
}

// stop ends the reading at the first line that cannot be taken; what is on its way is still heard of.
func (p *publishing) stop(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = why
		close(p.enough)
	}
}

func (p *publishing) leaveOut(bad *jsonlines.BadLine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skipped++
	if p.skipped <= 10 {
		p.c.say("left out: %v", bad)
	} else if p.skipped == 11 {
		p.c.say("left out: more lines, counted at the end")
	}
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
