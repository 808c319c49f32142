package command

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/replica"
)

func newDiff(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "diff STREAM FILE.db",
		Short: "List the keys of a replica that are not the provider's, with both sides' sequences",
		Long: `List the keys of a replica that are not as the provider has them at the file's cursor, with both sides' sequences. Nothing is changed.

  changed   both have the key, and the rows differ; by equal sequences, the row was changed in the file
  missing   the file has no row
  extra     the provider has none

Only what differs is moved. Exit codes: 0 equal; 1 different; 2 could not tell, with the reason.`,
		Args: exactly("STREAM", "FILE.db"),
		RunE: func(cmd *cobra.Command, args []string) error {
			listed := false
			found, err := replica.Diff(cmd.Context(), c.comparing(args[0]), args[1], func(d replica.RowDifference) error {
				if !listed && !c.json {
					fmt.Fprintf(c.out, differenceForm, "HOW", "FILE", "PROVIDER", "PARTITION", "KEY")
				}
				listed = true
				return c.tellDifference(d)
			})
			if err != nil {
				return coded{exitUnknown, reach(err, "the gateway", c.gateway, "gateway")}
			}
			if c.json {
				err = c.tellVerdict(args[0], args[1], found)
			} else {
				c.say("%s", verdictText(args[0], args[1], found))
			}
			return verdictCode(found, err)
		},
	}
}

// comparing is what a comparison of a file with a stream needs to know.
func (c *console) comparing(stream string) replica.Config {
	return replica.Config{Stream: stream, Gateways: strings.Split(c.gateway, ","), Token: c.token, Log: c.log()}
}

// differenceForm is one line of a list that may be long: it is written as it is found, not aligned at its end.
const differenceForm = "%-8s %12s %12s %10v  %s\n"

func (c *console) tellDifference(d replica.RowDifference) error {
	how := "changed"
	switch {
	case d.Mine == 0:
		how = "missing"
	case d.Theirs == 0:
		how = "extra"
	}
	if !c.json {
		key := d.Key
		if !utf8.ValidString(key) || strconv.Quote(key) != `"`+key+`"` {
			key = strconv.Quote(key)
		}
		_, err := fmt.Fprintf(c.out, differenceForm, how, sequenceOrDash(d.Mine), sequenceOrDash(d.Theirs), d.Partition, key)
		return err
	}
	members := map[string]any{"how": how, "partition": d.Partition, "file_sequence": d.Mine, "provider_sequence": d.Theirs}
	if utf8.ValidString(d.Key) {
		members["key"] = quoted(d.Key)
	} else {
		members["key_base64"] = base64.StdEncoding.EncodeToString([]byte(d.Key))
	}
	return c.line(members)
}

func sequenceOrDash(s lane.Sequence) string {
	if s == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(s), 10)
}
