package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Where lockstep dev listens, and so where the commands look.
const (
	defaultIngest    = "127.0.0.1:7400"
	defaultGateway   = "tcp://127.0.0.1:7410"
	defaultConsumers = "127.0.0.1:7420"
)

// Execute runs the command line and gives the exit code. It returns when the command has ended or ctx has and the command saw it.
func Execute(ctx context.Context, version string, args []string, in io.Reader, out, errOut io.Writer) int {
	c := &console{in: in, out: out, err: errOut, version: version}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	return c.conclude(ctx, root.ExecuteContext(ctx))
}

// Root is the command line, for whoever reads its flags.
func Root() *cobra.Command { return newRoot(&console{}) }

func newRoot(c *console) *cobra.Command {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "Durable streams, and replicas that are proven equal to them",
		Long: `Durable streams, and replicas that are proven equal to them.

Every flag can also be set by an environment variable: --gateway by LOCKSTEP_GATEWAY.
Exit codes: 0 done, 1 failed (verify, diff: different), 2 wrong usage (verify, diff: could not tell), 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Load(cmd.Flags()); err != nil {
				return coded{exitUsage, fault.New(fault.InvalidArgument, "%w", err)}
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.ingest, settings.Ingest, defaultIngest, "address of ingest (gRPC)")
	flags.StringVar(&c.gateway, settings.Gateway, defaultGateway, "address of a delivery gateway: tcp://, tls://, ws:// or wss://")
	flags.StringVar(&c.consumers, settings.ConsumerState, defaultConsumers, "address of consumer-state (gRPC)")
	flags.StringVar(&c.token, settings.Token, "", "bearer token, where the services ask for one; better set as LOCKSTEP_TOKEN, which other users cannot see")
	flags.BoolVar(&c.json, "json", false, "results as one JSON object per line, errors as a JSON object on stderr")
	flags.BoolVarP(&c.verbose, "verbose", "v", false, "say on stderr what the libraries do")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; see `%s --help`", err, cmd.CommandPath())
	})
	root.AddCommand(
		newDev(c), newStream(c), newPublish(c), newPut(c), newDelete(c), newTail(c), newReplica(c), newVerify(c), newDiff(c), newRepair(c), newConsumer(c), newReset(c), newVersion(c),
	)
	return root
}

// exactly is a rule for positional arguments that names them when it is broken.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usage("`%s` takes %s, and %d were given; see `%s --help`", cmd.CommandPath(), counted(names), len(args), cmd.CommandPath())
	}
}

func counted(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return fmt.Sprintf("%d (%s)", len(names), strings.Join(names, ", "))
}

// group is a command that only holds others.
func group(use, short string, members ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, m := range cmd.Commands() {
			names = append(names, m.Name())
		}
		return usage("`%s` has no command %q; it has: %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
	}}
	g.AddCommand(members...)
	return g
}
