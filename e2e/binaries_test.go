package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is the folder with lockstep and the services' binaries.
var bin string

func TestMain(m *testing.M) {
	code, err := withBinaries(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// withBinaries takes the binaries from $LOCKSTEP_BIN or builds them for this run.
func withBinaries(run func() int) (int, error) {
	if given := os.Getenv("LOCKSTEP_BIN"); given != "" {
		bin = given
		if _, err := os.Stat(filepath.Join(bin, "lockstep")); err != nil {
			return 0, fmt.Errorf("LOCKSTEP_BIN is set but holds no lockstep (make build makes it): %w", err)
		}
		os.Unsetenv("LOCKSTEP_BIN") // it is ours, not a flag of the commands under test
		return run(), nil
	}
	dir, err := os.MkdirTemp("", "lockstep-bin")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir+"/", "./tools/cmd/lockstep", "./services/ingest/cmd/ingest", "./services/sequencer-storage/cmd/sequencer-storage",
		"./services/delivery-gateway/cmd/delivery-gateway", "./services/consumer-state/cmd/consumer-state")
	build.Dir = ".."
	if text, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the binaries: %w\n%s", err, text)
	}
	return run(), nil
}
