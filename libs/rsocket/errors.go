package rsocket

import (
	"errors"
	"fmt"

	"github.com/rsocket/rsocket-go/core"
)

// ErrorCode is the code of an ERROR frame.
type ErrorCode = core.ErrorCode

// The codes of the protocol. The first group ends the connection (stream 0), the second a stream.
const (
	CodeInvalidSetup     = core.ErrorCodeInvalidSetup
	CodeUnsupportedSetup = core.ErrorCodeUnsupportedSetup
	CodeRejectedSetup    = core.ErrorCodeRejectedSetup
	CodeRejectedResume   = core.ErrorCodeRejectedResume
	CodeConnectionError  = core.ErrorCodeConnectionError
	CodeConnectionClose  = core.ErrorCodeConnectionClose

	CodeApplication = core.ErrorCodeApplicationError
	CodeRejected    = core.ErrorCodeRejected
	CodeCanceled    = core.ErrorCodeCanceled
	CodeInvalid     = core.ErrorCodeInvalid
)

// Error is an ERROR frame, received or to be sent. Data is for the application; between Lockstep
// peers it carries an encoded fault, from others mostly text.
type Error struct {
	Code ErrorCode
	Data []byte
}

// Error gives the code's name and the data as quoted text, shortened to 200 bytes.
func (e *Error) Error() string {
	d := e.Data
	if len(d) > 200 {
		d = d[:200]
	}
	if len(d) == 0 {
		return "rsocket: " + e.Code.String()
	}
	return fmt.Sprintf("rsocket: %s: %q", e.Code, d)
}

// RSocketError makes *Error one of the errors that keep their code.
func (e *Error) RSocketError() (ErrorCode, []byte) { return e.Code, e.Data }

// Errorf makes an *Error from text.
func Errorf(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Data: fmt.Appendf(nil, format, args...)}
}

var (
	// ErrClosed: this side closed the connection.
	ErrClosed = errors.New("rsocket: connection closed by this side")
	// ErrDraining: a CONNECTION_CLOSE was sent or received. Running streams go on, new requests
	// belong on another connection.
	ErrDraining = errors.New("rsocket: connection is closing; make the request on another one")
	// ErrLifetime: the peer sent no whole frame within the lifetime of its SETUP.
	ErrLifetime = errors.New("rsocket: peer silent for longer than the keepalive lifetime")
	// ErrWriteTimeout: the peer took no bytes within the write deadline.
	ErrWriteTimeout = errors.New("rsocket: peer does not read; write deadline passed")
	// ErrSetupTimeout: the peer sent no SETUP, or the Acceptor did not decide, in time.
	ErrSetupTimeout = errors.New("rsocket: no accepted SETUP within the deadline")
	// ErrPayloadTooLarge: the payload does not fit one frame of the configured size. Nothing of
	// it was sent.
	ErrPayloadTooLarge = errors.New("rsocket: payload larger than a frame")
	// ErrTooManyRequests: the connection has its configured number of own requests open. Wait
	// for one to end or open another connection.
	ErrTooManyRequests = errors.New("rsocket: too many open requests on this connection")
	// ErrStreamIDsUsedUp: the connection has made 2^30 requests. Dial a new one.
	ErrStreamIDsUsedUp = errors.New("rsocket: stream ids of this connection are used up")
	// ErrStreamCanceled: Inbound.Cancel was called.
	ErrStreamCanceled = errors.New("rsocket: stream cancelled by this side")
	// ErrServerClosed: the server was closed or is draining.
	ErrServerClosed = errors.New("rsocket: server closed")
)

// errorFrameDataMax bounds the bytes an ERROR frame of ours carries: error texts are for people.
const errorFrameDataMax = 32 << 10

// wireError turns any error into what its ERROR frame says.
func wireError(err error) *Error {
	var coded interface{ RSocketError() (ErrorCode, []byte) }
	e := &Error{Code: CodeApplication}
	if errors.As(err, &coded) {
		e.Code, e.Data = coded.RSocketError()
	} else if err != nil {
		e.Data = []byte(err.Error())
	}
	if len(e.Data) > errorFrameDataMax {
		e.Data = e.Data[:errorFrameDataMax]
	}
	return e
}

// streamError keeps a stream's ERROR inside the codes that the protocol allows on a stream, so
// that an application error can never end the connection.
func streamError(err error) *Error {
	e := wireError(err)
	if e.Code < CodeApplication {
		e.Code = CodeApplication
	}
	return e
}
