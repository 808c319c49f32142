package web

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// The headers of an idempotent post (I4).
const (
	producerIDHeader       = "Lockstep-Producer-Id"
	producerEpochHeader    = "Lockstep-Producer-Epoch"
	producerSequenceHeader = "Lockstep-Producer-Sequence"
)

// producer reads who publishes and which producer sequence the body's first record has; the zero Producer without the headers.
func producer(header http.Header) (outbox.Producer, error) {
	id, epoch, sequence := header.Get(producerIDHeader), header.Get(producerEpochHeader), header.Get(producerSequenceHeader)
	if id == "" && epoch == "" && sequence == "" {
		return outbox.Producer{}, nil
	}
	if id == "" || epoch == "" || sequence == "" {
		return outbox.Producer{}, fault.New(fault.InvalidArgument, "the headers %s, %s and %s belong together; nothing was taken: send all three or none", producerIDHeader, producerEpochHeader, producerSequenceHeader)
	}
	p := outbox.Producer{ID: id}
	for _, number := range []struct {
		header, text string
		into         *uint64
	}{{producerEpochHeader, epoch, &p.Epoch}, {producerSequenceHeader, sequence, &p.First}} {
		n, err := strconv.ParseUint(number.text, 10, 64)
		if err != nil || n == 0 {
			return outbox.Producer{}, fault.New(fault.InvalidArgument, "the header %s is %.40q, and must be a number from 1 on; nothing was taken", number.header, number.text)
		}
		*number.into = n
	}
	return p, nil
}

// openProducer gives a producer the epoch that its posts name.
func (h *handler) openProducer(w http.ResponseWriter, r *http.Request) {
	pass, err := h.admit(r)
	if err != nil {
		refuse(w, err)
		return
	}
	id, epoch, err := h.open(r.Context(), pass, r.PathValue("producer"))
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct { // the caller may have gone
		ID    string `json:"producer_id"`
		Epoch uint64 `json:"producer_epoch"`
	}{id, epoch})
}
