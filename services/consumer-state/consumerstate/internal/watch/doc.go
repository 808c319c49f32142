// Package watch tells gateways which of their consumers have a command waiting.
//
//	Tell(gateway, consumer) ──▶ one set of consumers per watch ──▶ Take: the watcher looks each up, and sends what is true by then
//
// A watch holds names, not commands: a consumer that is told of twice before the watcher comes to it is one entry, and a command that
// was replaced meanwhile is never sent behind the newer one.
//
// Invariants:
//
//	I1  what is told after Join returned is taken, or the watch ends with an error that says so; nothing is dropped in silence.
//	I2  Tell never blocks.
//	I3  watches, and the entries of each, are bounded.
//
// It does not know consumers, commands or gRPC.
package watch
