// Package bootstrap passes the state of a lane from storage to one consumer, chunk by chunk.
//
//	storage ReadState ──▶ pump ──▶ at most ReadAhead chunks ──▶ Next ──▶ consumer       (credit counts chunks)
//
// Invariants:
//
//	I1  at most Limit bootstraps run in a gateway; one more is refused as Overloaded with retry_after_ms.
//	I2  at most ReadAhead chunks of a bootstrap are in memory; storage is not asked for more while the consumer does not take them.
//	I3  a chunk whose rows fail their CRC32C is never sent (S11).
//	I4  a consumer that takes nothing for StallTimeout loses its place, so that it cannot keep others out.
package bootstrap

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/lockstep-mq/lockstep/api/delivery/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/refusal"
)

const (
	// ReadAhead is how many chunks are kept ready.
	ReadAhead = 4
	// StallTimeout ends a bootstrap whose consumer takes nothing.
	StallTimeout = 30 * time.Second
	// retryAfter is what a refused consumer is told.
	retryAfter = time.Second
)

// States opens the state of a lane.
type States interface {
	ReadState(ctx context.Context, stream lane.StreamName, id lane.ID) (grpc.ServerStreamingClient[sequencerv1.ReadStateResponse], error)
}

// Slots bounds the bootstraps of a gateway (I1).
type Slots struct{ free chan struct{} }

// NewSlots allows limit at once.
func NewSlots(limit int) *Slots { return &Slots{free: make(chan struct{}, limit)} }

// Take gives a place or the Overloaded fault.
func (s *Slots) Take() (release func(), err error) {
	select {
	case s.free <- struct{}{}:
		return sync.OnceFunc(func() { <-s.free }), nil
	default:
		return nil, fault.New(fault.Overloaded, "this gateway runs its %d bootstraps already: try again in %v", cap(s.free), retryAfter).
			With("retry_after_ms", strconv.FormatInt(retryAfter.Milliseconds(), 10))
	}
}

// InUse is how many run.
func (s *Slots) InUse() int { return len(s.free) }

// Stream is the connection's end.
type Stream interface {
	Wake()
	Fail(err error)
}

// Source is an rsocket.Source that sends a state. It waits until Pump fills it.
type Source struct {
	out    Stream
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	ready  chan rsocket.Payload

	mu   sync.Mutex // protects what follows
	done bool       // the ending is in ready
}

// New makes a Source under ctx. The caller runs Pump.
func New(ctx context.Context, out Stream) *Source {
	ctx, cancel := context.WithCancel(ctx)
	return &Source{out: out, ctx: ctx, cancel: cancel, ready: make(chan rsocket.Payload, ReadAhead)}
}

// Context ends when the stream is over.
func (s *Source) Context() context.Context { return s.ctx }

// Fail ends the stream with err.
func (s *Source) Fail(err error) { s.out.Fail(refusal.Of(err)) }

// Pump reads the state of a lane until its end, the stream's end, or a failure, which it tells the consumer. whole is told the position
// of a state before its ending is sent.
func (s *Source) Pump(states States, stream lane.StreamName, id lane.ID, whole func(lane.Position)) {
	defer s.cancel()
	if err := s.pump(states, stream, id, whole); err != nil && s.ctx.Err() == nil {
		s.Fail(err)
	}
}

func (s *Source) pump(states States, stream lane.StreamName, id lane.ID, whole func(lane.Position)) error {
	in, err := states.ReadState(s.ctx, stream, id)
	if err != nil {
		return err
	}
	at := &deliveryv1.Delivery{Kind: deliveryv1.Delivery_KIND_BOOTSTRAP, Partition: uint32(id.Partition)}
	for opened := false; ; {
		part, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Unavailable, "the state ended before its ending: begin the bootstrap again")
		}
		if err != nil {
			return err
		}
		d := proto.Clone(at).(*deliveryv1.Delivery)
		var rows []byte
		switch p := part.GetPart().(type) {
		case *sequencerv1.ReadStateResponse_Opening:
			opened = true
			at.Epoch, at.Tail = p.Opening.GetAt().GetEpoch(), p.Opening.GetAt().GetSequence()
			d.Epoch, d.Tail, d.Digest, d.Step = at.Epoch, at.Tail, p.Opening.GetDigest(), deliveryv1.Delivery_BOOTSTRAP_STEP_OPENING
		case *sequencerv1.ReadStateResponse_Chunk:
			rows = p.Chunk.GetRows()
			if batch.CRC(rows) != p.Chunk.GetCrc() { // I3
				return fault.New(fault.Corrupt, "a chunk of the state of lane %v fails its checksum; it was not sent: begin the bootstrap again", id)
			}
			d.Rows, d.Crc, d.Step = p.Chunk.GetCount(), p.Chunk.GetCrc(), deliveryv1.Delivery_BOOTSTRAP_STEP_CHUNK
		case *sequencerv1.ReadStateResponse_Ending:
			d.Digest, d.Step = p.Ending.GetDigest(), deliveryv1.Delivery_BOOTSTRAP_STEP_ENDING
			whole(lane.Position{Epoch: lane.Epoch(at.Epoch), Sequence: lane.Sequence(at.Tail)})
		default:
			continue // a part of a newer minor version
		}
		if !opened {
			return fault.New(fault.Internal, "storage sent a state without an opening")
		}
		metadata, err := proto.Marshal(d)
		if err != nil {
			return fault.New(fault.Internal, "encoding a delivery: %w", err)
		}
		if err := s.offer(rsocket.Payload{Metadata: metadata, Data: rows}); err != nil {
			return err
		}
		if d.GetStep() == deliveryv1.Delivery_BOOTSTRAP_STEP_ENDING {
			s.mu.Lock()
			s.done = true
			s.mu.Unlock()
			s.out.Wake()
			// The place is kept until the consumer has taken everything (I1, I4).
			return s.drained()
		}
	}
}

// offer waits for room (I2).
func (s *Source) offer(p rsocket.Payload) error {
	stalled := time.NewTimer(StallTimeout)
	defer stalled.Stop()
	select {
	case s.ready <- p:
		s.out.Wake()
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-stalled.C: // I4
		return errStalled()
	}
}

func (s *Source) drained() error {
	stalled := time.NewTimer(StallTimeout)
	defer stalled.Stop()
	select {
	case <-s.ctx.Done():
		return nil
	case <-stalled.C:
		return errStalled()
	}
}

func errStalled() error {
	return fault.New(fault.Overloaded, "the consumer took no chunk for %v and lost its place: begin the bootstrap again", StallTimeout).
		With("retry_after_ms", strconv.FormatInt(retryAfter.Milliseconds(), 10))
}

// Next gives the next chunk.
func (s *Source) Next() (rsocket.Payload, rsocket.Signal) {
	// Looked at before the channel: once done is set nothing more is put in, so an empty channel then means the end.
	s.mu.Lock()
	done := s.done
	s.mu.Unlock()
	select {
	case p := <-s.ready:
		return p, rsocket.Emit
	default:
	}
	if done {
		return rsocket.Payload{}, rsocket.Complete
	}
	return rsocket.Payload{}, rsocket.Wait
}

// Requested: the engine counts credit; there is nothing else to count.
func (s *Source) Requested(uint32) {}

// Closed ends the pump.
func (s *Source) Closed() { s.cancel() }
