package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check DIR", Short: "Verify a stopped data directory: chains, checksums, witnesses, state and digest", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := sequencer.Check(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			for _, line := range report.Lines() {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if n := len(report.Problems); n > 0 {
				return fmt.Errorf("%d problems found in %s", n, args[0])
			}
			return nil
		},
	}
}
