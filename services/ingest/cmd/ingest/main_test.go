package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/services/ingest/ingest"
)

// run calls the command as a shell would.
func run(ctx context.Context, args []string) error {
	c := ingest.Program().Command()
	c.SetArgs(args)
	return c.ExecuteContext(ctx)
}

func TestWrongSettingsAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ingest.yaml")
	if err := os.WriteFile(file, []byte("lane-byte: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for want, args := range map[string][]string{
		"unknown flag: --nosuch": {"--nosuch"},
		`"lane-byte"`:            {"--config", file},
		"LaneBytes":              {"--lane-bytes", "100", "--total-bytes", "10"},
		"stray":                  {"stray"},
	} {
		if err := run(ctx, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s in it", args, err, want)
		}
	}
}

func TestStartsAndStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"--listen", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--admin", "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
}
