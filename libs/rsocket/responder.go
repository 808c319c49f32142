package rsocket

import "context"

// Acceptor decides about a connection: it authenticates the SETUP and returns the Responder that
// will answer the peer.
//
// It runs on a goroutine of its own under ServerConfig.SetupTimeout (the rest of it: the clock
// starts when the connection is accepted). An error refuses the connection with REJECTED_SETUP
// and the error's text, or with the code of an *Error. A nil Responder refuses every request.
// The connection's next frames are read only after the Acceptor has returned, so it must not wait
// for an answer of the peer. A panic is recovered and refuses the connection.
type Acceptor func(ctx context.Context, setup Setup, conn *Conn) (Responder, error)

// Responder answers the requests of one peer.
//
// Errors go to the peer as ERROR frames: an *Error, or any error in whose chain one has the
// method RSocketError() (ErrorCode, []byte), keeps its code and bytes; another error becomes
// APPLICATION_ERROR with its text.
type Responder interface {
	// RequestResponse answers one request on a goroutine of its own. ctx ends when the peer
	// cancels or the connection ends. At most MaxOutstanding run at once per connection.
	RequestResponse(ctx context.Context, req Payload) (Payload, error)

	// FireAndForget takes a message that has no answer. It runs on the reader and must not block.
	FireAndForget(req Payload)

	// RequestStream opens a stream. It runs on the reader and must not block; out may be kept
	// and woken at once, from any goroutine. An error ends the stream with ERROR.
	RequestStream(req Payload, out *Outbound) (Source, error)

	// Closed is called exactly once, when the connection has ended and every Source of it has
	// been closed. err says why; it is never nil (ErrClosed after a local Close, io.EOF when
	// the peer hung up). Handlers of RequestResponse have had their ctx cancelled by then and
	// may still be returning.
	Closed(err error)
}

// Source is the sending end of one request-stream, pulled by the connection's writer.
type Source interface {
	// Next returns the stream's next payload. It is called only while the stream has credit and
	// the socket drains (I2), never concurrently for one stream, and must not block. A source
	// that knows its last payload answers EmitAndComplete with it: Complete would only be asked
	// for on the next credit (or see Outbound.Complete).
	Next() (Payload, Signal)

	// Requested tells of every credit the peer gives, the first one included. It is called from
	// the reader, possibly while Next runs, and must not block.
	Requested(n uint32)

	// Closed is called exactly once, when the stream is over for whatever reason: completed,
	// failed, cancelled, connection lost. No other call follows (I5).
	Closed()
}
