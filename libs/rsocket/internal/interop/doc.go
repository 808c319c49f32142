// Package interop holds only tests: the stock library, rsocket-go, as a client of our server and as
// a server and responder of our client. It is apart because that library leaves goroutines behind,
// which the leak checks of the engine's own tests would report.
package interop
