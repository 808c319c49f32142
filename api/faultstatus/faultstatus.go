// Package faultstatus carries faults over gRPC: as the detail of a status, or as a message of api/stream.
//
// Servers, and everybody who calls them, must agree on it, the SDK too: hence here, beside the contracts.
package faultstatus

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
)

// Code gives the gRPC code a reason travels under, for callers that know nothing of faults.
func Code(reason fault.Reason) codes.Code {
	switch reason {
	case fault.InvalidArgument, fault.InvalidName, fault.NotKeyed, fault.KeyMissing, fault.RecordTooLarge, fault.SchemaMismatch, fault.Malformed:
		return codes.InvalidArgument
	case fault.UnknownStream, fault.UnknownConsumer:
		return codes.NotFound
	case fault.StreamExists:
		return codes.AlreadyExists
	case fault.Unauthenticated:
		return codes.Unauthenticated
	case fault.NotPermitted:
		return codes.PermissionDenied
	case fault.ProducerFenced, fault.ConsumerFenced, fault.OutOfOrder, fault.EpochMismatch, fault.UnsupportedVersion, fault.ForeignData, fault.InUse, fault.LaneStopped:
		return codes.FailedPrecondition
	case fault.Expired, fault.AheadOfTail:
		return codes.OutOfRange
	case fault.Overloaded, fault.DiskFull:
		return codes.ResourceExhausted
	case fault.Unavailable:
		return codes.Unavailable
	case fault.UnknownOutcome:
		return codes.Unknown
	case fault.Corrupt:
		return codes.DataLoss
	}
	return codes.Internal
}

// Proto gives the message form of the fault in err's chain; nil for nil.
func Proto(err error) *streamv1.Fault {
	if err == nil {
		return nil
	}
	f := fault.Of(err)
	return &streamv1.Fault{Reason: string(f.Reason()), Message: f.Error(), Details: f.Details()}
}

// Fault restores what Proto made; nil for nil.
func Fault(p *streamv1.Fault) error {
	if p == nil {
		return nil
	}
	return fault.Restore(fault.Reason(p.GetReason()), p.GetMessage(), p.GetDetails())
}

// ToStatus makes err a gRPC status that carries its fault. Errors that are a status already, and nil, stay as they are; the end of
// a context becomes Canceled or DeadlineExceeded.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Fault
	if !errors.As(err, &f) {
		if _, ok := status.FromError(err); ok {
			return err
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return status.FromContextError(err).Err()
		}
		f = fault.Of(err)
	}
	s := status.New(Code(f.Reason()), f.Error())
	if detailed, err := s.WithDetails(Proto(f)); err == nil {
		s = detailed
	}
	return s.Err()
}

// FromStatus restores the fault of a gRPC error. A status without one becomes the nearest reason: Unavailable for a peer that cannot
// be reached, UnknownOutcome for a deadline that passed, Overloaded, Unauthenticated, NotPermitted, UnsupportedVersion for a call that is not known, else Internal. A context that
// the caller itself cancelled stays errors.Is context.Canceled.
func FromStatus(err error) error { return FromPeer("the other side", err) }

// FromPeer is FromStatus that says who was called.
func FromPeer(peer string, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range s.Details() {
		if p, ok := d.(*streamv1.Fault); ok {
			return Fault(p)
		}
	}
	switch s.Code() {
	case codes.Canceled:
		return context.Canceled
	case codes.Unavailable:
		return fault.New(fault.Unavailable, "%s cannot be reached: %s", peer, s.Message())
	case codes.DeadlineExceeded:
		return fault.New(fault.UnknownOutcome, "no answer of %s in time: %s", peer, s.Message())
	case codes.ResourceExhausted:
		return fault.New(fault.Overloaded, "%s", s.Message())
	case codes.Unauthenticated:
		return fault.New(fault.Unauthenticated, "%s", s.Message())
	case codes.PermissionDenied:
		return fault.New(fault.NotPermitted, "%s", s.Message())
	case codes.Unimplemented:
		return fault.New(fault.UnsupportedVersion, "%s does not know this call: %s: upgrade it", peer, s.Message())
	}
	return fault.New(fault.Internal, "%s: %s", s.Code(), s.Message())
}
