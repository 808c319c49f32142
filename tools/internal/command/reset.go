package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

func newReset(c *console) *cobra.Command {
	r := resetting{c: c}
	cmd := &cobra.Command{
		Use:   "reset STREAM {verify|repair|full|from SEQUENCE|from-time TIME} {--consumer ID|--all}",
		Short: "Tell consumers to verify what they hold, or to take it again",
		Long: `Tell consumers to verify what they hold, or to take it again.

  verify          re-read every row, compare, and change nothing (replicas)
  repair          make equal what differs, moving as little as possible (replicas)
  full            take the whole state again, whatever it is (replicas)
  from SEQUENCE   take again what came since, in every partition; a log consumer's cursors move back
  from-time TIME  the same since a time, such as 2026-11-25T08:00:00Z, or 2h for two hours ago

A consumer that is away hears of it when it comes. A newer command to the same consumer takes the place of one that has not ended.
The same command again under the same --id changes nothing and says how far it is.`,
		Args: func(cmd *cobra.Command, args []string) error { return r.read(args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&r.consumer, "consumer", "", "the consumer it is for")
	f.BoolVar(&r.all, "all", false, "for every consumer of the stream that is registered now")
	f.BoolVar(&r.command.DryRun, "dry-run", false, "find out what would be moved, and move nothing")
	f.StringVar(&r.rate, "rate", "", "most bytes a second each consumer may move for it, such as 500k or 10MiB")
	f.StringVar(&r.command.CommandId, "id", "", "name of the command, so that it can be said twice (default: made)")
	f.StringVar(&r.command.Why, "why", "", "a note for people")
	f.BoolVar(&r.wait, "wait", false, "end when every consumer has; exit code 1 when one has not done it")
	f.DurationVar(&r.timeout, "timeout", 0, "with --wait: how long; 0 means until all have ended")
	cmd.AddCommand(newResetList(c))
	return cmd
}

// resetting is one run of the reset command.
type resetting struct {
	c        *console
	command  consumerv1.Command
	consumer string
	all      bool
	rate     string
	wait     bool
	timeout  time.Duration
}

// actions are the words of the command line.
var actions = map[string]consumerv1.Action{
	"verify": consumerv1.Action_ACTION_VERIFY, "repair": consumerv1.Action_ACTION_REPAIR, "full": consumerv1.Action_ACTION_FULL,
	"from": consumerv1.Action_ACTION_FROM_SEQUENCE, "from-time": consumerv1.Action_ACTION_FROM_TIME,
}

func (r *resetting) read(args []string) (err error) {
	const form = "`lockstep reset` takes STREAM and one of verify, repair, full, from SEQUENCE, from-time TIME"
	if len(args) < 2 {
		return usage(form+"; %d arguments were given; see `lockstep reset --help`", len(args))
	}
	action, rest := actions[args[1]], args[2:]
	r.command.Stream, r.command.Action = args[0], action
	switch {
	case action == 0:
		return usage(form+", and not %q", args[1])
	case action < consumerv1.Action_ACTION_FROM_SEQUENCE && len(rest) > 0:
		return usage("`%s` takes nothing more, and %q was given", args[1], rest[0])
	case action >= consumerv1.Action_ACTION_FROM_SEQUENCE && len(rest) != 1:
		return usage("`%s` takes where to begin, and %d arguments were given", args[1], len(rest))
	case action == consumerv1.Action_ACTION_FROM_SEQUENCE:
		r.command.FromSequence, err = strconv.ParseUint(rest[0], 10, 64)
		if err != nil || r.command.FromSequence == 0 {
			return usage("`from` takes a sequence, a number from 1 on, and not %q", rest[0])
		}
	case action == consumerv1.Action_ACTION_FROM_TIME:
		at, err := readMoment(rest[0], time.Now())
		if err != nil {
			return err
		}
		r.command.FromTimeMs = at.UnixMilli()
	}
	return nil
}

// readMoment takes a moment, or how long ago it was.
func readMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil && at.UnixMilli() > 0 {
			return at, nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 && now.Add(-ago).UnixMilli() > 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, usage("%q is no time: give one such as 2026-11-25T08:00:00Z or 2026-11-25 (UTC), or how long ago, such as 2h", text)
}

func (r *resetting) run(ctx context.Context) (err error) {
	if r.rate != "" {
		if r.command.MaxBytesPerSecond, err = readBytes(strings.TrimSuffix(r.rate, "/s")); err != nil {
			return usage("--rate: %w", err)
		}
	}
	if r.timeout < 0 {
		return usage("--timeout %v is negative", r.timeout)
	}
	if r.timeout > 0 && !r.wait {
		return usage("--timeout says how long to wait, and --wait was not given")
	}
	if r.all == (r.consumer != "") {
		return r.whom(ctx)
	}
	stream, err := r.c.stream(ctx, r.command.GetStream())
	if err != nil {
		return err
	}
	r.command.StreamId = stream.GetId()
	return r.c.keeper(func(k consumerv1.ConsumerStateClient) error {
		issued, err := k.IssueReset(ctx, &consumerv1.IssueResetRequest{Command: &r.command, ConsumerId: r.consumer, All: r.all})
		if err != nil {
			return err
		}
		if err := r.tell(issued); err != nil || !r.wait {
			return err
		}
		return r.follow(ctx, k, issued)
	})
}

// whom is the answer to a command for nobody in particular.
func (r *resetting) whom(ctx context.Context) error {
	names := "it has none"
	if err := r.c.keeper(func(k consumerv1.ConsumerStateClient) error {
		answer, err := k.ListConsumers(ctx, &consumerv1.ListConsumersRequest{Stream: r.command.GetStream()})
		if known := consumerIDs(answer.GetConsumers()); known != "" {
			names = "its consumers are " + known
		}
		return err
	}); err != nil {
		return err
	}
	return usage("say whom of stream %q it is for, by --consumer ID or by --all: %s", r.command.GetStream(), names)
}

// tell says what was issued. With --wait the results come later.
func (r *resetting) tell(issued *consumerv1.IssueResetResponse) error {
	if r.c.json && !r.wait {
		return r.c.message(issued)
	}
	id, whom := issued.GetCommand().GetCommandId(), counts(len(issued.GetConsumerIds()), "consumer")
	text := fmt.Sprintf("command %s: %s of %s, for %s", id, actionWord(issued.GetCommand()), issued.GetCommand().GetStream(), whom)
	if issued.GetRepeated() {
		text = fmt.Sprintf("command %s was issued before, %s, for %s", id, ago(issued.GetCommand().GetIssuedMs()), whom)
	}
	if r.wait {
		r.c.say("%s; waiting for it, and it goes on when this is interrupted", text)
		return nil
	}
	r.c.say("`lockstep reset list --stream %s` says how far it is", issued.GetCommand().GetStream())
	_, err := fmt.Fprintln(r.c.out, text)
	return err
}

// resetPoll is how often a command is looked at.
const resetPoll = 250 * time.Millisecond

// follow waits until no consumer has the command open, and gives what came of it.
func (r *resetting) follow(ctx context.Context, k consumerv1.ConsumerStateClient, issued *consumerv1.IssueResetResponse) error {
	id := issued.GetCommand().GetCommandId()
	tick := time.NewTicker(resetPoll)
	defer tick.Stop()
	var late <-chan time.Time
	if r.timeout > 0 {
		timer := time.NewTimer(r.timeout)
		defer timer.Stop()
		late = timer.C
	}
	told := map[string]string{}
	for {
		answer, err := k.ListResets(ctx, &consumerv1.ListResetsRequest{Stream: issued.GetCommand().GetStream(), CommandId: id})
		if err != nil {
			return err
		}
		var open []string
		for _, reset := range answer.GetResets() {
			if !ended(reset) {
				open = append(open, reset.GetConsumerId())
			}
			if line := stateWord(reset); told[reset.GetConsumerId()] != line {
				told[reset.GetConsumerId()] = line
				r.c.say("%s: %s", reset.GetConsumerId(), line)
			}
		}
		if len(open) == 0 {
			return r.conclude(answer.GetResets(), len(issued.GetConsumerIds()))
		}
		select {
		case <-tick.C:
		case <-late:
			return fault.New(fault.Unavailable, "command %s is still open at %s after %v: %s; it stays, and `lockstep reset list` says how far it is",
				id, counts(len(open), "consumer"), r.timeout, listed(open))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// conclude writes the results; an error when not every consumer has done it.
func (r *resetting) conclude(resets []*consumerv1.Reset, meant int) error {
	if err := r.c.resets(resets); err != nil {
		return err
	}
	notDone := meant - len(resets) // deleted meanwhile
	for _, reset := range resets {
		if reset.GetProgress().GetState() != consumerv1.ResetState_RESET_STATE_DONE {
			notDone++
		}
	}
	if notDone > 0 {
		return fault.New(fault.Unavailable, "%d of %s did not do it", notDone, counts(meant, "consumer"))
	}
	return nil
}

func newResetList(c *console) *cobra.Command {
	var stream, consumer string
	cmd := &cobra.Command{Use: "list", Short: "List commands to consumers, and what came of them", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.keeper(func(k consumerv1.ConsumerStateClient) error {
			answer, err := k.ListResets(cmd.Context(), &consumerv1.ListResetsRequest{Stream: stream, ConsumerId: consumer})
			if err != nil {
				return err
			}
			if len(answer.GetResets()) == 0 {
				c.say("no command is kept; `lockstep reset STREAM verify --all` gives one")
				return nil
			}
			return c.resets(answer.GetResets())
		})
	}}
	cmd.Flags().StringVar(&stream, "stream", "", "only of this stream")
	cmd.Flags().StringVar(&consumer, "consumer", "", "only to this consumer")
	return cmd
}

// resets writes commands as a table, or as one JSON object a line.
func (c *console) resets(resets []*consumerv1.Reset) error {
	var rows [][]any
	for _, r := range resets {
		if c.json {
			if err := c.message(r); err != nil {
				return err
			}
			continue
		}
		p := r.GetProgress()
		rows = append(rows, []any{r.GetCommand().GetStream(), r.GetConsumerId(), r.GetCommand().GetCommandId(), actionWord(r.GetCommand()),
			word(p.GetState().String(), "RESET_STATE_"), orDash(word(p.GetRung().String(), "RUNG_")), p.GetDiffering(), p.GetMissing(), p.GetExtra(),
			bytesWord(p.GetMovedBytes()), time.Duration(p.GetTookMs()) * time.Millisecond, ago(r.GetCommand().GetIssuedMs()), p.GetProblem()})
	}
	if c.json {
		return nil
	}
	return c.table([]any{"STREAM", "CONSUMER", "COMMAND", "ACTION", "STATE", "RUNG", "DIFFERING", "MISSING", "EXTRA", "MOVED", "TOOK", "ISSUED", "PROBLEM"}, rows)
}

// message writes a message of the contract as one JSON object.
func (c *console) message(m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", text)
	return err
}

func ended(r *consumerv1.Reset) bool {
	return r.GetProgress().GetState() >= consumerv1.ResetState_RESET_STATE_DONE
}

// stateWord is how far a command is, for people who wait.
func stateWord(r *consumerv1.Reset) string {
	p := r.GetProgress()
	text := word(p.GetState().String(), "RESET_STATE_")
	if rung := word(p.GetRung().String(), "RUNG_"); rung != "" {
		text += " (" + rung + ")"
	}
	if p.GetProblem() != "" {
		text += ": " + p.GetProblem()
	}
	return text
}

func actionWord(c *consumerv1.Command) string {
	text := word(c.GetAction().String(), "ACTION_")
	switch c.GetAction() {
	case consumerv1.Action_ACTION_FROM_SEQUENCE:
		text = fmt.Sprint("from ", c.GetFromSequence())
	case consumerv1.Action_ACTION_FROM_TIME:
		text = "from-time " + moment(c.GetFromTimeMs())
	}
	if c.GetDryRun() {
		text += " (dry run)"
	}
	return text
}
