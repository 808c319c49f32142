// Package rpc makes gRPC servers and connections that behave: bounded, with deadlines, and with faults that survive the way.
//
// A handler returns a *fault.Fault; the caller's errors.Is(err, fault.UnknownStream) holds. In between it is a gRPC status with the
// code and the detail that api/faultstatus gives.
//
// Invariants:
//
//	I1  every call has a deadline: a unary call without one gets ClientConfig.CallTimeout.
//	I2  a silent peer is noticed within KeepaliveInterval + KeepaliveTimeout, on both sides.
//	I3  a panic in a handler is answered as an Internal fault and the process goes on.
package rpc
