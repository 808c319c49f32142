// Package session is one connection to a delivery gateway, speaking the protocol of libs/message-common/protocol.
//
// It is the one package of the SDK's consumers that knows RSocket. It gives faults instead of ERROR frames, keeps credit up, and
// knows nothing of files, digests or what to do about a failure.
//
// Invariants:
//
//	I1  what a stream of deliveries may hold unread is bounded by its credit: WindowDeliveries payloads.
//	I2  every request has an end: its own deadline, the connection's keepalive lifetime, or Close.
//	I3  credit is given back for what was taken, never for what only arrived: a slow reader slows its sender.
package session
