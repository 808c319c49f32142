// Package ingest is the way in: it takes records from producers over gRPC and HTTP, and hands them to the sequencer in batches.
//
//	             ┌─ server.go (gRPC) ─┐
//	producers ──▶│                    ├─▶ internal/intake ──▶ internal/outbox ──▶ sequencer-storage
//	             └─ internal/web ─────┘    check, lane, fold    batch per lane      order, fsync
//	                                          │
//	                                   internal/catalogue, internal/schema
//
// It keeps nothing: a record is answered when the sequencer has fsynced it, or refused, or its outcome is unknown. Any number of
// ingests may run side by side.
//
// Invariants:
//
//	I1  an answer with a sequence is given only for what the sequencer said it fsynced (S1), and every record gets exactly one answer.
//	I2  per lane the order of a call's records is the order of the log. One append of a lane is in flight; a batch gathers meanwhile.
//	I3  a call with a temporary failure ends: once a record of a PublishStream call was answered `unavailable`, `unknown_outcome`,
//	    `overloaded` or `disk_full`, no later record of the call is sent. Those already read are answered `unavailable`, and the call
//	    ends with that reason. The producer opens another and sends again from the first unanswered record on, under the same
//	    producer sequences; so a retry is never behind its own successors.
//	I4  memory is bounded: Config.LaneBytes, TotalBytes, StreamReadAheadBytes, MaxRequestBytes, MaxConnections, MaxCalls. At a bound a
//	    PublishStream is not read any further; a Publish or HTTP post waits for OverloadWait and is answered `overloaded`.
//	I5  `unknown_outcome` is answered for records that were handed over and not answered (S2), and for nothing else.
//	I6  with a tokens file, whoever has no right to a stream is refused before anything of a request is looked up or kept, and is told no
//	    stream's name that it has no right to (S12). A grant is judged at every request, also of an open PublishStream call.
package ingest
