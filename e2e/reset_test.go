package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/sdk/consumer"
)

// TestResetOfALogConsumer commands a consumer in the middle of its loop to take records again, from a sequence and from a time, and to do
// what it cannot. Its cursor is where the command put it, for its next life too.
func TestResetOfALogConsumer(t *testing.T) {
	h := newHouse(t, filepath.Join(t.TempDir(), "data"))
	h.must(t, "stream", "create", "orders")
	put := func() { h.must(t, "put", "orders", "a", "1") }
	for range 5 {
		put()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg := consumer.Config{Stream: "orders", Gateways: []string{h.at["gateway"]}, ConsumerID: "mailer"}
	follow := func(cfg consumer.Config, read func(n int, r consumer.Record) (more bool)) {
		t.Helper()
		c, err := consumer.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for r, err := range c.Records(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			c.Ack(r)
			if n++; !read(n, r) {
				break
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	command := func(ended chan<- result, args ...string) {
		ended <- finish(t, h.lockstep(append([]string{"reset", "orders", "--consumer", "mailer", "--wait", "--timeout", "30s"}, args...)...))
	}
	ends := make(chan result, 2)
	var got []lane.Sequence
	follow(cfg, func(n int, r consumer.Record) bool {
		got = append(got, r.Position.Sequence)
		switch n {
		case 5:
			go command(ends, "from", "2")
		case 9: // 2, 3, 4 and 5 have come again
			go func() { // the loop must be free for it
				command(ends, "from-time", "1h")
				put()
			}()
		}
		return n < 15
	})
	want := []lane.Sequence{1, 2, 3, 4, 5, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("given were %v, want %v", got, want)
		}
	}
	for range 2 {
		if r := <-ends; r.code != 0 || !strings.Contains(r.stdout, " done ") {
			t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	}

	// A command that comes while it is away waits; what it has no rows for is refused where it is issued.
	h.must(t, "reset", "orders", "from", "1", "--consumer", "mailer", "--id", "later")
	cfg.Start = consumer.Tail()
	follow(cfg, func(n int, r consumer.Record) bool {
		if r.Position.Sequence != lane.Sequence(n) {
			t.Fatalf("the %dth record is %v", n, r.Position)
		}
		return n < 3
	})
	follow(cfg, func(_ int, r consumer.Record) bool {
		if r.Position.Sequence != 4 {
			t.Fatalf("went on at %v", r.Position)
		}
		return false
	})
	if r := finish(t, h.lockstep("reset", "orders", "verify", "--consumer", "mailer")); r.code == 0 || !strings.Contains(r.stderr, "for replicas") {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
