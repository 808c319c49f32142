package command

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

func newConsumer(c *console) *cobra.Command {
	return group("consumer", "See who consumes, how far they are and how they feel", newConsumerList(c), newConsumerShow(c), newConsumerDelete(c))
}

// keeper calls consumer-state.
func (c *console) keeper(call func(consumerv1.ConsumerStateClient) error) error {
	conn, err := c.dial(c.consumers, settings.ConsumerState)
	if err != nil {
		return err
	}
	defer conn.Close()
	return reach(call(consumerv1.NewConsumerStateClient(conn)), "consumer-state", c.consumers, settings.ConsumerState)
}

func newConsumerList(c *console) *cobra.Command {
	var stream string
	cmd := &cobra.Command{Use: "list", Short: "List consumers with their phase, progress and lag", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		consumers, err := c.consumersOf(cmd.Context(), stream, "")
		if err != nil {
			return err
		}
		var rows [][]any
		for _, one := range consumers {
			if c.json {
				if err := c.message(one); err != nil {
					return err
				}
				continue
			}
			records, seconds := lagOf(one)
			h := one.GetHealth()
			rows = append(rows, []any{one.GetStream(), one.GetConsumerId(), kindWord(one.GetKind()), phaseWord(one), orDash(word(h.GetRung().String(), "RUNG_")),
				progressWord(h), records, seconds, expiryWord(one), h.GetVerified(), h.GetMismatched(), lastCommand(h), ago(one.GetLastSeenMs())})
		}
		if c.json {
			return nil
		}
		if len(rows) == 0 {
			c.say("no consumer is registered; `lockstep replica STREAM FILE.db` registers one")
			return nil
		}
		return c.table([]any{"STREAM", "CONSUMER", "KIND", "PHASE", "RUNG", "PROGRESS", "LAG RECORDS", "LAG SECONDS", "EXPIRES", "VERIFIED", "MISMATCHED",
			"LAST COMMAND", "LAST SEEN"}, rows)
	}}
	cmd.Flags().StringVar(&stream, "stream", "", "only of this stream")
	return cmd
}

func newConsumerShow(c *console) *cobra.Command {
	return &cobra.Command{Use: "show STREAM CONSUMER", Short: "Show one consumer: lanes, progress, and the last commands to it", Args: exactly("STREAM", "CONSUMER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd.Context(), args[0], args[1])
		}}
}

func newConsumerDelete(c *console) *cobra.Command {
	return &cobra.Command{Use: "delete STREAM CONSUMER", Short: "Forget a consumer, its cursors and the commands to it: what waited for it goes on",
		Args: exactly("STREAM", "CONSUMER"), RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.keeper(func(k consumerv1.ConsumerStateClient) error {
				_, err := k.DeleteConsumer(cmd.Context(), &consumerv1.DeleteConsumerRequest{Stream: args[0], ConsumerId: args[1]})
				return err
			}); err != nil {
				return err
			}
			if c.json {
				return c.line(map[string]any{"stream": args[0], "consumer": args[1], "deleted": true})
			}
			_, err := fmt.Fprintf(c.out, "consumer %s of %s deleted\n", args[1], args[0])
			return err
		}}
}

