// Package sdk is the Go SDK of Lockstep: durable streams of keyed records, and local SQLite copies of them that are proven equal to the
// provider's state.
//
//	producer   publishes records: packed, pipelined, retried under the same numbers, each answered once
//	consumer   follows records from any place, acknowledges, is told of every loss
//	replica    keeps an SQLite file equal to a keyed stream's state, and proves it; the file is yours to query
//	sdktest    a provider in memory on loopback ports, for your own tests
//
// Errors carry a reason of libs/message-common/fault: compare with errors.Is(err, fault.UnknownStream).
//
// The SDK speaks gRPC to ingest and RSocket to delivery gateways. It knows nothing of how the provider stores or orders.
package sdk
