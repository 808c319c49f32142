// Package jsonlines reads records from JSON lines: one JSON object per line, the line's own bytes being the value.
//
// Invariants:
//
//	I1  the value is the line, byte for byte, without its line feed; nothing is re-encoded.
//	I2  a line that cannot be taken is a BadLine that names its number; the next line can still be read.
//	I3  memory is bounded by the longest line that may be a value, whatever the input is.
package jsonlines
