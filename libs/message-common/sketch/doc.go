// Package sketch finds what differs between two sets of rows by sending little more than the difference.
//
// A set is coded as an endless row of symbols; symbol i sums up those elements that a pseudo-random walk of each element leads to i.
// Subtract two sides' symbols and what both have vanishes: only the difference is left, and about 1.4 symbols for each differing
// element give it up one by one. The sender needs to know nothing about the other side, and sends until the receiver says enough.
//
//	provider: ids ──▶ Sketch ──▶ symbols [0, n) ──▶ AppendBlock ──wire──▶ ParseBlock ──▶ Difference.Add ──▶ Done?
//	replica:  ids ──▶ Sketch ─────────────────────────────────────────────────────────────▶ ┘           theirs, ours
//
// An element is known here by an ID, the low half of its digest element. The code is a rateless invertible Bloom lookup table as
// described by Yang, Gilad and Alizadeh (2024).
//
// Invariants:
//
//	I1  every element is in symbol 0, so symbol 0 of the subtraction is empty exactly when everything was found.
//	I2  which symbols an element is in follows from its ID alone, by arithmetic that is exact on every machine; a change of it is a
//	    change of the wire format, and golden bytes say so.
//	I3  a Difference that answers Done may, with a probability of about 2^-32 an element, still be wrong: who uses it compares the
//	    digest of the outcome. It never holds more than was added to it.
//	I4  decoding a block never allocates more than the block's length allows.
package sketch
