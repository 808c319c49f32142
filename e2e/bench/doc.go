// Package bench measures the whole path: producers, ingest, sequencer-storage, gateway, consumers, in real processes over loopback,
// with an fsync before every answer.
//
//	go test ./e2e/bench -run '^$' -bench . -benchtime 1x -count 3
//
// Each benchmark starts its own `lockstep dev` on a fresh directory; producers and consumers run in the test's process, so both sides
// share the machine. Rates are reported as metrics (records/s, deliveries/s), beside them the service's processor time for one record,
// which depends less on who else is busy; latencies in milliseconds beside the disk's own fdatasync in the same run. It asserts that
// everything arrived, and nothing about speed.
//
// BenchmarkBeside... runs NATS JetStream in turn with Lockstep, iteration by iteration: its server in a process of its own, file
// storage, the same number and size of records, the same values, four producers with a bounded window, ordered consumers. JetStream
// answers without an fsync unless the name says `jetstream-sync=always`; Lockstep never does. The metric "ratio" is the median of
// the iterations' ratios, above 1 where Lockstep is faster. `make bench-peers` runs only these.
package bench
