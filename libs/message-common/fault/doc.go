// Package fault is the one error that crosses boundaries.
//
// A Fault has a Reason that never changes its spelling, so that programs can act on it, and a message for people that says what
// happened, what was kept and what to do. It survives gRPC (api/faultstatus) and RSocket (as JSON in an ERROR frame) and wraps its
// cause on the side where it was made. Compare with errors.Is(err, fault.UnknownStream) or fault.ReasonOf(err).
//
// It does not know transports: the mapping to a gRPC code or an HTTP status is made where those are spoken.
package fault
