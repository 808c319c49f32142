// Package sdktest is a provider for tests: streams in memory behind a real RSocket gateway and a real gRPC ingest on loopback ports.
//
//	p, err := sdktest.New()
//	defer p.Close()
//	err = p.CreateStream(sdktest.Stream{Name: "orders", Keyed: true})
//	r, err := replica.Open(ctx, replica.Config{Stream: "orders", Path: path, Gateways: []string{p.Gateway()}})
//	err = p.Put("orders", "a", `{"total": 3}`)
//
// Consumers and producers of the SDK, or of anybody who speaks the protocols, see the behaviour of the real services: batches,
// sequences, digests, expiry, idempotent publishing, fencing. Nothing is durable and nothing is fast. Faults can be asked for: see
// Faults.
//
// Invariants:
//
//	I1  sequences of a lane are 1..N without holes; a batch, once made, never changes.
//	I2  the digest given for a sequence is the digest of the state there, unless a fault was asked for.
package sdktest
