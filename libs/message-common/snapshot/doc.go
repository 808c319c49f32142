// Package snapshot is the form in which the state of a lane at exactly one sequence is kept and sent: immutable chunks and a manifest
// that names each of them by its hash.
//
//	state at S ──▶ rows, rising by key ──▶ ~1 MiB pieces ──▶ Seal: zstd, BLAKE3 ──▶ chunk 0, chunk 1, ...   one after the other in a file
//	deleted keys, rising by sequence ────▶ ~1 MiB pieces ──▶ Seal ────────────────▶ chunk n, n+1, ...
//	                                                                  └──▶ Manifest{lane, S, digest, count, floor, chunks} ──▶ its hash is the ID
//
// Whoever holds a manifest can take the chunks from anybody, in any order, and know that they are right; whoever holds an ID can take
// the manifest from anybody. One snapshot serves all ways of resynchronising: all row chunks are a bootstrap; the rows and tombstones
// behind a sequence are what changed since; the elements of the rows are what a sketch is made of.
//
// It does not know where chunks are kept or how they travel.
//
// Invariants:
//
//	I1  Open gives bytes only if they have the chunk's hash and unpack to exactly its raw length; unpacking never takes more memory.
//	I2  ParseManifest takes what is consistent only: chunks follow each other without holes, row counts add up to the digest's count,
//	    lengths are within the limits.
//	I3  every key deleted in (Floor, S] is among the tombstones, unless it is a row again.
//	I4  a manifest of another major format is refused; one of a newer minor is read, and what it says beyond is passed over.
package snapshot
