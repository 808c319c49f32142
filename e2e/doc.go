// Package e2e is the house seen from outside: scenarios run the commands a person runs, against real processes on real disks.
//
//	scripts      testdata/script/*.txtar against `lockstep dev`       scripts_test.go
//	docs         every command of README.md and docs/ is executed    docs_test.go
//	real input   the Debian package index, byte for byte             realdata_test.go
//	crashes      kill -9 at seeded moments, checked by a ledger      crash_test.go
//	apart        four processes and a NATS server; parts stopped     apart_test.go
//
// Nothing here knows the inside of a service. The binaries are those in $LOCKSTEP_BIN, or are built once per run.
package e2e
