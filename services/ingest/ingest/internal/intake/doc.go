// Package intake takes a request apart, and its answer together: check every record, pick its lane, hand the lanes' runs to the
// outbox, fold the fates of the records into outcomes.
//
//	PublishRequest ─▶ decode ─▶ check, partition ─▶ outbox ─▶ fates ─▶ outcomes, in the order of the records
//
// Invariants:
//
//	I1  every record of a request has exactly one outcome, in the order of the request; neighbours of equal fate are folded.
//	I2  a record that is refused here does not hold up the others: they keep their own producer sequences.
//	I3  a packed request is not copied: its records alias the request, which the caller must not change until the answer.
//	I4  memory of a request is used again only after every one of its runs is done.
//	I5  who may not publish to a stream is refused before the stream is looked up, and so learns nothing of it.
package intake
