// Package e2e is the house seen from outside: scenarios run the commands a person runs, against real processes on real disks.
//
//	scripts      testdata/script/*.txtar against `lockstep dev`       scripts_test.go
//	docs         every command of README.md and docs/ is executed    docs_test.go
//	real input   the Debian package index, byte for byte             realdata_test.go
//	crashes      kill -9 at seeded moments, checked by a ledger      crash_test.go
//	resync       left behind, damaged, commanded, killed, rotten, a herd   resync_test.go, commands_test.go, resync_crash_test.go, rotten_test.go, herd_test.go
//	apart        four processes and a NATS server; parts stopped     apart_test.go
//
// LOCKSTEP_CRASHES=200 kills that many times while something resynchronises, instead of a few.
//
// Nothing here knows the inside of a service. The binaries are those in $LOCKSTEP_BIN, or are built once per run.
package e2e
