package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// Fault is a refusal with a reason. Immutable once made; safe to share.
type Fault struct {
	reason  Reason
	message string
	details map[string]string
	cause   error
}

// New makes a Fault; a %w in format keeps the cause.
func New(reason Reason, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{reason: reason, message: err.Error(), cause: errors.Unwrap(err)}
}

// Restore makes the Fault another process sent. An empty reason becomes Internal.
func Restore(reason Reason, message string, details map[string]string) *Fault {
	if reason == "" {
		reason = Internal
	}
	return &Fault{reason: reason, message: message, details: details}
}

// With returns a copy that carries one more detail: a fact for programs, such as the head of an expired lane.
func (f *Fault) With(name, value string) *Fault {
	c := *f
	c.details = maps.Clone(f.details)
	if c.details == nil {
		c.details = make(map[string]string, 1)
	}
	c.details[name] = value
	return &c
}

// Error gives the message for people.
func (f *Fault) Error() string { return f.message }

// Reason gives the stable reason.
func (f *Fault) Reason() Reason { return f.reason }

// Detail gives the named detail, or "".
func (f *Fault) Detail(name string) string { return f.details[name] }

// Details gives all details; callers must not change the map.
func (f *Fault) Details() map[string]string { return f.details }

// Unwrap gives the cause, nil when there is none or it stayed in another process.
func (f *Fault) Unwrap() error { return f.cause }

// Is lets errors.Is(err, fault.UnknownStream) hold.
func (f *Fault) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == f.reason
}

// Of finds the Fault in err's chain. An error without one becomes an Internal fault of the same text; nil stays nil.
func Of(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return &Fault{reason: Internal, message: err.Error(), cause: err}
}

// ReasonOf gives the reason of the Fault in err's chain; "" for nil, Internal for an error without one.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return Of(err).reason
}

type wire struct {
	Reason  Reason            `json:"reason"`
	Message string            `json:"message"`
	Details map[string]string `json:"details,omitempty"`
}

// MarshalJSON gives the form that travels in an RSocket ERROR frame and in HTTP answers.
func (f *Fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{f.reason, f.message, f.details})
}

// MaxWireBytes bounds what Parse reads.
const MaxWireBytes = 64 << 10

// Parse reads what MarshalJSON wrote. Anything else, such as the plain text of another implementation, becomes an Internal fault
// that quotes it; Parse never fails.
func Parse(data []byte) *Fault {
	if len(data) > MaxWireBytes {
		data = data[:MaxWireBytes]
	}
	var w wire
	if err := json.Unmarshal(data, &w); err != nil || w.Reason == "" {
		return &Fault{reason: Internal, message: fmt.Sprintf("the other side answered: %.500s", data)}
	}
	return Restore(w.Reason, w.Message, w.Details)
}
