// Package replica keeps a local SQLite copy of a keyed stream's state, and proves that it is one.
//
//	r, err := replica.Open(ctx, replica.Config{Stream: "orders", Path: "./orders.db", Gateways: []string{"tcp://127.0.0.1:7410"}})
//	err = r.WaitSynced(ctx)                       // equal to the provider at the tail of this moment, or later
//	rows, err := r.DB().Query(`SELECT key, value->>'total' FROM orders`)
//
// What happens inside:
//
//	                    ┌─ one goroutine a partition ─┐      ┌──────────── the writer, one goroutine ─────────────┐
//	gateway ──batches──▶│ check, decompress, hash     │─────▶│ rows + cursor + digest in one transaction ──▶ ack  │──▶ orders.db
//	        ──digests──▶└─────────────────────────────┘      │   equal to the provider's digest?  no ──▶ SUSPECT  │
//	                                                         │   re-read all rows; still different ──▶ ladder     │
//	        ──changes─────────────────────────────────────▶ │ changes: one transaction, digest compared ─────────│──▶ orders.db
//	        ──sketch, rows────────────────────────────────▶ │ repair: those that differ, in one transaction ─────│──▶ orders.db
//	        ──chunks──▶ check hash, spool, decompress ─────▶ │ bootstrap: merge by key ──▶ pages of a new file ──▶│──▶ orders.db, anew
//	                                                         │   read back and compared, fsynced, swapped         │
//	                                                         └────────────────────────────────────────────────────┘
//
// Invariants:
//
//	I1  rows, cursor and digest of a batch become visible together, and only if no digest the provider has given contradicts them.
//	I2  a cursor moves by whole batches without gaps; a gap is filled from the log or, where that has expired, by changes.
//	I3  a digest that differs is never passed over: the rows are read again, and unless they then agree the ladder is climbed until the
//	    digest agrees: changes, repair, bootstrap, each undone when it does not. It is counted, logged and told as an Event.
//	I4  readers see one generation: a query under way finishes on the old file, new queries read the new one. Config.Reads says what
//	    queries get while a new one is made.
//	I5  an acknowledgement is sent after the commit it speaks of.
//	I6  WaitSynced returns nil only when every partition was compared equal with the provider at a sequence at or above the tail
//	    it had when WaitSynced was called.
//	I7  memory is bounded: credit per partition, inboxBatches and inboxBytes decoded, coalesceBytes a transaction, rememberedSets digests
//	    a partition, changesBytes a Changes iterator; in a bootstrap lanesAtOnce windows of chunks, and three chunks a partition.
//	I8  once rows that were read again are not what was written, nothing counts as verified before they were made equal again, or before
//	    a batch that makes the rows the provider's again was compared with the provider's digest.
//	I9  a bootstrap that was interrupted, by whatever, goes on with the chunks it has, as long as a gateway keeps their snapshot; what it
//	    has is what has its hash on the disk.
//
// # Your own tables
//
// The file is yours beside the stream's table: make indexes, views, triggers and tables in it with any SQLite connection, or keep
// tables up to date in the same transaction as the rows with Config.Apply. Do not write to the stream's own table: the digest finds
// it, and the rows are repaired. What changes and repairs write passes through Apply and fires triggers, like everything that arrives.
//
// When a bootstrap builds a new generation your tables are copied with their rows, and your indexes, views and triggers are made
// again, before it becomes visible. The bootstrap's rows do not pass through Apply and fire no triggers: tables that are computed from
// the stream's rows must be computed again in Config.Rebuild, which runs in the same build, after the copying. What could not be
// copied is named in an Event, and the generation before is then kept in the directory beside the link. Rows you write to your own
// tables while a build is copying them may be missed; write them through Apply to be sure.
package replica
