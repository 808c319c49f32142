// Package bench measures the whole path: producers, ingest, sequencer-storage, gateway, consumers, in real processes over loopback,
// with an fsync before every answer.
//
//	go test ./e2e/bench -run '^$' -bench . -benchtime 1x -count 3
//
// Each benchmark starts its own `lockstep dev` on a fresh directory; producers and consumers run in the test's process, so both sides
// share the machine. Rates are reported as metrics (records/s, deliveries/s), latencies in milliseconds beside the disk's own
// fdatasync in the same run. It asserts that everything arrived, and nothing about speed.
package bench
