// Package consumerstate remembers who consumes, how far each consumer is, how it feels and what it was told to do, and says how far it is
// behind and when retention will overtake it.
//
//	delivery-gateway ── Attach, Checkpoint, Report, Detach ──▶ committer ──▶ store (SQLite, fsync)
//	people           ── IssueReset ─────────────────────────▶    │
//	                                                             │ then
//	delivery-gateway ◀── WatchResets ── watch ◀──────────────────┤
//	sequencer-storage ── ExchangeTails ──▶ lag ◀── tails         ▼
//	                 ◀── lowest, highest cursors ───────────── roster ──▶ ListConsumers, ListResets
//
// Invariants:
//
//	I1  an answer without an error means that it is on disk; nobody is told of a cursor or a command that is not.
//	I2  a cursor never goes back. A lower one is answered with what is kept; a higher epoch replaces. One exception: when a log consumer
//	    reports that it has done a command to begin anew from a sequence or a time, its cursors move to before that, in the same commit,
//	    and stay there until it attaches again, so that acknowledgements still under way cannot undo it. A replica's never do.
//	I3  a consumer has one live incarnation: the newest. Others get fault.ConsumerFenced and change nothing.
//	I4  lag that is not known is left unset, never 0.
//	I5  only DeleteConsumer deletes: streams that are no longer heard of, silence and restarts take nothing away.
//	I6  consumers, cursors, lanes, texts, calls in waiting, watches and commits have bounds; beyond them there is an answer that says so.
//	    Of each consumer's commands the last 16 are kept, of a stream's four times as many as consumers are allowed: the oldest that have
//	    ended go, and their ids are forgotten.
//	I7  a command id means one command of its stream: the same content again answers the same command, other content is refused. A consumer has at most
//	    one open command, since a newer one supersedes it. Waiting, running and an end follow in that order; an end is final.
//	I8  an open command is sent to the gateway its consumer is attached at: with every new watch, with every new attach, until its end is
//	    reported. What was superseded is not sent behind what superseded it.
//
// ExchangeTails answers with the lowest cursor of all registered consumers of a lane, whether they are attached or away. Replicas are
// registered like log consumers, so sequencer-storage lets go of a tombstone early only when every replica has passed it. A consumer that has
// no cursor in the lane's epoch makes the lowest 0. One that is gone for good holds everything back until DeleteConsumer.
//
// A cursor is believed: that it is not above what was delivered is the gateway's promise. It does not know records.
package consumerstate
