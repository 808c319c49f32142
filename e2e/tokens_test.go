package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/producer"
)

// S12 from outside: who may publish may not read, who may read may not publish, nobody else may do anything, and a change of the file is
// felt without a restart.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	if err := os.WriteFile(file, []byte("ops * read,publish,manage\ntill orders publish\nreader orders\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, filepath.Join(dir, "data"), "--tokens-file", file)
	as := func(token string, args ...string) result {
		t.Helper()
		cmd := h.lockstep(args...)
		if token != "" {
			cmd.Env = append(cmd.Env, "LOCKSTEP_TOKEN="+token)
		}
		return finish(t, cmd)
	}
	db := filepath.Join(dir, "orders.db")
	for _, c := range []struct {
		name, token, says string
		refused           bool
		args              []string
	}{
		{"create without a token", "", "bearer token", true, []string{"stream", "create", "orders"}},
		{"create without the right", "till", "manage", true, []string{"stream", "create", "orders"}},
		{"create", "ops", "created", false, []string{"stream", "create", "orders"}},
		{"create another", "ops", "created", false, []string{"stream", "create", "order-secrets"}},
		{"put without a token", "", "bearer token", true, []string{"put", "orders", "a", "1"}},
		{"put by a reader", "reader", "publish", true, []string{"put", "orders", "a", "1"}},
		{"put elsewhere", "till", "publish", true, []string{"put", "order-secrets", "a", "1"}},
		{"put", "till", "", false, []string{"put", "orders", "a", "1"}},
		{"tail without a token", "", "bearer token", true, []string{"tail", "orders", "--from", "1", "--no-follow"}},
		{"tail by who publishes", "till", "read", true, []string{"tail", "orders", "--from", "1", "--no-follow"}},
		{"tail", "reader", "1 a 1", false, []string{"tail", "orders", "--from", "1", "--no-follow"}},
		{"replica", "reader", "", false, []string{"replica", "orders", db, "--once"}},
		{"verify", "reader", "equal", false, []string{"verify", "orders", db}},
		{"verify without a token", "", "bearer token", true, []string{"verify", "orders", db}},
		{"list", "reader", "orders", false, []string{"stream", "list"}},
		{"consumers", "reader", "replica", false, []string{"consumer", "list"}},
		{"consumers without a token", "", "bearer token", true, []string{"consumer", "list"}},
		{"consumers of what is not granted", "reader", "read", true, []string{"consumer", "list", "--stream", "order-secrets"}},
	} {
		r := as(c.token, c.args...)
		if (r.code != 0) != c.refused || !strings.Contains(r.stdout+r.stderr, c.says) {
			t.Errorf("%s: exit code %d\n%s%s", c.name, r.code, r.stdout, r.stderr)
		}
		if c.token != "ops" && strings.Contains(r.stdout+r.stderr, "secrets") && !strings.Contains(strings.Join(c.args, " "), "secrets") {
			t.Errorf("%s tells of a stream that was not granted:\n%s%s", c.name, r.stdout, r.stderr)
		}
	}
	if r := as("till", "consumer", "list"); r.code != 0 || strings.Contains(r.stdout, "replica") {
		t.Errorf("who may not read sees who reads:\n%s%s", r.stdout, r.stderr)
	}

	// The same with the SDK, whose replica the command line is.
	for token, want := range map[string]error{"": fault.Unauthenticated, "guess": fault.Unauthenticated, "reader": fault.NotPermitted, "till": nil} {
		p, err := producer.Open(t.Context(), producer.Config{Ingest: h.at["ingest"], Stream: "orders", Token: token})
		if !errors.Is(err, want) {
			t.Errorf("a producer with %q: %v, want %v", token, err, want)
		}
		if err == nil {
			if _, err := p.Put(t.Context(), "c", []byte("3")); err != nil {
				t.Error(err)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}

	// A follower loses its stream with its grant; the others never notice.
	follower := h.lockstep("tail", "orders", "--from", "1", "--token", "reader")
	ended := make(chan result, 1)
	go func() { ended <- finish(t, follower) }()
	if err := os.WriteFile(file, []byte("ops * read,publish,manage\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	deadline, look := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer look.Stop()
	for !strings.Contains(h.stderr.String(), "changed and is wrong") {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatal("the log never says that the file is wrong")
		}
	}
	if r := as("till", "put", "orders", "b", "2"); r.code != 0 {
		t.Errorf("a broken file took a grant away:\n%s", r.stderr)
	}
	if err := os.WriteFile(file, []byte("till orders publish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-ended:
		if r.code != 1 || !strings.Contains(r.stderr, "token") || !strings.Contains(r.stdout, "3 b 2") {
			t.Errorf("the follower ended with %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	case <-time.After(patience):
		t.Error("the follower went on without a grant")
	}
}
