// Package consumerstate remembers who consumes, how far each consumer is, how it feels, and says how far it is behind.
//
//	delivery-gateway ── Attach, Checkpoint, Report, Detach ──▶ committer ──▶ store (SQLite, fsync)
//	                                                               │ then
//	sequencer-storage ── ExchangeTails ──▶ lag ◀── tails           ▼
//	                 ◀── lowest, highest cursors ─────────────── roster ──▶ ListConsumers
//
// Invariants:
//
//	I1  an answer without an error means that it is on disk; nobody is told of a cursor that is not.
//	I2  a cursor never goes back. A lower one is answered with what is kept; a higher epoch replaces.
//	I3  a consumer has one live incarnation: the newest. Others get fault.ConsumerFenced and change nothing.
//	I4  lag that is not known is left unset, never 0.
//	I5  only DeleteConsumer deletes: streams that are no longer heard of, silence and restarts take nothing away.
//	I6  consumers, cursors, lanes, texts, calls in waiting and commits have bounds; beyond them there is an answer that says so.
//
// A cursor is believed: that it is not above what was delivered is the gateway's promise. It does not know records.
package consumerstate
