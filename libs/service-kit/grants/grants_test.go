package grants_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/service-kit/grants"
)

// log collects what is logged by one goroutine and looked at by another.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGrants(t *testing.T) {
	text := fmt.Sprintf("# who may what\n\none orders,pri*\none extra publish\nall * read,publish,manage\nsha256:%x hidden\n", sha256.Sum256([]byte("two")))
	file := filepath.Join(t.TempDir(), "tokens")
	write(t, file, text)
	b, err := grants.Open(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, stream string
		right         grants.Right
		want          error
	}{
		{"one", "orders", grants.Read, nil}, {"one", "prices", grants.Read, nil}, {"one", "orders2", grants.Read, fault.NotPermitted},
		{"one", "hidden", grants.Read, fault.NotPermitted}, {"one", "orders", grants.Publish, fault.NotPermitted}, {"one", "extra", grants.Publish, nil},
		{"one", "extra", grants.Read, fault.NotPermitted}, {"one", "extra", grants.Manage, fault.NotPermitted},
		{"all", "anything", grants.Manage, nil}, {"two", "hidden", grants.Read, nil}, {"two", "orders", grants.Read, fault.NotPermitted},
		{"", "orders", grants.Read, fault.Unauthenticated}, {"three", "orders", grants.Read, fault.Unauthenticated},
		{strings.Fields(strings.Split(text, "\n")[5])[0], "hidden", grants.Read, fault.Unauthenticated}, // the digest is not the token
	} {
		p, err := b.Admit(c.token)
		if err == nil {
			err = p.Check(c.right, lane.StreamName(c.stream))
		}
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%q to %v %q: %v, want %v", c.token, c.right, c.stream, err, c.want)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	one, err := b.Admit("one")
	if err != nil || !one.Sees("extra") || one.Sees("hidden") || one.Anywhere(grants.Publish) != nil || !errors.Is(one.Anywhere(grants.Manage), fault.NotPermitted) {
		t.Errorf("what %q sees is wrong: %v", "one", err)
	}
	if err := (grants.Pass{}).Check(grants.Read, "orders"); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("the zero Pass: %v", err)
	}
}

func TestWithoutAFileAllIsOpenAndSaid(t *testing.T) {
	var said bytes.Buffer
	b, err := grants.Open("", slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := b.Admit(""); err != nil || p.Check(grants.Manage, "orders") != nil || p.Anywhere(grants.Publish) != nil || !p.Sees("orders") {
		t.Errorf("without a file: %v", err)
	}
	if !strings.Contains(said.String(), "no tokens file") {
		t.Errorf("the log says %q", said.String())
	}
}

func TestWrongLinesAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	for _, bad := range []string{"token\n", "token a read b\n", "token bad/name\n", "sha256:12 a\n", "token a,,b\n", "token a write\n", "token a read,\n"} {
		write(t, file, "# one\n"+bad)
		if _, err := grants.Open(file, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "token a") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAChangeIsPickedUpAndABrokenFileChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "tokens")
		write(t, file, "one orders\n")
		var said log
		b, err := grants.Open(file, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		one, err := b.Admit("one")
		if err != nil {
			t.Fatal(err)
		}
		var failed []error
		leave := b.Watch(one, grants.Read, "orders", func(err error) { failed = append(failed, err) })
		defer leave()
		gone := b.Watch(one, grants.Read, "orders", func(error) { t.Error("a watch that was left was told") })
		gone()
		look := func() {
			t.Helper()
			time.Sleep(grants.LookInterval) // of the bubble
			synctest.Wait()
		}

		write(t, file, "one orders\ntwo prices publish nonsense\n")
		look()
		look()
		if one.Check(grants.Read, "orders") != nil || strings.Count(said.String(), "changed and is wrong") != 1 {
			t.Errorf("a broken file: %v; the log says %s", one.Check(grants.Read, "orders"), said.String())
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		look()
		look()
		if one.Check(grants.Read, "orders") != nil || strings.Count(said.String(), "cannot be read") != 1 {
			t.Errorf("a file that is gone: %v; the log says %s", one.Check(grants.Read, "orders"), said.String())
		}
		if len(failed) > 0 {
			t.Errorf("told %v while the grant held", failed)
		}
		write(t, file, "one orders publish\ntwo prices publish\n")
		look()
		if err := one.Check(grants.Read, "orders"); !errors.Is(err, fault.NotPermitted) {
			t.Errorf("after the right was taken away: %v", err)
		}
		if len(failed) != 1 || !errors.Is(failed[0], fault.NotPermitted) {
			t.Errorf("the watch was told %v", failed)
		}
		if two, err := b.Admit("two"); err != nil || two.Check(grants.Publish, "prices") != nil {
			t.Errorf("a token that came: %v", err)
		}
		write(t, file, "two prices\n")
		look()
		if err := one.Check(grants.Publish, "orders"); !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("after the token was taken away: %v", err)
		}
	})
}

func TestBearer(t *testing.T) {
	for in, want := range map[string]string{"": "", "Bearer abc": "abc", "bearer  abc ": "abc"} {
		if got, err := grants.Bearer(in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	for _, in := range []string{"Bearer", "Bearer ", "Basic abc", "secret-token"} {
		if _, err := grants.Bearer(in); !errors.Is(err, fault.Unauthenticated) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, in string) {
		if token, err := grants.Bearer(in); err == nil && in != "" && (token == "" || !strings.HasSuffix(strings.TrimSpace(in), token)) {
			t.Errorf("%q gave %q", in, token)
		}
	})
}
