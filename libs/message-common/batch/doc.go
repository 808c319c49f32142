// Package batch is the unit of everything: written with one key, fsynced, cached, shared and delivered as the same bytes.
//
//	┌──────────────── header, 88 bytes, big endian ────────────────┬─ body ─┐
//	 0 magic "LB"      2 major       3 codec       4 header length
//	 6 reserved        8 epoch      16 base       24 count
//	28 raw length     32 body length 36 body CRC  40 first time ms
//	48 last time ms   56 chain of the batch before (16)
//	72 stream id      80 partition  84 header CRC
//	└───────────────────────────────────────────────────────────────┴────────┘
//
// Ingest makes a draft (Builder.Build): everything but epoch, base, chain and header CRC. The sequencer stamps those (Stamp) in
// place; the body is compressed once, at ingest, and never touched again on its way to the consumer.
//
// Invariants:
//
//	I1  a byte changed anywhere in a stamped batch is found: CRC32C over the header and over the stored body.
//	I2  a batch removed, repeated, reordered or put into another lane is found: the chain covers every header since the lane's first batch.
//	I3  decoding is bounded: a body never grows beyond its declared raw length, and that never beyond MaxRawBytes.
//	I4  a header of a newer minor version is longer; what is behind the known fields is covered by the CRC and otherwise ignored.
package batch
