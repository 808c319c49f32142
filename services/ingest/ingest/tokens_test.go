package ingest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/lockstep-mq/lockstep/api/faultstatus"
	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

func guarded(t *testing.T) (h *house, file string) {
	file = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("till orders publish\nreader orders\nops * publish,manage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h = open(t, ingest.Config{TokensFile: file})
	h.sequencer.create(&streamv1.StreamSpec{Name: "orders", Keyed: true})
	h.sequencer.create(&streamv1.StreamSpec{Name: "order-secrets", Keyed: true})
	return h, file
}

func as(t *testing.T, token string) context.Context {
	if token == "" {
		return t.Context()
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// S12: every way in asks for the right, before anything is kept, and names no stream that the caller may not know of.
func TestTokensOverGRPC(t *testing.T) {
	h, _ := guarded(t)
	publish := func(stream string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := h.ingest.Publish(ctx, &ingestv1.PublishRequest{Stream: stream, Records: records(0, 3)})
			return err
		}
	}
	publishStream := func(stream string) func(context.Context) error {
		return func(ctx context.Context) error {
			call, err := h.ingest.PublishStream(ctx)
			if err != nil {
				return err
			}
			if err := call.Send(&ingestv1.PublishRequest{Stream: stream, Records: records(0, 3)}); err != nil {
				return err
			}
			answer, err := call.Recv()
			if err != nil {
				return err
			}
			if f := answer.GetOutcomes()[0].GetFault(); f != nil {
				err = faultstatus.Fault(f)
			}
			return errors.Join(err, call.CloseSend())
		}
	}
	open := func(ctx context.Context) error {
		_, err := h.ingest.OpenProducer(ctx, &ingestv1.OpenProducerRequest{ProducerId: "p"})
		return err
	}
	get := func(stream string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := h.streams.GetStream(ctx, &ingestv1.GetStreamRequest{Name: stream})
			return err
		}
	}
	create := func(ctx context.Context) error {
		_, err := h.streams.CreateStream(ctx, &ingestv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: "made", Keyed: true}, IfAbsent: true})
		return err
	}
	remove := func(ctx context.Context) error {
		_, err := h.streams.DeleteStream(ctx, &ingestv1.DeleteStreamRequest{Name: "orders"})
		return err
	}
	for _, c := range []struct {
		name, token string
		call        func(context.Context) error
		want        error
	}{
		{"publish", "", publish("orders"), fault.Unauthenticated}, {"publish", "guess", publish("orders"), fault.Unauthenticated},
		{"publish", "reader", publish("orders"), fault.NotPermitted}, {"publish", "till", publish("order-secrets"), fault.NotPermitted},
		{"publish to what is not there", "till", publish("order"), fault.NotPermitted}, {"publish", "till", publish("orders"), nil},
		{"publish stream", "", publishStream("orders"), fault.Unauthenticated}, {"publish stream", "reader", publishStream("orders"), fault.NotPermitted},
		{"publish stream", "till", publishStream("order-secrets"), fault.NotPermitted}, {"publish stream", "till", publishStream("orders"), nil},
		{"open producer", "", open, fault.Unauthenticated}, {"open producer", "reader", open, fault.NotPermitted}, {"open producer", "till", open, nil},
		{"get", "", get("orders"), fault.Unauthenticated}, {"get", "reader", get("orders"), nil}, {"get", "till", get("order-secrets"), fault.NotPermitted},
		{"create", "till", create, fault.NotPermitted}, {"create", "ops", create, nil},
		{"delete", "till", remove, fault.NotPermitted}, {"delete", "", remove, fault.Unauthenticated},
	} {
		err := c.call(as(t, c.token))
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s with %q: %v, want %v", c.name, c.token, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%s with %q tells a name: %v", c.name, c.token, err)
		}
	}
	if n := len(h.sequencer.stored(1, 0)); n != 6 {
		t.Errorf("%d records are stored, want those of the two calls that were let in", n)
	}
	if n := len(h.sequencer.stored(2, 0)); n != 0 {
		t.Errorf("%d records of a stream that was not granted", n)
	}
	list, err := h.streams.ListStreams(as(t, "till"), &ingestv1.ListStreamsRequest{})
	if err != nil || len(list.GetStreams()) != 1 || list.GetStreams()[0].GetSpec().GetName() != "orders" {
		t.Errorf("the list of one who sees one: %v %v", list, err)
	}
	if _, err := h.streams.ListStreams(t.Context(), &ingestv1.ListStreamsRequest{}); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("the list of nobody: %v", err)
	}
}

func TestTokensOverHTTP(t *testing.T) {
	h, _ := guarded(t)
	const body = `{"key":"a","value":1}`
	for _, c := range []struct {
		stream, authorization string
		status                int
	}{
		{"orders", "", 401}, {"orders", "Bearer guess", 401}, {"orders", "Basic till", 401}, {"orders", "Bearer reader", 403},
		{"order-secrets", "Bearer till", 403}, {"order", "Bearer till", 403}, {"orders", "Bearer till", 200},
	} {
		status, header, text := h.post(t, c.stream, "application/x-ndjson", body, "Authorization", c.authorization)
		if status != c.status || (header.Get("WWW-Authenticate") != "") != (status == 401) || strings.Contains(text, "did you mean") {
			t.Errorf("%s with %q: %d, want %d: %s", c.stream, c.authorization, status, c.status, text)
		}
	}
	for token, want := range map[string]int{"": 401, "Bearer reader": 403, "Bearer till": 200} {
		if status, text := h.openOverHTTP(t, "p", "Authorization", token); status != want {
			t.Errorf("opening a producer with %q: %d, want %d: %s", token, status, want, text)
		}
	}
	if n := len(h.sequencer.stored(1, 0)); n != 1 {
		t.Errorf("%d records are stored", n)
	}
}

// A grant taken away ends an open call's requests too.
func TestATokenTakenAway(t *testing.T) {
	h, file := guarded(t)
	call, err := h.ingest.PublishStream(as(t, "till"))
	if err != nil {
		t.Fatal(err)
	}
	send := func() *streamv1.Fault {
		t.Helper()
		if err := call.Send(&ingestv1.PublishRequest{Stream: "orders", Records: records(0, 1)}); err != nil {
			t.Fatal(err)
		}
		answer, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetOutcomes()[0].GetFault()
	}
	if f := send(); f != nil {
		t.Fatal(f)
	}
	if err := os.WriteFile(file, []byte("till prices publish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := t.Context(); ; {
		if f := send(); f != nil {
			if !errors.Is(faultstatus.Fault(f), fault.NotPermitted) {
				t.Errorf("refused with %v", f)
			}
			return
		}
		if deadline.Err() != nil {
			t.Fatal("never refused")
		}
	}
}
