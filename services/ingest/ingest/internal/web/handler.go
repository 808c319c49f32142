package web

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/intake"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/outbox"
)

// leastChargeBytes is what the smallest request counts against Config.TotalBytes; it bounds their number.
const leastChargeBytes = 64 << 10

// Config bounds the handler; every field must be set.
type Config struct {
	// MaxBodyBytes bounds one body, TotalBytes all that are in work (I2).
	MaxBodyBytes, TotalBytes int64
	// OverloadWait is how long a request waits for room.
	OverloadWait time.Duration
}

// Count is told what became of records, for metrics; err is nil for stored ones.
type Count func(records uint32, duplicate bool, err error)

// Open gives a producer its next epoch.
type Open func(ctx context.Context, pass grants.Pass, id string) (_ string, epoch uint64, err error)

// handler answers posts.
type handler struct {
	cfg   Config
	book  *grants.Book
	in    *intake.Intake
	open  Open
	count Count
	room  *semaphore.Weighted
}

// NewHandler makes the handler of all paths.
func NewHandler(cfg Config, book *grants.Book, in *intake.Intake, open Open, count Count) http.Handler {
	h := &handler{cfg: cfg, book: book, in: in, open: open, count: count, room: semaphore.NewWeighted(max(cfg.TotalBytes, cfg.MaxBodyBytes))}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/streams/{stream}/records", h.publish)
	mux.HandleFunc("POST /v1/producers/{producer}", h.openProducer)
	return mux
}

func (h *handler) publish(w http.ResponseWriter, r *http.Request) {
	pass, err := h.admit(r)
	if err == nil {
		err = pass.Check(grants.Publish, lane.StreamName(r.PathValue("stream"))) // before the body is read: I5
	}
	if err != nil {
		refuse(w, err)
		return
	}
	charge := r.ContentLength
	if charge < 0 || charge > h.cfg.MaxBodyBytes {
		charge = h.cfg.MaxBodyBytes
	}
	charge = max(charge, leastChargeBytes)
	if !h.room.TryAcquire(charge) {
		refuse(w, fault.New(fault.Overloaded, "too many posts are in work; nothing of this one was taken: send it again in a second").With("retry_after_ms", "1000"))
		return
	}
	defer h.room.Release(charge)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.MaxBodyBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			refuse(w, fault.New(fault.RecordTooLarge, "the body is larger than %d bytes; nothing of it was taken: send it in parts", h.cfg.MaxBodyBytes))
			return
		}
		refuse(w, fault.New(fault.Malformed, "the body ended early; nothing of it was taken: %w", err))
		return
	}
	decoded, err := decode(r.Header, body)
	if err != nil {
		refuse(w, err)
		return
	}
	who, err := producer(r.Header)
	if err != nil {
		refuse(w, err)
		return
	}
	q := h.in.Take(r.Context(), draft(pass, r.PathValue("stream"), who, decoded), outbox.Patience(h.cfg.OverloadWait))
	select {
	case <-q.Done():
	case <-r.Context().Done():
		return // nobody listens; the records go their way
	}
	if err := q.Err(); err != nil {
		h.count(q.Count(), false, err)
		if errors.Is(err, context.Canceled) {
			return
		}
		refuse(w, err)
		return
	}
	outcomes := h.in.Finish(q)
	for _, o := range outcomes {
		h.count(o.Count, o.Duplicate, o.Err)
	}
	answer(w, decoded, outcomes)
}

// admit lets a caller in.
func (h *handler) admit(r *http.Request) (grants.Pass, error) {
	token, err := grants.Bearer(r.Header.Get("Authorization"))
	if err != nil {
		return grants.Pass{}, err
	}
	return h.book.Admit(token)
}

// item is one record as it came, or why it cannot be one, and how the answer names it.
type item struct {
	rec   record.Record
	err   error
	line  int    // 1-based, of JSON lines
	event int    // 1-based, of CloudEvents
	id    string // of a CloudEvent
}

// decode reads a body by its content type. An error refuses the whole.
func decode(header http.Header, body []byte) ([]item, error) {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && header.Get("Content-Type") != "" {
		return nil, fault.New(fault.InvalidArgument, "the Content-Type %.100q does not parse: %w", header.Get("Content-Type"), err)
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, errMedia("Content-Encoding %.60q is not taken: send the body as it is", encoding)
	}
	switch {
	case kind == "application/cloudevents+json":
		return structuredEvent(body)
	case kind == "application/cloudevents-batch+json":
		return eventBatch(body)
	case header.Get("Ce-Specversion") != "":
		return binaryEvent(header, body)
	case kind == "application/x-ndjson", kind == "application/jsonl":
		return jsonLines(body), nil
	case kind == "application/json":
		return oneJSON(body), nil
	}
	// I3
	return nil, errMedia("Content-Type %.100q is not taken: use application/x-ndjson, application/json or a CloudEvents type", kind)
}

// mediaError is a fault answered with 415.
type mediaError struct{ *fault.Fault }

func (m mediaError) Unwrap() error { return m.Fault }

func errMedia(format string, args ...any) error {
	return mediaError{fault.New(fault.InvalidArgument, format, args...)}
}

// draft makes what the intake takes.
func draft(pass grants.Pass, stream string, who outbox.Producer, items []item) intake.Draft {
	return intake.Draft{
		Pass:     pass,
		Stream:   lane.StreamName(stream),
		Producer: who,
		Count:    uint32(len(items)),
		Decode: func(into []record.Record, refuse func(int, error)) ([]record.Record, error) {
			for i := range items {
				if items[i].err != nil {
					refuse(i, items[i].err)
				}
				into = append(into, items[i].rec)
			}
			return into, nil
		},
	}
}
