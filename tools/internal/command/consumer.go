package command

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

func newConsumer(c *console) *cobra.Command {
	return group("consumer", "See who consumes and how far they are", newConsumerList(c))
}

func newConsumerList(c *console) *cobra.Command {
	var stream string
	cmd := &cobra.Command{Use: "list", Short: "List consumers with their phase and lag", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		conn, err := c.dial(c.consumers, settings.ConsumerState)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := consumerv1.NewConsumerStateClient(conn).ListConsumers(cmd.Context(), &consumerv1.ListConsumersRequest{Stream: stream})
		if err != nil {
			return reach(err, "consumer-state", c.consumers, settings.ConsumerState)
		}
		var rows [][]any
		for _, one := range answer.GetConsumers() {
			if c.json {
				text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(one)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(c.out, "%s\n", text); err != nil {
					return err
				}
				continue
			}
			records, seconds := lagOf(one)
			rows = append(rows, []any{one.GetStream(), one.GetConsumerId(), kindWord(one.GetKind()), phaseWord(one), records, seconds, one.GetHealth().GetVerified(), one.GetHealth().GetMismatched(), ago(one.GetLastSeenMs())})
		}
		if c.json {
			return nil
		}
		if len(rows) == 0 {
			c.say("no consumer is registered; `lockstep replica STREAM FILE.db` registers one")
			return nil
		}
		return c.table([]any{"STREAM", "CONSUMER", "KIND", "PHASE", "LAG RECORDS", "LAG SECONDS", "VERIFIED", "MISMATCHED", "LAST SEEN"}, rows)
	}}
	cmd.Flags().StringVar(&stream, "stream", "", "only the consumers of this stream")
	return cmd
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

func kindWord(k consumerv1.ConsumerKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "CONSUMER_KIND_"))
}

func phaseWord(one *consumerv1.Consumer) string {
	if !one.GetAttached() {
		return "away"
	}
	word := strings.ToLower(strings.TrimPrefix(one.GetHealth().GetPhase().String(), "PHASE_"))
	if word == "unspecified" {
		return "attached"
	}
	return strings.ReplaceAll(word, "_", "-")
}

func ago(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return max(0, time.Since(time.UnixMilli(ms))).Round(time.Second).String() + " ago"
}
