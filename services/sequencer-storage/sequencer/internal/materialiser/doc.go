// Package materialiser follows the log and keeps the state: latest row per key, and the digest of all rows, record by record.
//
//	log ──▶ apply: old element out, new element in ──▶ digest at every batch's end ──▶ readers, notifications
//	             │ old elements: window, remembered ones, window being written, engine (one call for what a batch misses)
//	             └─▶ window of changed keys ──▶ the other window, sorted by key ──▶ one write: rows + marks, without the WAL
//
// It works behind the append path and only ever reads what is published. A window is written when it has WindowKeys keys or
// WindowBytes bytes or is WindowAge old; a key changed ten times meanwhile is written once. One window gathers while the other is
// written; whoever fills the first before the second is written waits.
//
// A deleted key leaves a tombstone, so that a replica can be told what changed since its cursor without the whole state.
//
// A window is one write, not pieces with the mark behind them: with a piece of a later sequence stored and the mark still behind, the
// element a replay has to take out of the digest would be overwritten, and lost. Nobody waits for the large write but the next one,
// because the state has a database of its own.
//
// Invariants:
//
//	I1  what is stored is the state at exactly the stored mark (one atomic write), so after a crash the log is replayed from there.
//	I2  a digest is only given out for what is published.
//	I3  a lane whose log cannot be believed is stopped, and its state stays where it was: a batch is applied whole or not at all.
//	I4  what is remembered of a key is what it has now, a row or a tombstone; when as much of a lane is remembered as it has, it has
//	    nothing else.
//	I5  tombstones go oldest first, in the write that raises the floor over them; those above the floor are all there. The floor rises
//	    to what all registered consumers have passed, and beyond that only to keep the bounds: who is below it compares all rows.
package materialiser
