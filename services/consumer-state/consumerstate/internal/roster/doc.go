// Package roster knows who consumes, how far they are and what they are told to do, in memory: consumers, incarnations, cursors, commands.
//
//	committed Roster ──Draft──▶ commands change the draft ──▶ Changes ──▶ disk ──▶ Publish: the draft becomes the roster
//
// Readers of the Roster never see what is not on disk; a draft whose commit failed is dropped and nothing happened.
// It does not know SQLite, gRPC or clocks: time comes in as milliseconds since 1970.
//
// Invariants:
//
//	I1  a cursor never goes back: it changes only to a position that compares higher (a higher epoch is higher). One exception: a log
//	    consumer says it has done a command to begin anew; from then to its next Attach its cursors stay where that moved them.
//	I2  an incarnation is given once: Attach gives one above every earlier one of that name, deleted consumers included.
//	I3  only the newest incarnation changes anything; others get fault.ConsumerFenced and leave no trace.
//	I4  a published Consumer is never changed again; a draft works on a copy.
//	I5  the highest cursor of a lane outlives the consumer that set it.
//	I6  the number of consumers, of cursors and commands of each, and of commands of a stream, is bounded; the oldest ended ones go.
//	I7  a consumer has at most one open command, its newest; an end (done, failed, superseded) is final.
package roster
