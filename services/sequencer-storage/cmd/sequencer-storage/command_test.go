package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

// run calls the command as a shell would.
func run(ctx context.Context, args ...string) (string, error) {
	c := sequencer.Program().Command()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

func TestRunThenCheck(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := run(ctx, "--data", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
		ended <- err
	}()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for held := false; !held; { // the witness is opened once the directory is held
		_, err := os.Stat(filepath.Join(dir, "witness"))
		held = err == nil
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the service ended: %v", err)
		case <-deadline:
			t.Fatal("the directory is not taken")
		}
	}
	if _, err := run(t.Context(), "check", dir); !errors.Is(err, fault.InUse) {
		t.Fatalf("a directory in use was checked: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	out, err := run(t.Context(), "check", dir)
	if err != nil || !strings.HasSuffix(out, "\nclean\n") {
		t.Fatalf("%q %v", out, err)
	}
}

func TestRefusals(t *testing.T) {
	if _, err := run(t.Context(), "check", t.TempDir()); !errors.Is(err, fault.ForeignData) {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := run(t.Context(), "check"); err == nil {
		t.Error("check without a directory")
	}
	if _, err := run(t.Context(), "sail"); err == nil {
		t.Error("an unknown command")
	}
}
