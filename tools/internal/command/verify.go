package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/replica"
)

func newVerify(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "verify STREAM FILE.db",
		Short: "Compare every row of a replica with the provider's state",
		Long: `Read every row of a replica and compare it with the provider's state at the file's cursor. Nothing is changed.

Exit codes: 0 equal; 1 different, with the number of rows; 2 could not tell, with the reason.`,
		Args: exactly("STREAM", "FILE.db"),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := replica.Verify(cmd.Context(), replica.Config{Stream: args[0], Gateways: strings.Split(c.gateway, ","), Token: c.token, Log: c.log()}, args[1])
			if err != nil {
				return coded{exitUnknown, reach(err, "the gateway", c.gateway, "gateway")}
			}
			if err := c.tellVerdict(args[0], args[1], found); err != nil {
				return err
			}
			if found.Verdict != replica.Equal {
				return coded{code: exitDifferent}
			}
			return nil
		},
	}
}

func (c *console) tellVerdict(stream, file string, found replica.Comparison) error {
	var behind lane.Sequence
	for _, l := range found.Lanes {
		behind += l.Tail - min(l.Tail, l.Cursor.Sequence)
	}
	if c.json {
		examples := found.Examples
		if examples == nil {
			examples = []string{}
		}
		return c.line(map[string]any{
			"stream": stream, "file": file, "verdict": found.Verdict.String(), "rows": found.Rows, "behind": behind,
			"different_rows": found.Total(), "changed": found.Differing, "missing": found.Missing, "extra": found.Extra, "examples": examples,
		})
	}
	where := "at the tail"
	if behind > 0 {
		where = fmt.Sprintf("%d records behind the tail", behind)
	}
	if found.Verdict == replica.Equal {
		_, err := fmt.Fprintf(c.out, "equal: all %d rows of %s are those of %s, %s\n", found.Rows, file, stream, where)
		return err
	}
	_, err := fmt.Fprintf(c.out, "different: %d of %d rows of %s are not those of %s: %d changed, %d missing, %d extra (such as %s)\n",
		found.Total(), found.Rows, file, stream, found.Differing, found.Missing, found.Extra, strings.Join(found.Examples, ", "))
	if err == nil {
		c.say("`lockstep replica %s %s --once` makes it equal again", stream, file)
	}
	return err
}
