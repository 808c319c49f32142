// Package pages writes the file of an SQLite database without SQLite, and reads its rows back: what a bootstrap needs to be as fast as
// the disk. The format is that of https://www.sqlite.org/fileformat2.html.
//
//	rows, rising by key ──▶ Writer ──▶ page 1  header and schema
//	                                   page 2  root of the table      ◀─ interior pages ◀─ leaves: rowid 1, 2, 3 ... in order of the keys
//	                                   page 3  root of the index      ◀─ interior pages ◀─ leaves: (key, rowid)
//	                                   page 4… leaves, overflow and interior pages of both trees, in the order in which they were full
//
//	file ──▶ Digests ──▶ the set hash of each partition, as the rows lie in the file
//
// The table is that of a replica: key TEXT PRIMARY KEY NOT NULL, value, headers TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL. The file is
// an ordinary database afterwards; SQLite adds the other tables.
//
// It does not know where files lie, what a generation is, or SQLite's library.
//
// Invariants:
//
//	I1  a finished file passes SQLite's integrity_check, and every row is found through the index.
//	I2  rows are written in one pass and pages in rising order, but for the first three; memory is bounded by two pages a level of a tree
//	    and one buffer.
//	I3  value is TEXT exactly when it is UTF-8 without NUL, else BLOB; headers are NULL when there are none.
//	I4  Digests answers a set only if every cell, length, rowid, type and overflow page is what the Writer makes; a row of another shape
//	    is a fault, and a changed byte of a row changes its set. So is an index that does not lead to exactly these rows.
package pages
