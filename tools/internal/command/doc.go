// Package command is the lockstep command line.
//
//	flags ─▶ environment (LOCKSTEP_...) ─▶ one cobra command per file ─▶ SDK or gRPC ─▶ stdout: results, stderr: people
//
// Invariants:
//
//	I1  stdout carries results only, as text for people or, with --json, one JSON object per line; everything else goes to stderr.
//	I2  nothing asks a question. Progress bars appear only when stderr is a terminal and --json was not given.
//	I3  exit codes: 0 done; 1 failed (verify, diff: different); 2 wrong usage (verify, diff: could not tell); 130 interrupted.
//	I4  an error says what happened, what was kept and what to do; with --json it is a fault object on stderr.
package command
