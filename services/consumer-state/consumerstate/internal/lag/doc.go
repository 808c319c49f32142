// Package lag knows how far a cursor is behind its lane's tail, in records and in seconds, and when the lane's head will overtake it.
//
// It is told where tails stand, and when, and keeps a bounded series of samples (sequence, time) per lane: dense for the last
// minutes, thinner the older. The age of the first record a cursor has not passed is read from them.
//
//	samples   10:00 ·   12:00 ·  12:30 · 12:31 · 12:32 ·        time of the tail when it was that sequence
//	                         ▲ cursor: the first record not passed is no younger than the next sample
//
// Heads and cursors are watched at the same moments; each has a rate, over the last half hour and the last minutes. Where the head is
// the faster, the records between them and the difference of the rates say when the consumer's next record will have expired.
//
// Invariants:
//
//	I1  what is not known is said to be unknown and never 0: no news of the tail, old news, no cursor, another epoch,
//	    a rate that was not watched for long enough.
//	I2  a cursor at or beyond the known tail of its epoch is 0 records and 0 seconds behind.
//	I3  seconds never exaggerates. AtLeast says that no sample is old enough to have been passed.
//	I4  lanes, samples and watched cursors are bounded; the lane unheard of the longest makes room.
//	I5  a tail does not go back within an epoch; a higher epoch begins the samples anew.
//
// Nothing here is durable: tails are told again every second.
package lag
