// Package archive makes snapshots of lanes and keeps them as files for those who bootstrap and repair.
//
//	Open ──▶ a kept one that fits? ──yes──▶ lease, manifest
//	           │ no                                              one build a lane, shared by all who ask meanwhile
//	           └──▶ Pin the state at S ──▶ snapshot.Writer ──▶ building-N ──▶ <id>.chunks, <id>.manifest ──▶ catalogue row
//	ReadAt ──▶ whole chunks, each compared with its hash ──▶ lease
//	Run ──▶ what nobody leases and a newer one replaces, or what is old, or over the disk budget, goes
//
// A snapshot is a copy: it can always be made again, so its files are not fsynced, and a damaged one is dropped.
//
// Invariants:
//
//	I1  one build of a lane at a time, MaxBuilds in all; whoever asks meanwhile waits for it, and for another only if it is too old.
//	I2  a snapshot given out is kept until its lease ends, whatever the budget; leases are in the catalogue and outlive the process.
//	I3  S11: bytes that are not what the manifest names are never given out: the snapshot is dropped, and the next Open makes another.
//	I4  a file without a row, and a row without its files, are removed at the start.
//	I5  nothing is built with less than ReserveBytes free on disk.
package archive
