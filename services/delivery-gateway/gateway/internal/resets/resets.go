// Package resets hears from consumer-state which commands are open for the consumers attached at this gateway.
//
//	consumer-state ── WatchResets ──▶ Watcher ── Deliver ──▶ in band, to the consumer's live incarnation
//	                                     ▲ Open (a consumer attached)    ▲ Ended (it reported an end)
//
// consumer-state is the one who remembers: it sends what is open again with every watch, until it has heard of an end. What is kept here
// bridges the moment between a command and the consumer's attachment, which come over two ways.
//
// Invariants:
//
//	I1  one watch at a time; a lost one is begun again after a while that grows to maxPause and is never the same for all gateways.
//	I2  at most maxConsumers consumers have open commands here, at most MaxOpen each, the newest; a command that is not kept is sent
//	    again by consumer-state with the next watch.
package resets

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/session"
)

const (
	// MaxOpen commands of one consumer are kept.
	MaxOpen      = 16
	maxConsumers = 16384
	firstPause   = 100 * time.Millisecond
	maxPause     = 10 * time.Second
	// steady is how long a watch must last for the next pause to be short again.
	steady = 10 * time.Second
)

// Keeper is consumer-state.
type Keeper interface {
	WatchResets(ctx context.Context, in *consumerv1.WatchResetsRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[consumerv1.WatchResetsResponse], error)
}

// Order is a command to a consumer. Incarnation is the one consumer-state knew; the command is for later ones too.
type Order struct {
	Key         session.Key
	Incarnation lane.Incarnation
	Command     *consumerv1.Command
}

// Watcher is safe for concurrent use.
type Watcher struct {
	gateway string
	keeper  Keeper
	deliver func(Order)
	log     *slog.Logger

	mu   sync.Mutex // protects what follows
	open map[session.Key][]Order
}

// New makes a Watcher for the gateway of that name. deliver is told of every order, perhaps repeatedly; it must not block.
func New(gateway string, keeper Keeper, deliver func(Order), log *slog.Logger) *Watcher {
	return &Watcher{gateway: gateway, keeper: keeper, deliver: deliver, log: log, open: make(map[session.Key][]Order)}
}

// Run watches until ctx ends (I1).
func (w *Watcher) Run(ctx context.Context) {
	for pause := firstPause; ; {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			pause = firstPause
		}
		w.log.Debug("consumer-state's commands are not heard for a while", "error", err, "pause", pause)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// watch keeps what comes. The first answer of a watch begins the whole list anew.
func (w *Watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := w.keeper.WatchResets(ctx, &consumerv1.WatchResetsRequest{Gateway: w.gateway})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		answer, err := s.Recv()
		if err != nil {
			return err
		}
		o := Order{
			Key:         session.Key{Stream: lane.StreamID(answer.GetCommand().GetStreamId()), Consumer: lane.ConsumerID(answer.GetConsumerId())},
			Incarnation: lane.Incarnation(answer.GetIncarnation()), Command: answer.GetCommand(),
		}
		if o.Command.GetCommandId() == "" {
			return errors.New("consumer-state sent a command without an id")
		}
		w.keep(o, first)
		w.deliver(o)
	}
}

func (w *Watcher) keep(o Order, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if first {
		clear(w.open)
	}
	orders, known := w.open[o.Key]
	if !known && len(w.open) >= maxConsumers {
		w.log.Warn("too many consumers have open commands; one is told when it attaches after the next watch", "consumer", string(o.Key.Consumer))
		return
	}
	orders = slices.DeleteFunc(orders, func(one Order) bool { return one.Command.GetCommandId() == o.Command.GetCommandId() })
	if len(orders) >= MaxOpen {
		orders = slices.Delete(orders, 0, 1)
	}
	w.open[o.Key] = append(orders, o)
}

// Open gives the orders to a consumer that are not known to have ended.
func (w *Watcher) Open(k session.Key) []Order {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.open[k])
}

// IsOpen reports whether o is still wanted.
func (w *Watcher) IsOpen(o Order) bool {
	return slices.ContainsFunc(w.Open(o.Key), func(one Order) bool { return one.Command.GetCommandId() == o.Command.GetCommandId() })
}

// Ended forgets the commands whose end the consumer reported.
func (w *Watcher) Ended(k session.Key, commands []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	orders := slices.DeleteFunc(w.open[k], func(o Order) bool { return slices.Contains(commands, o.Command.GetCommandId()) })
	if len(orders) == 0 {
		delete(w.open, k)
		return
	}
	w.open[k] = orders
}

// Forget is for a consumer that has left this gateway.
func (w *Watcher) Forget(k session.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, k)
}
