package rsocket

// Payload is the application's part of a frame.
//
// A nil Metadata means "no metadata", which the wire tells apart from empty metadata. The engine
// shares the slices and never writes to them; whoever handed them in must not either (I10).
// A Payload the engine hands out belongs to the receiver.
type Payload struct {
	Metadata []byte
	Data     []byte
}

// size is what the payload occupies in a frame, without the frame's own header.
func (p Payload) size() int {
	n := len(p.Data)
	if p.Metadata != nil {
		n += metadataLengthBytes + len(p.Metadata)
	}
	return n
}

// Signal is what a Source answers when it is asked for its next payload.
type Signal uint8

const (
	// Wait: nothing to send now. The source is asked again after Outbound.Wake.
	Wait Signal = iota
	// Emit: the payload is the next of the stream and takes one credit.
	Emit
	// EmitAndComplete: the payload is the last of the stream.
	EmitAndComplete
	// Complete: the stream is over, the payload is ignored.
	Complete
	// Fail: the stream ends with the error given to Outbound.Fail, or with APPLICATION_ERROR
	// when none was given. The payload is ignored.
	Fail
)
