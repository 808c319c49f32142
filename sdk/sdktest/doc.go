// Package sdktest is a provider for tests: streams in memory behind a real RSocket gateway and a real gRPC ingest on loopback ports.
//
//	p, err := sdktest.New()
//	defer p.Close()
//	err = p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true})
//	r, err := replica.Open(ctx, replica.Config{Stream: "orders", Path: path, Gateways: []string{p.Gateway()}})
//	err = p.Put("orders", "a", `{"total": 3}`)
//
// Consumers and producers of the SDK, or of anybody who speaks the protocols, see the behaviour of the real services: batches,
// sequences, digests, expiry, idempotent publishing, fencing, commands. Nothing is durable and nothing is fast.
//
// What can go wrong is asked for, so that a program's own Apply function or loop meets it in its tests (see the example):
//
//	Gap          deliveries are missing from subscriptions
//	Corrupt      a bit is flipped in batches, in chunks of snapshots, or in packets of changes and repairs
//	Expire       the log has let go of records
//	Disconnect   connections end
//	Slow         time passes between deliveries
//	RotateEpoch  history is cut, as by a restore from an older copy
//
// and, for the SDK's own tests: WrongDigests, WithholdDigests, BootstrapLosesRow, BootstrapStops, BootstrapStopsAfter, RefuseSnapshots,
// ForgetSnapshots, ForgetDeletions, FailPublish.
//
// Invariants:
//
//	I1  sequences of a lane are 1..N without holes; a batch, once made, never changes.
//	I2  the digest given for a sequence is the digest of the state there, unless a fault was asked for.
package sdktest
