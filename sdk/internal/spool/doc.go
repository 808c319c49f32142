// Package spool keeps the chunks of a snapshot on disk while they arrive, so that a bootstrap goes on where it was interrupted.
//
//	<dir>/spool-<partition>-<id>.manifest   written first, whole or not at all
//	<dir>/spool-<partition>-<id>.chunks     each chunk where the manifest says; holes where one is missing
//
//	gateway ──chunk──▶ Put: hash ──▶ file ──┐
//	                        └──────────────▶│ Take: waits for the chunk, unpacks it ──▶ the build
//
// It knows snapshots and files, not gateways or databases. One process at a time uses a directory; its caller holds the lock.
//
// Invariants:
//
//	I1  a chunk counts as there only after its bytes had the manifest's hash: on the way in, and again when a spool is opened. Nothing else
//	    remembers which are there, so no crash can make it wrong: at most the chunk that was being written is missing.
//	I2  Take gives bytes that have their hash; a chunk that was damaged on the disk meanwhile is missing again.
//	I3  memory is bounded: hotChunks chunks that the reader wants next, and one being read.
package spool
