package catalogue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

func TestNear(t *testing.T) {
	names := []string{"orders", "order-lines", "prices", "Packages", "x"}
	for wanted, want := range map[string]string{
		"order": "order-lines orders", "ordres": "orders", "packages": "Packages", "pricess": "prices", "zebra": "", "y": "x", "": "x",
	} {
		if got := strings.Join(near(wanted, names), " "); got != want {
			t.Errorf("%q: %q, want %q", wanted, got, want)
		}
	}
}

// source counts its calls.
type source struct {
	names      []string
	gets, list int
}

func (s *source) GetStream(_ context.Context, in *sequencerv1.GetStreamRequest, _ ...grpc.CallOption) (*sequencerv1.GetStreamResponse, error) {
	s.gets++
	for i, n := range s.names {
		if n == in.GetName() {
			return &sequencerv1.GetStreamResponse{Stream: &streamv1.Stream{Id: uint64(i + 1), Spec: &streamv1.StreamSpec{Name: n}}}, nil
		}
	}
	return nil, fault.New(fault.UnknownStream, "no")
}

func (s *source) ListStreams(context.Context, *sequencerv1.ListStreamsRequest, ...grpc.CallOption) (*sequencerv1.ListStreamsResponse, error) {
	s.list++
	out := &sequencerv1.ListStreamsResponse{}
	for _, n := range s.names {
		out.Streams = append(out.Streams, &streamv1.Stream{Spec: &streamv1.StreamSpec{Name: n}})
	}
	return out, nil
}

func TestEntriesAreBounded(t *testing.T) {
	s := &source{}
	for i := range 10 {
		s.names = append(s.names, fmt.Sprint("s", i))
	}
	c := New(s, 3)
	find := func(name string) {
		t.Helper()
		if _, err := c.Find(t.Context(), lane.StreamName(name), everything); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range s.names {
		find(n)
	}
	if len(c.byName) != 3 || c.recent.Len() != 3 {
		t.Fatalf("%d entries, want 3", len(c.byName))
	}
	before := s.gets
	find("s7") // kept, and now the newest
	find("s0")
	find("s1")
	find("s7")
	if asked := s.gets - before; asked != 2 {
		t.Errorf("asked %d times, want 2: s7 was used last and should be kept", asked)
	}
}

func TestWrongNamesAskForTheListSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{names: []string{"orders"}}
		c := New(s, 3)
		for range 100 {
			if _, err := c.Find(t.Context(), "order", everything); !errors.Is(err, fault.UnknownStream) || fault.Of(err).Detail("near") != "orders" {
				t.Fatal(err)
			}
		}
		if s.list != 1 {
			t.Errorf("%d lists for 100 wrong names", s.list)
		}
		time.Sleep(nearStreamsFor)
		_, _ = c.Find(t.Context(), "order", everything)
		if s.list != 2 {
			t.Errorf("%d lists after %v, want 2", s.list, nearStreamsFor)
		}
	})
}

func TestALateAnswerDoesNotBringAnOldStreamBack(t *testing.T) {
	c := New(&source{}, 3)
	if _, err := c.keep(&streamv1.Stream{Id: 9, Spec: &streamv1.StreamSpec{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.keep(&streamv1.Stream{Id: 4, Spec: &streamv1.StreamSpec{Name: "a"}})
	if err != nil || got.ID != 9 {
		t.Fatalf("stream %v, %v", got, err)
	}
	c.Forget("a", 4)
	if c.kept("a") == nil {
		t.Error("a newer life was forgotten for an older one")
	}
	c.Forget("a", 9)
	if c.kept("a") != nil {
		t.Error("not forgotten")
	}
}

func everything(lane.StreamName) bool { return true }

func TestNearNamesAreThoseTheCallerSees(t *testing.T) {
	c := New(&source{names: []string{"orders", "order-secrets"}}, 3)
	_, err := c.Find(t.Context(), "order", func(name lane.StreamName) bool { return name == "orders" })
	if !errors.Is(err, fault.UnknownStream) || fault.Of(err).Detail("near") != "orders" || strings.Contains(err.Error(), "secrets") {
		t.Error(err)
	}
	_, err = c.Find(t.Context(), "order", func(lane.StreamName) bool { return false })
	if !errors.Is(err, fault.UnknownStream) || fault.Of(err).Detail("near") != "" || strings.Contains(err.Error(), "orders") {
		t.Error(err)
	}
}
