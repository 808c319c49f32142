// Package engine is RocksDB as this service uses it: two databases, one way to write, one way to sync. Nobody else imports the binding.
//
//	log/    log        segment, lane, base ──▶ one encoded batch   written with the WAL, synced before any answer
//	        producers  lane, producer, ... ──▶ what it published   same write as the batch
//	state/  state      lane, key           ──▶ latest row          written without the WAL, together with a mark; rebuilt from the log
//
// A database has one queue of writers, and slows them all when one of its families has compactions outstanding. The state has both
// large writes and many compactions, and an append must wait for neither: hence the second database. Nothing is ever to be changed in
// both at once: the state follows the log.
//
// Invariants:
//
//	I1  Write with WAL is durable when a later Sync returned nil, and only then.
//	I2  a Batch is applied whole or not at all, across crashes too, and changes one database. Within one column family a memtable flush never divides it.
//	I3  every block read is checked; a mismatch is a fault.Corrupt, never other bytes.
//	I4  a damaged tail of the WAL is cut only where nothing follows it (recovery mode "tolerate corrupted tail"): damage before the
//	    end fails Open instead of opening with fewer records.
package engine
