package process

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/libs/service-kit/settings"
)

// Env is what a process gives its service. Only Open uses it.
type Env struct {
	Name    string
	Log     *slog.Logger
	Metrics *prometheus.Registry

	closers []func()
}

// Dial connects to another service; setting names where the address came from, for the message.
func (e *Env) Dial(setting, address string) (*grpc.ClientConn, error) {
	conn, err := rpc.Dial(address, rpc.ClientConfig{})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "--%s: %w", setting, err)
	}
	e.closers = append(e.closers, func() { _ = conn.Close() }) // nobody calls any more
	return conn, nil
}

// Bus connects to NATS; nil for an empty url.
func (e *Env) Bus(url string) (*notify.Bus, error) {
	if url == "" {
		return nil, nil
	}
	bus, err := notify.Connect(notify.Config{URL: url, Name: e.Name}, e.Log)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "--%s: %w", settings.NATS, err)
	}
	e.closers = append(e.closers, bus.Close)
	return bus, nil
}

func (e *Env) close() {
	for i := len(e.closers) - 1; i >= 0; i-- {
		e.closers[i]()
	}
}
