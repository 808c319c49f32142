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
			found, err := replica.Verify(cmd.Context(), c.comparing(args[0]), args[1])
			if err != nil {
				return coded{exitUnknown, reach(err, "the gateway", c.gateway, "gateway")}
			}
			return verdictCode(found, c.tellVerdict(args[0], args[1], found))
		},
	}
}

// verdictCode is the exit code of what was found and told, unless telling it failed.
func verdictCode(found replica.Comparison, err error) error {
	if err == nil && found.Verdict != replica.Equal {
		return coded{code: exitDifferent}
	}
	return err
}

func behindTail(found replica.Comparison) (behind lane.Sequence) {
	for _, l := range found.Lanes {
		behind += l.Tail - min(l.Tail, l.Cursor.Sequence)
	}
	return behind
}

func (c *console) tellVerdict(stream, file string, found replica.Comparison) error {
	if c.json {
		examples := found.Examples
		if examples == nil {
			examples = []string{}
		}
		return c.line(map[string]any{
			"stream": stream, "file": file, "verdict": found.Verdict.String(), "rows": found.Rows, "behind": behindTail(found),
			"different_rows": found.Total(), "changed": found.Differing, "missing": found.Missing, "extra": found.Extra, "examples": examples,
		})
	}
	_, err := fmt.Fprintln(c.out, verdictText(stream, file, found))
	if err == nil && found.Verdict != replica.Equal {
		c.say("`lockstep diff %s %s` lists them, `lockstep repair %s %s` makes it equal again", stream, file, stream, file)
	}
	return err
}

func verdictText(stream, file string, found replica.Comparison) string {
	where := "at the tail"
	if behind := behindTail(found); behind > 0 {
		where = fmt.Sprintf("%d records behind the tail", behind)
	}
	if found.Verdict == replica.Equal {
		return fmt.Sprintf("equal: all %d rows of %s are those of %s, %s", found.Rows, file, stream, where)
	}
	return fmt.Sprintf("different: %d of %d rows of %s are not those of %s: %d changed, %d missing, %d extra (such as %s)",
		found.Total(), found.Rows, file, stream, found.Differing, found.Missing, found.Extra, strings.Join(found.Examples, ", "))
}
