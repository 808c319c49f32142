// Package catalogue remembers what ingest has to know of a stream: its id, its lanes, its limits, its schema.
//
// The truth is the sequencer's catalogue. A stream's spec never changes while the stream lives, so an entry stays good until the
// stream is deleted; whoever finds that out (a refused append, a DeleteStream that passed through here) calls Forget.
//
// Invariants:
//
//	I1  at most Config.MaxStreams entries are kept; the one used longest ago goes first.
//	I2  absence is never remembered: a stream just made is found at once. What is remembered for nearStreamsFor is the list of names
//	    for "did you mean", so that a loop of wrong names costs the sequencer one list per period.
package catalogue
