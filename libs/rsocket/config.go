package rsocket

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// FrameMaxBytes is the largest frame the protocol can carry: its length has 24 bits.
const FrameMaxBytes = 1<<24 - 1

// Limits bound what one connection may cost. Every field: zero means the default.
type Limits struct {
	// MaxFrameBytes is the largest frame accepted from the peer, and the most that the fragments
	// of one connection may come to before they are whole. A larger frame ends the connection.
	// Default: 1 MiB on a server, 16 MiB - 1 on a client.
	MaxFrameBytes int
	// MaxSendFrameBytes is the largest frame sent; a larger payload is refused where it is handed
	// in. It should be what the peer accepts. Default: 16 MiB - 1 on a server, 1 MiB on a client.
	MaxSendFrameBytes int
	// MaxStreams is how many request-streams of the peer may be open. Default: 256.
	MaxStreams int
	// MaxOutstanding is how many request-responses of the peer may be unanswered; the answer
	// counts until it is written. Default: 64.
	MaxOutstanding int
	// MaxOutstandingBytes is how large the unanswered request-responses may be together.
	// Default: 4 MiB, at least MaxFrameBytes.
	MaxOutstandingBytes int
	// MaxRequests is how many own requests (responses awaited and streams) may be open.
	// Default: 4096.
	MaxRequests int
	// MaxQueuedFrames and MaxQueuedBytes bound the control queue: answers, own requests, credit.
	// When it is full the reader stops reading and callers wait. Default: 1024 frames, 1 MiB.
	MaxQueuedFrames int
	MaxQueuedBytes  int
	// WriteTimeout is how long the peer may take no bytes. A round larger than WriteTimeout's
	// worth at 64 KiB/s gets the time it needs at that rate. Default: 10 s.
	WriteTimeout time.Duration
	// ReadBufferMaxBytes is how far the read buffer of a busy connection grows; idle it is
	// 512 bytes. Default: 16 KiB on a server, 64 KiB on a client.
	ReadBufferMaxBytes int
}

// ServerConfig holds the bounds of a server. The zero value is usable.
type ServerConfig struct {
	Limits
	// MaxConnections is how many connections may be open; one more is told REJECTED_SETUP and
	// closed. Default: 20,000.
	MaxConnections int
	// SetupTimeout is the time from accepting a connection (TLS and WebSocket handshakes
	// included) to an accepted SETUP. Default: 5 s.
	SetupTimeout time.Duration
	// MaxSetupBytes is the largest SETUP frame, the only frame an unknown peer can send.
	// Default: 64 KiB.
	MaxSetupBytes int
	// MaxLifetime is the longest silence a peer may ask for in SETUP; longer is cut to it.
	// Default: 5 min.
	MaxLifetime time.Duration
	// InboundBudgetBytes is shared by all connections for frames above 16 KiB while they arrive
	// and for unfinished fragments. A frame that finds it spent ends its connection, a fragment
	// its stream. Default: 256 MiB.
	InboundBudgetBytes int64
	// DrainGrace is how long Drain leaves a connection's running streams after it was told to
	// go elsewhere. Default: 5 s.
	DrainGrace time.Duration
	// CloseGrace is how long Close waits for handlers to return. Default: 10 s.
	CloseGrace time.Duration
	// OriginPatterns lists the hosts that browsers may connect from over WebSocket, besides the
	// server's own (shell patterns, see path.Match). Default: none.
	OriginPatterns []string
	// Logger receives one line per refused or failed connection at Debug, and handler panics at
	// Error. Default: none.
	Logger *slog.Logger
}

// ClientConfig holds the settings of one dialled connection. The zero value is usable.
type ClientConfig struct {
	Limits
	// KeepaliveInterval is how often a KEEPALIVE is sent. Default: 10 s.
	KeepaliveInterval time.Duration
	// Lifetime is how long the server may be silent before the connection is given up, and what
	// is promised to the server. Default: 30 s.
	Lifetime time.Duration
	// MetadataMIME and DataMIME are told in SETUP. Default: composite metadata
	// ("message/x.rsocket.composite-metadata.v0") and "application/octet-stream".
	MetadataMIME, DataMIME string
	// Setup is the payload of the SETUP frame: credentials, versions, names.
	Setup Payload
	// Responder answers requests of the server. Nil refuses them.
	Responder Responder
	// DialTimeout bounds connecting and handshakes where ctx has no earlier end. Default: 10 s.
	DialTimeout time.Duration
	// TLS is used for tls:// and wss://. Nil means the system's roots and the URL's host name.
	TLS *tls.Config
	// DialContext replaces net.Dialer.DialContext.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// HTTPHeader is sent with the WebSocket handshake.
	HTTPHeader http.Header
	// Logger receives handler panics. Default: none.
	Logger *slog.Logger
}

func orInt(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

func orDuration(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}

func (l *Limits) fill(receiveMax, sendMax, readBufferMax int) {
	orInt(&l.MaxFrameBytes, receiveMax)
	orInt(&l.MaxSendFrameBytes, sendMax)
	l.MaxFrameBytes = min(l.MaxFrameBytes, FrameMaxBytes)
	l.MaxSendFrameBytes = min(l.MaxSendFrameBytes, FrameMaxBytes)
	orInt(&l.MaxStreams, 256)
	orInt(&l.MaxOutstanding, 64)
	orInt(&l.MaxOutstandingBytes, 4<<20)
	l.MaxOutstandingBytes = max(l.MaxOutstandingBytes, l.MaxFrameBytes)
	orInt(&l.MaxRequests, 4096)
	orInt(&l.MaxQueuedFrames, 1024)
	orInt(&l.MaxQueuedBytes, 1<<20)
	orDuration(&l.WriteTimeout, 10*time.Second)
	orInt(&l.ReadBufferMaxBytes, readBufferMax)
	l.ReadBufferMaxBytes = max(l.ReadBufferMaxBytes, readBufferIdleBytes)
}

// withDefaults returns c with every zero field filled.
func (c ServerConfig) withDefaults() ServerConfig {
	c.fill(1<<20, FrameMaxBytes, 16<<10)
	orInt(&c.MaxConnections, 20000)
	orDuration(&c.SetupTimeout, 5*time.Second)
	orInt(&c.MaxSetupBytes, 64<<10)
	c.MaxSetupBytes = min(c.MaxSetupBytes, c.MaxFrameBytes)
	orDuration(&c.MaxLifetime, 5*time.Minute)
	if c.InboundBudgetBytes <= 0 {
		c.InboundBudgetBytes = 256 << 20
	}
	orDuration(&c.DrainGrace, 5*time.Second)
	orDuration(&c.CloseGrace, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// withDefaults returns c with every zero field filled.
func (c ClientConfig) withDefaults() ClientConfig {
	c.fill(FrameMaxBytes, 1<<20, 64<<10)
	orDuration(&c.KeepaliveInterval, 10*time.Second)
	orDuration(&c.Lifetime, 30*time.Second)
	orDuration(&c.DialTimeout, 10*time.Second)
	if c.MetadataMIME == "" {
		c.MetadataMIME = "message/x.rsocket.composite-metadata.v0"
	}
	if c.DataMIME == "" {
		c.DataMIME = "application/octet-stream"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
