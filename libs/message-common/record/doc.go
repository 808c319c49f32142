// Package record is what is stored: sequence, time, key, headers, value; and how records stand one after another in a batch body.
//
//	body := record*
//	record := flags time key [headers] [value]
//	  flags    uvarint   bit 0 tombstone, bit 1 has headers; other bits are refused
//	  time     varint    milliseconds since 1970, as the difference to the record before (to 0 for the first)
//	  key      uvarint length, bytes
//	  headers  uvarint length, bytes         only with bit 1
//	  value    uvarint length, bytes         only without bit 0
//
// Sequences are not written: a record's sequence is its batch's base plus its place.
//
// Invariants:
//
//	I1  decoding never reads beyond the body, never allocates in proportion to a length it was told, and refuses what encoding cannot make.
//	I2  headers are canonical JSON (Headers): equal headers are equal bytes, so they can be hashed and stored as they are.
package record
