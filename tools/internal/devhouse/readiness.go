package devhouse

import (
	"context"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

const (
	readyPoll  = 10 * time.Millisecond
	readyLimit = 30 * time.Second
)

// untilReady waits until all services can work; too long a wait is an error with the reason.
func (h *House) untilReady(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for {
		err := h.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return fault.New(fault.Unavailable, "the services are not ready after %v: %w", readyLimit, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
