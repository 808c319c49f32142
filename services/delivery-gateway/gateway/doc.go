// Package gateway delivers streams to consumers over RSocket.
//
//	                   ┌────────────────────────── gateway ──────────────────────────────┐
//	NATS hints ───────▶│ feed: one follower and one ring per lane, shared by all         │
//	storage (gRPC) ───▶│   │            catchup: blocks below the ring ◀── cache (Redis)  │══▶ consumers (RSocket:
//	                   │   └──▶ subscription: cursor, credit, byte window; no queue      │    TCP, TLS, WebSocket)
//	storage snapshots ▶│ depot: verified copies on disk, sketches ──▶ supply: places,    │
//	                   │                                one rate, bounded read-ahead     │
//	consumer-state ◀───│ session: incarnations, fencing ◀── acks: coalesced, forwarded   │◀── acks, status
//	its commands ─────▶│ resets: in band, on the subscriptions of the live incarnation   │
//	                   └─────────────────────────────────────────────────────────────────┘
//
// What a consumer says is in api/delivery/v1, where it says it in libs/message-common/protocol. The rooms are in internal/, each
// with its own promise. This package ties them: configuration, life cycle, and one method per route.
//
// Promises (S5 and others are those of DESIGN, the system's):
//
//	I1  S5: fresh deliveries of a subscription are exactly previous+1; after a position p the first batch holds p+1.
//	I2  a batch is encoded once and shared by all connections; a consumer costs a cursor, its credit and its socket.
//	I3  S8: requests that name an incarnation are served only if it is the live one on that connection.
//	I4  S7: a cursor above what its incarnation was sent on this connection, or had when it subscribed, is refused before consumer-state
//	    hears of it; so is one above the lane's committed tail or of another history: what consumer-state keeps is also storage's
//	    witness of what must exist.
//	I5  S12: with a tokens file, nothing of a stream reaches a connection whose token does not grant it, not its name either; checked at
//	    SETUP, at every request that names a stream, and for what is open whenever the file changes.
//	I6  S13: rings, blocks, read-ahead, waiting acks, connections and streams per connection are bounded by Config; over a bound is
//	    answered, never queued.
//	I7  NATS, Redis, consumer-state or storage away: what can go on goes on, and all comes back by itself.
//	I8  any gateway serves any consumer: nothing a consumer needs later is kept here. A bootstrap that one gateway began another goes
//	    on with, by the snapshot's ID.
//	I9  S11: a chunk of a snapshot leaves only if it had the hash its manifest names when it came, and once more when it is asked for
//	    again on one connection; a damaged one is fetched again.
//	I10 resynchronisation gives way: so many bootstraps and repairs at once, one rate for all their bytes, which falls while live tails
//	    would wait for a processor; a subscription never waits for any of it.
//	I11 a command of consumer-state to a consumer attached here is told in band on each of its subscriptions, again after every new
//	    attachment and watch, until the consumer has reported its end.
package gateway
