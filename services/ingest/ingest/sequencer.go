package ingest

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// appender hands batches to the sequencer and tells "not written" from "not known" (I5).
type appender struct{ client sequencerv1.SequencerClient }

// Append implements outbox.Appender.
func (a appender) Append(ctx context.Context, in *sequencerv1.AppendRequest) (*sequencerv1.AppendResponse, error) {
	var reached peer.Peer // set when the call got onto a connection
	var ended error       // the status as it came
	answer, err := a.client.Append(ctx, in, grpc.Peer(&reached), grpc.OnFinish(func(err error) { ended = err }))
	if err == nil {
		return answer, nil
	}
	if answeredBySequencer(ended) || reached.Addr == nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, fault.UnknownOutcome) && reached.Addr == nil {
			return nil, fault.New(fault.Unavailable, "the sequencer was not reached in time; nothing was written: %w", err)
		}
		return nil, err
	}
	return nil, fault.New(fault.UnknownOutcome,
		"the connection to the sequencer failed before it answered; the records may or may not have been written, so send them again under the same producer sequences: %w", err)
}

// answeredBySequencer reports whether a status was made by the sequencer's handler, or can only mean that it was not called.
func answeredBySequencer(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, d := range s.Details() {
		if _, ok := d.(*streamv1.Fault); ok {
			return true
		}
	}
	return s.Code() == codes.Unimplemented
}
