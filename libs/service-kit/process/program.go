package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/admin"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Service is what runs. Run is called once and ends with its context; Ready says why it cannot work, and does not block.
type Service interface {
	Run(ctx context.Context) error
	Ready() error
}

// Program is a service before it has its settings. All fields but Commands are needed.
type Program struct {
	// Name is the binary's.
	Name string
	// Short is one line for --help.
	Short string
	// Admin is the default address of the admin page.
	Admin string
	// Settings declares the service's own settings.
	Settings func(*pflag.FlagSet)
	// Open makes the service once its settings are known. What it dials through env is closed when the service has ended.
	Open func(env *Env) (Service, error)
	// Commands are what the binary does besides running the service.
	Commands []*cobra.Command
}

// Main runs the program until it ends or is interrupted, and gives the exit code.
func Main(p Program) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.Command().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}

// Command gives the command line.
func (p Program) Command() *cobra.Command {
	var adminAddress string
	cmd := &cobra.Command{
		Use: p.Name, Short: p.Short,
		Long:          p.Short + ".\n\nEvery setting is a flag, or LOCKSTEP_ and its name in the environment, or its name in the file of --config.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Load(cmd.Flags()); err != nil {
				return err
			}
			return p.run(cmd.Context(), adminAddress)
		},
	}
	settings.File(cmd.Flags())
	cmd.Flags().StringVar(&adminAddress, settings.Admin, p.Admin, "address of /healthz, /readyz and /metrics; empty: none")
	p.Settings(cmd.Flags())
	cmd.AddCommand(p.Commands...)
	return cmd
}

func (p Program) run(ctx context.Context, adminAddress string) error {
	env := &Env{
		Name: p.Name, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("service", p.Name), Metrics: prometheus.NewRegistry(),
	}
	defer env.close()
	env.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var page net.Listener
	if adminAddress != "" {
		var err error
		if page, err = net.Listen("tcp", adminAddress); err != nil {
			return unlistened(adminAddress, err)
		}
	}
	service, err := p.Open(env)
	if err != nil {
		if page != nil {
			_ = page.Close() // nothing was accepted
		}
		return err
	}
	parts := []life.Part{{Name: p.Name, Run: service.Run}}
	if page != nil {
		parts = []life.Part{admin.Part(page, service.Ready, env.Metrics), parts[0]} // I2
	}
	return life.Run(ctx, env.Log, parts...)
}

func unlistened(address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fault.New(fault.InUse, "--%s: address %s is in use: stop the process that has it, or choose another (%w)", settings.Admin, address, err)
	}
	return fault.New(fault.InvalidArgument, "--%s: %w", settings.Admin, err)
}
