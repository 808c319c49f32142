// Package outbox holds what waits for the sequencer, lane by lane, and sends it in order.
//
//	Reserve ──▶ room in the lane and in all ──▶ Submit ──▶ queue of runs ──┐ one worker per busy lane
//	                                                                       ▼
//	                            draft (gathers) ──▶ batch in flight ──▶ Append ──▶ answer
//	                                                     ▲                            │
//	                                                     └── runs not refused ◀───────┘
//
// While one batch of a lane is at the sequencer the next gathers; nothing waits for a timer. A worker lives while its lane has
// something to send.
//
// Invariants:
//
//	I1  one append of a lane is in flight at a time, and runs go out in the order of Submit; what a refusal left over goes out before
//	    anything newer. A batch refused as a whole for what a run may have done is divided until only that run is refused.
//	I2  every record submitted is settled exactly once, and then its run is done; a reservation is given back when its run is done.
//	I3  bytes reserved are at most Config.LaneBytes in a lane and Config.TotalBytes in all. A single request larger than that counts
//	    as that much, so that it can pass, alone.
//	I4  after a record of a Session failed for a temporary reason no later record of the Session is sent: otherwise its retry would be
//	    behind its successors, and be out of order.
//	I5  what was handed to the connection and not answered is UnknownOutcome; what was never handed over is Unavailable.
package outbox
