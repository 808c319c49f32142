// Package depot keeps copies of snapshots on the gateway's disk, so that storage is asked once for what many consumers need.
//
//	Open(lane, at least, id) ──▶ a fresh enough copy? ─────────────────────────────────────────▶ Copy: Chunk, Changes, Rows, Sketch
//	                               │ no                                                            ▲
//	                               └▶ one flight per lane ──▶ storage: manifest, then ranges ──▶ file + manifest on disk
//	                                  (all who wait hear of      in parallel, every chunk
//	                                   its progress)             checked before it is kept
//
// A copy is a cache: storage has what it holds, or had. It does not know consumers, credit or rates.
//
// Invariants:
//
//	I1  a chunk is used only if it has the hash its manifest names: proven when it was pulled, and once more after a restart, whenever a
//	    scan reads it, and when somebody asks for a proof. One that is not is fetched again from storage; when storage has let go of
//	    the snapshot, the copy is dropped.
//	I2  calls for one lane at one moment are one flight; a copy is pulled once however many wait. At most Pulls flights run, at most
//	    maxFlights wait.
//	I3  files take at most DiskBytes; the least recently used copies go first, one in use never.
//	I4  a copy whose manifest is on disk is whole: the manifest is renamed into place after the chunks.
//	I5  sketches take at most SketchBytes of memory, idle ones go first; at most Scans scans run, and none holds its place while its
//	    consumer is waited for.
//	I6  what Open gives is at or above the position asked for, of its epoch, of the stream and lane asked for.
package depot
