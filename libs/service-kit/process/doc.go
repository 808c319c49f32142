// Package process runs any service as a process of its own.
//
//	flags, environment, file ─▶ log, metrics ─▶ admin page's port ─▶ Open ─▶ admin page ── service      until a signal or a failure
//	                                                                        ◀─ what Open dialled is closed, last first
//
// A service says its settings and how it is opened (Program); everything else is the same for all of them.
//
// Invariants:
//
//	I1  a setting has one name: the flag, in the environment LOCKSTEP_ and the flag's name, in the file the flag's name (package settings).
//	I2  the admin page is there before the service and after it, so that probes see it come and go.
//	I3  whatever is wrong with the settings ends the process before anything is served, with exit code 1 and a line that says so.
package process
