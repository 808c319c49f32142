package command

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/replica"
)

func newRepair(c *console) *cobra.Command {
	k := keeping{c: c, once: true, tell: c.tellRepaired}
	cmd := &cobra.Command{
		Use:   "repair STREAM FILE.db",
		Short: "Make a replica equal to the provider's state, moving as little as possible",
		Long: `Read every row of a replica again, make equal what is not the provider's, and say how and what it moved.

  none        every row was right
  replay      records behind the file's cursor were read from the log
  changes     what had changed since the cursor was fetched, with what was deleted
  repair      the rows that differed were found and replaced
  bootstrap   the file was made anew from the whole state: too much differed

It ends when the file was proven equal. A file that another process keeps up is left to that one: see ` + "`lockstep reset --help`.",
		Args: exactly("STREAM", "FILE.db"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[1]); err != nil {
				return fault.New(fault.InvalidArgument, "there is no replica at %s to repair; `lockstep replica %s %s` makes one: %w", args[1], args[0], args[1], err)
			}
			err := k.run(cmd.Context(), args[0], args[1])
			if fault.ReasonOf(err) == fault.InUse {
				return fault.New(fault.InUse, "%w; it is left to that process: `lockstep reset %s repair --consumer ID` tells it to repair, and `lockstep consumer list --stream %s` has its ID",
					err, args[0], args[0])
			}
			return err
		},
	}
	k.flags(cmd)
	return cmd
}

// tellRepaired says by what the file was made equal, and what that moved.
func (c *console) tellRepaired(cfg replica.Config, before, after replica.Status) error {
	rung := rungOf(before, after)
	if c.json {
		return c.line(map[string]any{
			"stream": cfg.Stream, "file": cfg.Path, "verified": true, "rung": rung, "rows": after.MovedRows, "moved_bytes": after.MovedBytes,
			"changes": after.ChangesTaken, "repairs": after.Repairs, "bootstraps": after.Bootstraps,
		})
	}
	how := map[string]string{
		"none": "every row was right", "replay": "records behind the cursor were applied", "changes": "what had changed was fetched",
		"repair": "the rows that differed were replaced", "bootstrap": "made anew from the whole state",
	}[rung]
	if after.MovedBytes > 0 {
		how = fmt.Sprintf("%s, %s and %s moved", how, counts(int(after.MovedRows), "row"), bytesWord(after.MovedBytes))
	}
	_, err := fmt.Fprintf(c.out, "%s: proven equal to %s by %s: %s\n", cfg.Path, cfg.Stream, rung, how)
	return err
}

// rungOf names the dearest rung that was climbed since before.
func rungOf(before, after replica.Status) string {
	switch {
	case after.Bootstraps > 0:
		return replica.RungBootstrap.String()
	case after.Repairs > 0:
		return replica.RungRepair.String()
	case after.ChangesTaken > 0:
		return replica.RungChanges.String()
	}
	for i, l := range before.Lanes {
		if i < len(after.Lanes) && after.Lanes[i].Cursor != l.Cursor {
			return replica.RungReplay.String()
		}
	}
	return replica.Rung(0).String()
}
