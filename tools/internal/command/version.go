package command

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/protocol"
)

func newVersion(c *console) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Say which version this is", Args: exactly(), RunE: func(*cobra.Command, []string) error {
		if c.json {
			return c.line(map[string]string{"version": c.version, "protocol": protocol.Current.String(), "go": runtime.Version()})
		}
		_, err := fmt.Fprintf(c.out, "lockstep %s, protocol %v, %s\n", c.version, protocol.Current, runtime.Version())
		return err
	}}
}
