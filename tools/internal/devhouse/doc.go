// Package devhouse is the whole house in one process: the four services, an embedded NATS server, one data directory.
//
//	          ┌──────────────────────────── one process ─────────────────────────────┐
//	:7400 ───▶│ ingest ──gRPC──▶ sequencer-storage ◀──gRPC── delivery-gateway        │◀─── :7410 (tcp), :7411 (ws)
//	:7401 ───▶│                    :7430 │  └──NATS, no port──▶ │                    │
//	          │                          └──gRPC──▶ consumer-state ◀──gRPC──┘  :7420 │     :7480 admin
//	          └──────────────────────────────────────────────────────────────────────┘
//
// The services are the same values as in separate processes and speak real gRPC over loopback; only NATS has no port, and there is
// no Redis. For one person's machine: every address is loopback, and nothing asks who calls unless there is a
// tokens file.
//
// Invariants:
//
//	I1  one process holds a data directory; another is refused, and touches nothing.
//	I2  a directory of another format version, or with foreign contents, is refused, and touched by nothing.
//	I3  every port is taken before anything starts; a port in use is named with the flag that changes it.
//	I4  services start in the order storage, consumer-state, ingest, gateway, and stop in the reverse one.
package devhouse
