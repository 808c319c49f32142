// Package notify carries "lane L reached N" over NATS.
//
//	sequencer ── Publish ──▶ lockstep.v1.lane.<stream id>.<partition> ──▶ Follow ── gateway, consumer-state
//
// A notification is a hint: it may be lost, late, repeated or out of order, and NATS may be down. Whoever follows must also poll.
//
// Invariants:
//
//	I1  Publish never blocks; while NATS is away notifications are dropped and counted, never queued without bound.
//	I2  the connection comes back by itself, for ever.
package notify

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	prefix = "lockstep.v1.lane."
	// reconnectBufferBytes bounds what is kept while disconnected; the smallest nats.go takes is "none".
	reconnectBufferBytes = -1
	pendingMessages      = 4096
	pendingBytes         = 16 << 20
)

// Config says where NATS is.
type Config struct {
	// URL such as nats://127.0.0.1:4222.
	URL string
	// InProcess, when set, is an embedded server to connect to without a port; URL is not used.
	InProcess nats.InProcessConnProvider
	// Name shows in the server's list of clients.
	Name string
}

// Bus is one connection to NATS. Safe for concurrent use.
type Bus struct {
	nc      *nats.Conn
	log     *slog.Logger
	dropped atomic.Uint64
}

// Connect returns at once, connected or not; the connection is made and remade in the background (I2). An error means the
// configuration cannot be right.
func Connect(cfg Config, log *slog.Logger) (*Bus, error) {
	b := &Bus{log: log}
	options := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.ReconnectBufSize(reconnectBufferBytes),
		nats.Timeout(2 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("NATS is away; deliveries go on by polling", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("NATS is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			b.dropped.Add(1) // a slow follower: the hint is gone, polling catches up
		}),
	}
	if cfg.InProcess != nil {
		options = append(options, nats.InProcessServer(cfg.InProcess))
	}
	nc, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS at %q: %w", cfg.URL, err)
	}
	b.nc = nc
	return b, nil
}

// Publish sends n, or drops it when NATS is away (I1).
func (b *Bus) Publish(n *notifyv1.Notification) error {
	data, err := proto.Marshal(n)
	if err != nil {
		return fmt.Errorf("encoding a notification: %w", err)
	}
	if err := b.nc.Publish(subject(lane.StreamID(n.GetStreamId()), lane.Partition(n.GetPartition())), data); err != nil {
		b.dropped.Add(1)
		return fmt.Errorf("the notification was dropped, pollers will see the change: %w", err)
	}
	return nil
}

// Follow calls fn with every notification of a lane, one at a time, on one goroutine, until stop. fn must not block for long: a
// follower that falls behind loses hints. stop returns at once; fn may still be running.
func (b *Bus) Follow(stream lane.StreamID, partition lane.Partition, fn func(*notifyv1.Notification)) (stop func(), err error) {
	return b.follow(subject(stream, partition), fn)
}

// FollowAll is Follow for every lane of every stream.
func (b *Bus) FollowAll(fn func(*notifyv1.Notification)) (stop func(), err error) {
	return b.follow(prefix+">", fn)
}

func (b *Bus) follow(subject string, fn func(*notifyv1.Notification)) (func(), error) {
	s, err := b.nc.Subscribe(subject, func(m *nats.Msg) {
		n := new(notifyv1.Notification)
		if err := proto.Unmarshal(m.Data, n); err != nil {
			b.log.Warn("a notification does not decode; ignored", "subject", m.Subject, "error", err)
			return
		}
		fn(n)
	})
	if err != nil {
		return nil, fmt.Errorf("following %s: %w", subject, err)
	}
	if err := s.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
		return nil, fmt.Errorf("following %s: %w", subject, err)
	}
	return func() { _ = s.Unsubscribe() }, nil // fails only when the connection is closed, and then nothing follows
}

// Connected reports whether NATS can be reached now.
func (b *Bus) Connected() bool { return b.nc.IsConnected() }

// Dropped counts the notifications lost on this side since Connect.
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

// Close ends the connection and all followers.
func (b *Bus) Close() { b.nc.Close() }

func subject(stream lane.StreamID, partition lane.Partition) string {
	return fmt.Sprintf("%s%d.%d", prefix, stream, partition)
}
