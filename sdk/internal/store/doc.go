// Package store is the file of a replica: where it lies, what is in it, how it is written, replaced and read again.
//
//	orders.db                    symbolic link, the path people use
//	orders.db.lockstep/
//	  000001.db  -wal -shm       the generation before, until nobody holds it
//	  000002.db  -wal -shm       the generation the link names
//	  lock                       held by the process that writes
//	  unproven.db                the last build that was refused, for diagnosis
//	  cleared                    the link that was taken away before the generation it names is replaced
//
// A generation is an SQLite database in WAL mode, synchronous FULL: one table named after the stream (key, value, headers, seq,
// time), and beside it _lockstep_meta (whose copy this is) and _lockstep_lanes (cursor and running digest of each partition).
// Everything else in it is the user's. The pages of the stream's table are written by package pages, everything else by SQLite.
//
// It is the one package that knows SQLite. It does not know providers, sessions or retries.
//
// Invariants:
//
//	I1  rows, cursors and digests change in one transaction.
//	I2  a generation is linked only after its rows were read back from the file, compared with what they must prove, and fsynced.
//	    Until then it is invisible; what an interrupted build left is removed at the next open.
//	I3  a linked file is never renamed, overwritten or truncated; it is unlinked only when no connection holds it.
//	I4  a path that is not a replica of this stream is refused and left as it is.
//	I5  value is TEXT exactly when it is UTF-8 without NUL, else BLOB; headers are NULL when there are none. A row of another shape
//	    never has the digest of a row.
//	I6  no file of a linked generation is opened but through SQLite: closing another descriptor would drop SQLite's locks.
package store
