// Package subscription is one consumer's reading of one lane: a cursor, its credit and its byte window. It has no queue.
//
//	RSocket writer ── Next ──▶ window open? ──▶ feed.At(cursor+1) ──▶ parcel | behind: catchup.At(cursor+1) | tail: status or wait
//	RSocket reader ── Requested(n) ──▶ window takes n deliveries' bytes back
//
// Invariants:
//
//	I1  S5: the first parcel sent holds after+1; every further one begins at the sequence after the last one sent. A parcel that does
//	    not is a fault of ours and ends the stream; it is never sent.
//	I2  the next parcel is always looked up by cursor+1, live or not: there is no hand-over to get wrong.
//	I3  at most the window is under way, unless one parcel alone is larger; what is under way was counted when sent and is given back
//	    when credit returns, oldest first. A consumer that asks for 2^31-1 at once has said it wants no window.
//	I4  nothing is held between two calls of Next but numbers, and a few notices: commands to the consumer that wait to be sent.
//	I5  a notice goes before the next parcel and moves no cursor.
package subscription
