package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/intake"
)

// answerLine is the answer to one record.
type answerLine struct {
	Line      int             `json:"line,omitempty"`
	Event     int             `json:"event,omitempty"`
	ID        string          `json:"id,omitempty"`
	Partition *lane.Partition `json:"partition,omitempty"`
	Epoch     lane.Epoch      `json:"epoch,omitempty"`
	Sequence  lane.Sequence   `json:"sequence,omitempty"`
	Duplicate bool            `json:"duplicate,omitempty"`
	Fault     *fault.Fault    `json:"fault,omitempty"`
}

// answer writes a line for every record (I1).
func answer(w http.ResponseWriter, items []item, outcomes []intake.Outcome) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	stored, refused := 0, 0
	var why error
	i := 0
	for _, o := range outcomes {
		for n := range o.Count {
			it := items[i]
			i++
			line := answerLine{Line: it.line, Event: it.event, ID: it.id}
			if o.Err != nil {
				line.Fault = fault.Of(o.Err)
				refused, why = refused+1, o.Err
			} else {
				line.Partition, line.Epoch, line.Sequence, line.Duplicate = &o.Partition, o.Epoch, o.FirstSequence+lane.Sequence(n), o.Duplicate
				stored++
			}
			_ = e.Encode(line) // into memory, of types that encode
		}
	}
	status := http.StatusOK
	switch {
	case refused > 0 && stored > 0:
		status = http.StatusMultiStatus
	case refused > 0:
		status = statusOf(why)
		retryAfter(w, why)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the caller may have gone
}

// refuse answers a request that was refused as a whole.
func refuse(w http.ResponseWriter, err error) {
	retryAfter(w, err)
	if errors.Is(err, fault.Unauthenticated) {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	_ = json.NewEncoder(w).Encode(struct { // the caller may have gone
		Fault *fault.Fault `json:"fault"`
	}{fault.Of(err)})
}

// retryAfter says in whole seconds when to try again, where that helps.
func retryAfter(w http.ResponseWriter, err error) {
	switch fault.ReasonOf(err) {
	case fault.Overloaded, fault.Unavailable, fault.DiskFull:
	default:
		return
	}
	ms, _ := strconv.Atoi(fault.Of(err).Detail("retry_after_ms"))
	w.Header().Set("Retry-After", strconv.Itoa(max((ms+999)/1000, 1)))
}

// statusOf gives the HTTP status of a fault.
func statusOf(err error) int {
	var media mediaError
	if errors.As(err, &media) {
		return http.StatusUnsupportedMediaType
	}
	switch fault.ReasonOf(err) {
	case fault.InvalidArgument, fault.InvalidName, fault.NotKeyed, fault.KeyMissing, fault.Malformed, fault.UnsupportedVersion:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.NotPermitted:
		return http.StatusForbidden
	case fault.UnknownStream:
		return http.StatusNotFound
	case fault.StreamExists, fault.ProducerFenced, fault.OutOfOrder:
		return http.StatusConflict
	case fault.RecordTooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.SchemaMismatch:
		return http.StatusUnprocessableEntity
	case fault.Overloaded:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.UnknownOutcome:
		return http.StatusGatewayTimeout
	case fault.DiskFull:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}
