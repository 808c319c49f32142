package settingscheck

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
	"github.com/lockstep-mq/lockstep/tools/internal/command"
)

// services gives the commands that run a service, in the order of the data's flow.
func services() []*cobra.Command {
	return []*cobra.Command{
		ingest.Program().Command(), sequencer.Program().Command(), gateway.Program().Command(), consumerstate.Program().Command(),
	}
}

// all gives every command of every binary.
func all() []*cobra.Command {
	var out []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		out = append(out, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	for _, c := range append(services(), command.Root()) {
		walk(c)
	}
	return out
}

// flags visits the flags of a command, those of its parents included.
func flags(c *cobra.Command, visit func(*pflag.Flag)) {
	c.LocalFlags().VisitAll(visit)
	c.InheritedFlags().VisitAll(visit)
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
