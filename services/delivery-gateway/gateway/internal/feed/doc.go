// Package feed follows lanes: each lane once, however many listen.
//
//	NATS hint, maybe with a batch ──▶ Hear ─┐
//	poll: Tails every second of silence ────┤──▶ one follower per lane ──▶ ring of parcels ──▶ At(cursor+1)
//	storage Read of what is missing ◀───────┘         one byte budget for all lanes
//
// A listener keeps a cursor and asks At for the parcel that holds cursor+1. Found: it is sent. Tail: the listener is noted in the same
// step and woken when the ring grows. Behind: the ring no longer has it, and catch-up reads it from the log by the same sequence.
// So there is no moment of hand-over in which something could be skipped or repeated.
//
// Invariants:
//
//	I1  the ring is contiguous: a parcel is taken only when it begins at the sequence after the last one.
//	I2  what listeners see as the tail moves only with data in the ring; a hint alone moves nothing.
//	I3  a lower tail, an older epoch, a repeated or late hint change nothing.
//	I4  a newer epoch empties the ring, and every listener is told EpochMismatch, never given records of another history.
//	I5  a listener that is told Tail is woken at the next parcel, status or fault; noting it and looking are one step under one lock.
//	I6  rings of all lanes together hold at most the budget; the oldest parcel of the gateway goes first.
//	I7  at most one status per lane and StatusInterval, and one after HeartbeatInterval without any other delivery.
//
// Lock order: Feed.mu, then Budget.mu. Listeners are woken outside both.
package feed
