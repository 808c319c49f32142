// Package rsocket is Lockstep's own small RSocket engine: one connection type that answers
// requests and makes them, over TCP, TLS and WebSocket. It takes the protocol's constants and
// its SETUP codec from rsocket-go's core packages and nothing else of that library.
//
// It knows nothing of streams of records, consumers or digests: it moves payloads, counts
// credit and keeps every peer inside its bounds.
//
//	      peer                                   one connection (Conn)
//	───────────────▶ socket ──▶ reader ──▶ frame ──▶ Acceptor (SETUP) / Responder / Inbound
//	                            one goroutine, for as long as the connection lives
//
//	◀─────────────── socket ◀── writer ◀──┬── control queue: answers, requests, credit (bounded)
//	                            runs only └── ring of ready streams: Source.Next, one payload a turn
//	                            while there is something to write
//
// What is supported: SETUP, KEEPALIVE, REQUEST_RESPONSE, REQUEST_FNF, REQUEST_STREAM, REQUEST_N,
// CANCEL, PAYLOAD and ERROR, in both directions. What is refused: REQUEST_CHANNEL (ERROR[REJECTED]
// on its stream, the connection stays), RESUME (REJECTED_RESUME; SETUP with a resume token
// REJECTED_SETUP), LEASE in SETUP (UNSUPPORTED_SETUP), frames of an unknown type without the
// ignore flag (CONNECTION_ERROR). METADATA_PUSH, which has no answer, is counted and dropped.
// Fragments are put together under a bound; fragments are never sent, so a payload larger than a
// frame is refused with ErrPayloadTooLarge where it is handed in.
//
// Invariants:
//
//	I1  Credit: a stream never sends more payloads than its peer has asked for, and an Inbound
//	    never holds more than it has asked for; a peer that sends more loses the stream.
//	I2  Pull: Source.Next is called only while the stream has credit and everything taken before
//	    has been handed to the socket. What one connection holds unsent is at most one round
//	    (256 stream payloads or about 256 KiB) plus the bounded control queue.
//	I3  Fairness: ready streams of a connection take turns, one payload each.
//	I4  No call into the application is made under a lock of the engine, so that Wake, Fail,
//	    Cancel and Close may be called from inside any callback.
//	I5  One source, one voice: Next is never called concurrently for one stream; Closed is called
//	    exactly once, after the last Next and the last Requested have returned.
//	I6  Every peer is on a clock: the first frame by SetupTimeout, then one whole frame at least
//	    every lifetime of its SETUP, and every write by the write deadline.
//	I7  Memory is bounded: frame size before allocation, allocation as the bytes arrive and not as
//	    they are announced, one budget per server for large frames and fragments, caps on
//	    connections, streams, outstanding requests and queued answers. Over a cap is answered.
//	I8  A panic in a handler ends that request, never the process.
//	I9  An idle connection costs one goroutine and a small read buffer; a grown buffer is given
//	    back at the first small read, which is at the latest the next KEEPALIVE.
//	I10 Payloads handed to the application are its own; payloads handed to the engine are shared
//	    and must not change until the process ends or nobody holds them (the engine never writes
//	    to them, and drops its reference once written).
//
// The engine starts no goroutine that outlives Close: Conn.Close ends the reader, the reader ends
// the streams, and Server.Close waits for all of them.
package rsocket