func (c *console) show(ctx context.Context, stream, id string) error {
	consumers, err := c.consumersOf(ctx, stream, id)
	if err != nil {
		return err
	}
	if len(consumers) == 0 {
		return c.noConsumer(ctx, stream, id)
	}
	var resets []*consumerv1.Reset
	if err := c.keeper(func(k consumerv1.ConsumerStateClient) error {
		answer, err := k.ListResets(ctx, &consumerv1.ListResetsRequest{Stream: stream, ConsumerId: id})
		resets = answer.GetResets()
		return err
	}); err != nil {
		return err
	}
	// A stream that was deleted and made again leaves consumers of its old self behind: the newest is meant.
	one := consumers[len(consumers)-1]
	if c.json {
		return c.showLine(one, resets)
	}
	h := one.GetHealth()
	phase := phaseWord(one)
	if rung := word(h.GetRung().String(), "RUNG_"); rung != "" {
		phase += ", rung " + rung
	}
	if progress := progressWord(h); progress != "-" {
		phase += ", " + progress
	}
	records, seconds := lagOf(one)
	rows := [][]any{
		{"consumer", fmt.Sprintf("%s of %s, %s", one.GetConsumerId(), one.GetStream(), orDash(kindWord(one.GetKind())))},
		{"phase", phase},
		{"lag", fmt.Sprintf("%s records, %s seconds", records, seconds)},
		{"expires", expiryWord(one)},
		{"digests", fmt.Sprintf("%d equal, %d unequal since it started", h.GetVerified(), h.GetMismatched())},
		{"problem", orDash(h.GetProblem())},
		{"client", fmt.Sprintf("%s at gateway %s, incarnation %d", orDash(one.GetClient()), orDash(one.GetGateway()), one.GetIncarnation())},
		{"seen", fmt.Sprintf("first %s, last %s", moment(one.GetFirstSeenMs()), ago(one.GetLastSeenMs()))},
	}
	if err := c.table(rows[0], rows[1:]); err != nil {
		return err
	}
	rows = nil
	for _, l := range one.GetLanes() {
		head, tail := "unknown", "unknown"
		if l.GetHead() > 0 {
			head = fmt.Sprint(l.GetHead())
		}
		if l.GetTail() != nil {
			tail = fmt.Sprint(l.GetTail().GetSequence())
		}
		alone := &consumerv1.Consumer{Lanes: []*consumerv1.LaneLag{l}}
		records, seconds := lagOf(alone)
		rows = append(rows, []any{l.GetCursor().GetPartition(), l.GetCursor().GetPosition().GetEpoch(), head, l.GetCursor().GetPosition().GetSequence(), tail,
			records, seconds, expiryWord(alone)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		if err := c.table([]any{"PARTITION", "EPOCH", "HEAD", "CURSOR", "TAIL", "LAG RECORDS", "LAG SECONDS", "EXPIRES"}, rows); err != nil {
			return err
		}
	}
	if len(resets) == 0 {
		return nil
	}
	fmt.Fprintln(c.out)
	return c.resets(resets)
}

// showLine writes a consumer in the contract's own JSON, with its commands.
func (c *console) showLine(one *consumerv1.Consumer, resets []*consumerv1.Reset) error {
	o := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}
	text, err := o.Marshal(one)
	if err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	commands := make([]json.RawMessage, 0, len(resets))
	for _, r := range resets {
		text, err := o.Marshal(r)
		if err != nil {
			return err
		}
		commands = append(commands, text)
	}
	if members["resets"], err = json.Marshal(commands); err != nil {
		return err
	}
	return c.line(members)
}

// noConsumer says what there is instead.
func (c *console) noConsumer(ctx context.Context, stream, id string) error {
	if _, err := c.stream(ctx, stream); err != nil {
		return err
	}
	consumers, err := c.consumersOf(ctx, stream, "")
	if err != nil {
		return err
	}
	if known := consumerIDs(consumers); known != "" {
		return fault.New(fault.UnknownConsumer, "stream %q has no consumer %q; it has %s", stream, id, known)
	}
	return fault.New(fault.UnknownConsumer, "stream %q has no consumers; `lockstep replica %s FILE.db` registers one", stream, stream)
}

// consumersOf asks consumer-state; "" is every stream, every consumer.
func (c *console) consumersOf(ctx context.Context, stream, id string) (consumers []*consumerv1.Consumer, err error) {
	err = c.keeper(func(k consumerv1.ConsumerStateClient) error {
		answer, err := k.ListConsumers(ctx, &consumerv1.ListConsumersRequest{Stream: stream, ConsumerId: id})
		consumers = answer.GetConsumers()
		return err
	})
	return consumers, err
}

// lastCommand is the newest one, and how far it is.
func lastCommand(h *consumerv1.Health) string {
	resets := h.GetResets()
	if len(resets) == 0 {
		return "-"
	}
	last := resets[len(resets)-1]
	return last.GetCommandId() + " " + word(last.GetState().String(), "RESET_STATE_")
}

// lagOf sums records and takes the worst seconds over the lanes; one unknown lane makes the whole unknown, never 0.
func lagOf(one *consumerv1.Consumer) (records, seconds string) {
	var sum uint64
	var worst float64
	bound := ""
	if len(one.GetLanes()) == 0 {
		return "unknown", "unknown"
	}
	for _, l := range one.GetLanes() {
		if l.Records == nil {
			return "unknown", "unknown"
		}
		sum += l.GetRecords()
		if l.Seconds == nil {
			seconds = "unknown"
		}
		if l.GetSeconds() > worst {
			worst = l.GetSeconds()
		}
		if l.GetAtLeast() {
			bound = ">"
		}
	}
	if seconds == "" {
		seconds = fmt.Sprintf("%s%.1f", bound, worst)
	}
	return fmt.Sprint(sum), seconds
}
