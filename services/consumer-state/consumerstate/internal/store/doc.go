// Package store keeps the roster on disk: one SQLite file, consumers.db, in a directory it holds alone.
//
// Invariants:
//
//	I1  when Commit returns nil its changes are fsynced, all of them; when it returns an error none of them is there.
//	I2  one process has the directory: a second gets fault.InUse.
//	I3  a file of another program, of another version or with broken pages is refused and left as it is.
//	I4  all statements run on one connection.
//
// It is the only importer of the SQLite driver. It does not know what a cursor means.
package store
