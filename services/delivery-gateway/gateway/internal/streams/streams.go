// Package streams remembers for a moment what streams are called and how many lanes they have, so that a thousand consumers that
// come back at once ask storage once.
//
// Invariants:
//
//	I1  an answer is at most MaxAge old; calls for one name at one moment are one call.
//	I2  at most maxNames are remembered.
package streams

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

const (
	// MaxAge is how old an answer of Get may be.
	MaxAge      = time.Second
	maxNames    = 4096
	callTimeout = 10 * time.Second
)

// Catalogue is asked.
type Catalogue interface {
	GetStream(ctx context.Context, name lane.StreamName) (*streamv1.Stream, error)
}

// Directory is safe for concurrent use. What it returns is shared and must not be changed.
type Directory struct {
	catalogue Catalogue
	flight    singleflight.Group

	mu    sync.Mutex // protects what follows
	known map[lane.StreamName]entry
}

type entry struct {
	stream *streamv1.Stream
	at     time.Time
}

// New remembers nothing yet.
func New(c Catalogue) *Directory {
	return &Directory{catalogue: c, known: make(map[lane.StreamName]entry)}
}

// Get gives a stream, perhaps as of a moment ago.
func (d *Directory) Get(ctx context.Context, name lane.StreamName) (*streamv1.Stream, error) {
	d.mu.Lock()
	e, ok := d.known[name]
	d.mu.Unlock()
	if ok && time.Since(e.at) < MaxAge {
		return e.stream, nil
	}
	return d.Fresh(ctx, name)
}

// Fresh asks the catalogue.
func (d *Directory) Fresh(ctx context.Context, name lane.StreamName) (*streamv1.Stream, error) {
	if err := lane.CheckName("stream", string(name)); err != nil {
		return nil, err
	}
	answers := d.flight.DoChan(string(name), func() (any, error) {
		// Not the first caller's context: the others must not fail because it left.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		s, err := d.catalogue.GetStream(ctx, name)
		if err != nil {
			return nil, err
		}
		d.remember(name, s)
		return s, nil
	})
	select {
	case a := <-answers:
		if a.Err != nil {
			return nil, a.Err
		}
		return a.Val.(*streamv1.Stream), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Directory) remember(name lane.StreamName, s *streamv1.Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxNames {
		clear(d.known)
	}
	d.known[name] = entry{s, time.Now()}
}

// Lane gives the lane of a partition, refusing one the stream does not have.
func Lane(s *streamv1.Stream, partition uint32) (lane.ID, error) {
	if n := max(s.GetSpec().GetPartitions(), 1); partition >= n {
		return lane.ID{}, fault.New(fault.InvalidArgument, "stream %q has partitions 0 to %d, and %d was asked for", s.GetSpec().GetName(), n-1, partition)
	}
	return lane.ID{Stream: lane.StreamID(s.GetId()), Partition: lane.Partition(partition)}, nil
}
