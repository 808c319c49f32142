// Package lane names the places records live in.
//
// A stream is a named sequence of records; it is cut into partitions, and one partition of one stream is a lane: the unit of order.
// Within a lane records have sequences 1..N without holes. An epoch rises whenever a lane's history may have been cut, so a sequence
// that leaves a process always travels as a Position.
//
// Invariants:
//
//	I1  records of one key share a lane: Of depends on nothing but the key and the number of partitions, and never changes.
//	I2  sequences are 1-based; 0 is "before the first".
package lane
