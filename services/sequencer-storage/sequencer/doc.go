// Package sequencer is the sequencer-storage service: it gives records their order, makes them durable, and keeps what they add up to.
//
//	Append ──▶ server ──▶ committer ──▶ assign ──▶ engine (log, producers) ──▶ fsync ──▶ ledger: tail moves ──▶ answer
//	           checks      groups       sequences   one write per group            ├──▶ tip witness
//	                                                                               ├──▶ herald ──▶ NATS
//	                                                                               └──▶ materialiser ──▶ state, digest ──▶ herald
//	Read ◀──── reader ◀─── engine          Snapshot ◀── archive ◀── snapshot ◀── engine    retention: moves heads, frees segments
//
// One process owns a data directory. RocksDB (internal/engine) is the truth about records, SQLite (internal/catalogue) says what
// exists. It knows nothing of producers' connections or of consumers.
//
// Invariants (S numbers are the promises of the whole house):
//
//	I1  S1, S6: an append is answered, read, told and digested only after the fsync that covers it returned.
//	I2  S3: sequences of a lane are 1..N, across restarts too.
//	I3  S4: what was published before is answered with its old sequences; a fenced producer epoch is refused.
//	I4  S11: a batch that cannot be believed stops its lane; the other lanes go on.
//	I5  an fsync error ends Run with that error: the process is to exit, and recovery decides.
//	I6  a full disk refuses appends and nothing else, and needs no restart.
package sequencer
