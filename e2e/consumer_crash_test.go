package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKillConsumer kills the process that keeps a replica in each phase of a bootstrap and while it is live. What was there before stays
// whole and readable (S10), and the next run ends proven equal (S9).
func TestKillConsumer(t *testing.T) {
	const rows = 20_000
	dir := t.TempDir()
	h := newHouse(t, filepath.Join(dir, "data"))
	var input strings.Builder
	for n := range rows {
		fmt.Fprintf(&input, `{"id":"k%d","text":%q}`+"\n", n, strings.Repeat("x", n%300))
	}
	publish := h.lockstep("publish", "things", "-", "--key", "id")
	publish.Stdin = strings.NewReader(input.String())
	if r := finish(t, publish); r.code != 0 {
		t.Fatal(r.stderr)
	}
	for _, phase := range []string{"receiving", "building", "swapping", "catching up", "live"} {
		t.Run("first bootstrap, "+phase, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "r.db")
			killInPhase(t, h, file, phase)
			if _, err := os.Stat(file); err == nil { // visible only when whole
				countRows(t, file, rows)
			}
			h.must(t, "replica", "things", file, "--once")
			h.must(t, "verify", "things", file)
		})
		t.Run("again, "+phase, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "r.db")
			h.must(t, "replica", "things", file, "--once")
			if _, err := query(file, "UPDATE things SET value = 'mine' WHERE key = 'k7' RETURNING key"); err != nil {
				t.Fatal(err)
			}
			killInPhase(t, h, file, phase)
			countRows(t, file, rows)
			h.must(t, "replica", "things", file, "--once")
			h.must(t, "verify", "things", file)
		})
	}
}

// killInPhase follows the stream and kills the process when it says that the phase began. A phase that is passed over (nothing to
// catch up with) ends at the next best moment, when the replica is live.
func killInPhase(t *testing.T, h *house, file, phase string) {
	t.Helper()
	cmd := h.lockstep("replica", "things", file)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
		if lines.Text() == phase || lines.Text() == "live" {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatalf("the replica ended by itself: %v\n%s", err, strings.Join(all, "\n"))
	}
	_ = cmd.Wait() // it was killed
	if len(all) == 0 || all[len(all)-1] != phase && all[len(all)-1] != "live" {
		t.Fatalf("phase %q never came:\n%s", phase, strings.Join(all, "\n"))
	}
}

func countRows(t *testing.T, file string, want int) {
	t.Helper()
	got, err := query(file, "SELECT count(*) FROM things")
	if err != nil {
		t.Fatal(err)
	}
	if got != fmt.Sprintf("%d\n", want) {
		t.Fatalf("the file has %s rows, %d were there before", strings.TrimSpace(got), want)
	}
}
