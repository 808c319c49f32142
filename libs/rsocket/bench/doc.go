// Package bench holds only benchmarks: the engine's payload throughput beside gRPC streaming and
// raw TCP, in one run on one machine. It is a module of its own, outside the workspace, so that
// the engine does not depend on gRPC:
//
//	cd libs/rsocket/bench && GOWORK=off go test -bench . -benchtime 1s
package bench
