// Package catalogue is the SQLite file that says what exists: streams, their lanes, sealed segments, producers' epochs. Nobody else
// imports the driver.
//
// The log is the truth about records; what is written here about them (extents) is rebuilt from it where it is missing. What only
// lives here: streams and lanes, heads and floors, producers' epochs. None of it is written on the way of an append.
//
// Invariants:
//
//	I1  a change that returned nil survives power loss: WAL with synchronous=FULL, one connection.
//	I2  stream ids and lane numbers are never reused.
package catalogue
