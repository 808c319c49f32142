// Package refusal puts faults into RSocket ERROR frames: code 0x201 (application error) on a stream, 0x003 (rejected setup) for a
// connection, and the fault as JSON for data.
package refusal

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// Refusal is a fault on its way to a consumer.
type Refusal struct {
	*fault.Fault
	code rsocket.ErrorCode
}

// Of makes err one that answers a request; nil stays nil.
func Of(err error) error {
	if err == nil {
		return nil
	}
	return &Refusal{Fault: faultOf(err), code: rsocket.CodeApplication}
}

// OfSetup makes err one that refuses a connection; nil stays nil.
func OfSetup(err error) error {
	if err == nil {
		return nil
	}
	return &Refusal{Fault: faultOf(err), code: rsocket.CodeRejectedSetup}
}

// RSocketError is what the engine asks for.
func (r *Refusal) RSocketError() (rsocket.ErrorCode, []byte) {
	data, err := json.Marshal(r.Fault)
	if err != nil { // text and a map of text always encode
		data = []byte(r.Fault.Error())
	}
	return r.code, data
}

// Unwrap gives the fault.
func (r *Refusal) Unwrap() error { return r.Fault }

// faultOf: a call cut short by its context is a service that did not answer, not a bug.
func faultOf(err error) *fault.Fault {
	var f *fault.Fault
	if !errors.As(err, &f) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return fault.New(fault.Unavailable, "the gateway could not get an answer in time: try again")
	}
	return fault.Of(err)
}
