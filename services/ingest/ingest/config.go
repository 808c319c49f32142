package ingest

import (
	"errors"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// Config of an ingest. Zero fields take their defaults.
type Config struct {
	// GRPCAddress is where producers call; "127.0.0.1:7400" by default. GRPCListener, when set, is used instead and is owned by Run.
	GRPCAddress  string
	GRPCListener net.Listener
	// HTTPAddress is where HTTP posts go; "127.0.0.1:7401" by default. HTTPListener, when set, is used instead and is owned by Run.
	HTTPAddress  string
	HTTPListener net.Listener
	// TLS is nil for plain text; it is used for gRPC.
	TLS credentials.TransportCredentials
	// TokensFile lists bearer tokens and what they grant (libs/service-kit/grants). Default none: everybody may do everything.
	TokensFile string

	// LaneBytes bounds what waits for or is at the sequencer for one lane; 8 MiB. Memory of decoded records counts.
	LaneBytes int64
	// TotalBytes bounds the same for all lanes; 64 MiB. It also bounds the HTTP bodies in work; beyond it a post is answered 429.
	TotalBytes int64
	// StreamReadAheadBytes bounds the unanswered requests of one PublishStream call; 4 MiB.
	StreamReadAheadBytes int64
	// MaxRequestBytes bounds one gRPC request and one HTTP body; 8 MiB.
	MaxRequestBytes int
	// MaxConnections bounds the connections of each listener; 1024. More wait to be accepted.
	MaxConnections int
	// MaxCalls bounds the open PublishStream calls, each of which may hold StreamReadAheadBytes and a request; 512. More are answered
	// `overloaded`.
	MaxCalls int64
	// MaxStreamsKept bounds the remembered stream specs; 1024.
	MaxStreamsKept int

	// BatchBytes (before compression) and BatchRecords bound a batch; 1 MiB and 16384.
	BatchBytes   int
	BatchRecords int

	// AppendTimeout is the deadline of one append at the sequencer; 10 s. After it the outcome is unknown.
	AppendTimeout time.Duration
	// RetryFor is how long an append that the sequencer refuses as overloaded is tried again; 5 s.
	RetryFor time.Duration
	// OverloadWait is how long a Publish or a post waits for room; 1 s.
	OverloadWait time.Duration
	// Grace is how long calls may take to end when the service stops; 5 s.
	Grace time.Duration
}

func (c Config) withDefaults() (Config, error) {
	orDefault(&c.GRPCAddress, "127.0.0.1:7400")
	orDefault(&c.HTTPAddress, "127.0.0.1:7401")
	orDefault(&c.LaneBytes, 8<<20)
	orDefault(&c.TotalBytes, 64<<20)
	orDefault(&c.StreamReadAheadBytes, 4<<20)
	orDefault(&c.MaxRequestBytes, 8<<20)
	orDefault(&c.MaxConnections, 1024)
	orDefault(&c.MaxCalls, 512)
	orDefault(&c.MaxStreamsKept, 1024)
	orDefault(&c.BatchBytes, 1<<20)
	orDefault(&c.BatchRecords, 16384)
	orDefault(&c.AppendTimeout, 10*time.Second)
	orDefault(&c.RetryFor, 5*time.Second)
	orDefault(&c.OverloadWait, time.Second)
	orDefault(&c.Grace, 5*time.Second)
	switch {
	case c.LaneBytes < 0 || c.TotalBytes < c.LaneBytes:
		return c, errors.New("the bound of all lanes (TotalBytes) must be at least the bound of one (LaneBytes)")
	case c.BatchBytes < 0 || c.BatchBytes > 2<<20:
		return c, errors.New("BatchBytes must be between 1 and 2 MiB, so that a batch and its largest record fit the format")
	case c.BatchRecords < 0 || c.StreamReadAheadBytes < 0 || c.MaxRequestBytes < 0 || c.MaxConnections < 0 || c.MaxCalls < 0 || c.MaxStreamsKept < 0:
		return c, errors.New("bounds must not be negative")
	}
	return c, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
