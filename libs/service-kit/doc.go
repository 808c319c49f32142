// Package servicekit holds what every Lockstep server needs and no consumer does.
//
//	life      parts that start in order, stop in reverse order, and end together
//	rpc       gRPC servers and connections with our limits, deadlines and faults
//	notify    NATS: "lane L reached N", a hint
//	admin     /healthz, /readyz and /metrics
//	settings  flags, then environment, then file
//	process   runs a service as a process: all of the above
//
// The SDK must not import it.
package servicekit
