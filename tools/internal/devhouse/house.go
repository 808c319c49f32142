package devhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/lockstep-mq/lockstep/libs/service-kit/admin"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/consumer-state/consumerstate"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// Host is where the house listens; it asks nobody who they are, so nobody from elsewhere may call.
const Host = "127.0.0.1"

// Config of a house.
type Config struct {
	// Data is the data directory; made when missing.
	Data  string
	Ports Ports
	// TokensFile lists bearer tokens and what they grant; "" for none.
	TokensFile string
	// Ready is called once all services answer, on its own goroutine until ctx ends; nil for none. Its error ends the house.
	Ready func(ctx context.Context, at Addresses) error
}

// House is the four services and what they share. Make with New, run with Run once.
type House struct {
	cfg       Config
	log       *slog.Logger
	data      *dataDir
	listeners *listeners
	at        Addresses
	nats      *server.Server
	metrics   *prometheus.Registry
	// closers are run last to first when Run ends or New fails.
	closers []func()

	sequencer *sequencer.Service
	consumers *consumerstate.Service
	ingest    *ingest.Service
	gateway   *gateway.Service
}

// New takes the directory and every port, and recovers what the directory holds. On an error nothing is held. ctx bounds New only.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *House, err error) {
	h := &House{cfg: cfg, log: log, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	h.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if h.data, err = openDataDir(cfg.Data); err != nil {
		return nil, err
	}
	h.atClose(func() { _ = h.data.close() }) // the process ends anyway, and with it the lock
	if h.listeners, err = listen(ctx, Host, cfg.Ports); err != nil {
		return nil, err
	}
	h.atClose(h.listeners.close)
	h.at = h.listeners.addresses(h.data.path)
	if h.nats, err = startNATS(); err != nil {
		return nil, err
	}
	h.atClose(func() { h.nats.Shutdown(); h.nats.WaitForShutdown() })
	return h, h.furnish()
}

// furnish makes the services, each with connections and metrics of its own, as if they were apart.
func (h *House) furnish() (err error) {
	toConsumers, err := h.dial(h.at.Consumers)
	if err != nil {
		return err
	}
	toSequencer, err := h.dial(h.at.Sequencer)
	if err != nil {
		return err
	}
	told, err := h.bus("sequencer-storage")
	if err != nil {
		return err
	}
	heard, err := h.bus("delivery-gateway")
	if err != nil {
		return err
	}
	h.sequencer, err = sequencer.New(
		sequencer.Config{Dir: h.data.room("sequencer"), Listener: h.listeners.sequencer},
		sequencer.Deps{Log: h.logOf("sequencer-storage"), Metrics: h.metricsOf("sequencer-storage"), Bus: told, Consumers: toConsumers})
	if err != nil {
		return fmt.Errorf("sequencer-storage: %w", err)
	}
	h.atClose(func() { _ = h.sequencer.Close() }) // nothing is left open when it ran
	h.consumers, err = consumerstate.New(
		consumerstate.Config{DataDir: h.data.room("consumers"), Listener: h.listeners.consumers, TokensFile: h.cfg.TokensFile},
		consumerstate.Deps{Log: h.logOf("consumer-state"), Metrics: h.metricsOf("consumer-state")})
	if err != nil {
		return fmt.Errorf("consumer-state: %w", err)
	}
	h.atClose(func() { _ = h.consumers.Close() }) // same
	h.ingest, err = ingest.New(
		ingest.Config{GRPCListener: h.listeners.ingest, HTTPListener: h.listeners.ingestHTTP, TokensFile: h.cfg.TokensFile},
		ingest.Deps{Log: h.logOf("ingest"), Metrics: h.metricsOf("ingest"), Sequencer: toSequencer})
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	h.gateway, err = h.newGateway(toSequencer, toConsumers, heard)
	if err != nil {
		return fmt.Errorf("delivery-gateway: %w", err)
	}
	return nil
}

func (h *House) dial(target string) (*grpc.ClientConn, error) {
	conn, err := rpc.Dial(target, rpc.ClientConfig{})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", target, err)
	}
	h.atClose(func() { _ = conn.Close() }) // its only error is that it is closed
	return conn, nil
}

func (h *House) bus(name string) (*notify.Bus, error) {
	bus, err := notify.Connect(notify.Config{InProcess: h.nats, Name: name}, h.logOf(name))
	if err != nil {
		return nil, err
	}
	h.atClose(bus.Close)
	return bus, nil
}

func (h *House) logOf(service string) *slog.Logger { return h.log.With("service", service) }

func (h *House) metricsOf(service string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"service": service}, h.metrics)
}

// Describe names every metric of the house.
func (h *House) Describe(to chan<- *prometheus.Desc) { h.metrics.Describe(to) }

func (h *House) atClose(f func()) { h.closers = append(h.closers, f) }

func (h *House) close() {
	for len(h.closers) > 0 {
		last := len(h.closers) - 1
		h.closers[last]()
		h.closers = h.closers[:last]
	}
}

// Addresses are where the house can be reached once it runs.
func (h *House) Addresses() Addresses { return h.at }

// Ready is nil when all four services can work.
func (h *House) Ready() error {
	return errors.Join(h.sequencer.Ready(), h.consumers.Ready(), h.ingest.Ready(), h.gateway.Ready())
}

// Run serves until ctx ends or a service fails, then lets go of everything. I4.
func (h *House) Run(ctx context.Context) error {
	defer h.close()
	parts := []life.Part{
		{Name: "sequencer-storage", Run: h.sequencer.Run},
		{Name: "consumer-state", Run: h.consumers.Run},
		{Name: "ingest", Run: h.ingest.Run},
		{Name: "delivery-gateway", Run: h.gateway.Run},
		admin.Part(h.listeners.admin, h.Ready, h.metrics),
	}
	if h.cfg.Ready != nil {
		parts = append(parts, life.Part{Name: "dev", Run: func(ctx context.Context) error {
			if err := h.untilReady(ctx); err != nil {
				return err
			}
			return h.cfg.Ready(ctx, h.at)
		}})
	}
	return life.Run(ctx, h.log, parts...)
}
