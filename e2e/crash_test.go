package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// acknowledged is one line of `publish --json`.
type acknowledged struct {
	Line     int    `json:"line"`
	Key      string `json:"key"`
	Sequence uint64 `json:"sequence"`
}

// tailed is one record of `tail --json`.
type tailed struct {
	Sequence uint64          `json:"sequence"`
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"`
}

// crashTries is how often a house is killed; each try has its own seed, so that a failure can be repeated.
const crashTries = 20

// TestKillDuringPublish kills the process at a seeded moment of publishing, again and again on one directory, and holds the ledger of
// acknowledged records against the log (S1, S3), the directory check, and a replica that followed (S9).
func TestKillDuringPublish(t *testing.T) {
	tries := crashTries
	if testing.Short() {
		tries = 3
	}
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "r.db")
	ledger := map[uint64]string{} // sequence to value
	for seed := range tries {
		h := newHouse(t, data)
		if seed == 0 {
			h.must(t, "stream", "create", "crash")
		}
		follower := h.lockstep("replica", "crash", file)
		if err := follower.Start(); err != nil {
			t.Fatal(err)
		}
		killAfter := 1 + rand.New(rand.NewPCG(uint64(seed), 1)).IntN(6000)
		acks := publishUntil(t, h, seed, killAfter)
		_ = follower.Process.Kill() // the consumer process dies too, at whatever it was doing
		_ = follower.Wait()
		for sequence, value := range acks {
			if other, ok := ledger[sequence]; ok && other != value {
				t.Fatalf("seed %d: sequence %d was acknowledged for %s and for %s", seed, sequence, other, value)
			}
			ledger[sequence] = value
		}
		checkLog(t, data, seed, ledger)
		checkDirectory(t, data, seed)
	}
	h := newHouse(t, data)
	h.must(t, "replica", "crash", file, "--once")
	h.must(t, "verify", "crash", file)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
}

// publishUntil publishes until killAfter records were acknowledged, kills the house in the middle, and gives what was acknowledged.
func publishUntil(t *testing.T, h *house, seed, killAfter int) map[uint64]string {
	t.Helper()
	var input bytes.Buffer
	value := func(line int) string { return fmt.Sprintf(`{"id":"k%d","seed":%d,"line":%d}`, line%997, seed, line) }
	for line := 1; line <= 60_000; line++ {
		fmt.Fprintln(&input, value(line))
	}
	publish := h.lockstep("publish", "crash", "-", "--key", "id", "--json", "--retry-for", "1s")
	publish.Stdin = &input
	out, err := publish.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := publish.Start(); err != nil {
		t.Fatal(err)
	}
	acks := map[uint64]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var a acknowledged
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatalf("seed %d: %q: %v", seed, lines.Text(), err)
		}
		acks[a.Sequence] = value(a.Line)
		if len(acks) == killAfter {
			h.kill()
		}
	}
	if err := publish.Wait(); err == nil && len(acks) < 60_000 {
		t.Fatalf("seed %d: publish said all was well after %d of 60000 acknowledgements and a kill", seed, len(acks))
	}
	if len(acks) < killAfter {
		t.Fatalf("seed %d: only %d records were acknowledged before the kill", seed, len(acks))
	}
	return acks
}

// checkLog starts the house again and reads the whole log: sequences 1..N, and every acknowledged record at its place.
func checkLog(t *testing.T, data string, seed int, ledger map[uint64]string) {
	t.Helper()
	h := newHouse(t, data)
	cmd := h.lockstep("tail", "crash", "--from", "1", "--no-follow", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next, found := uint64(1), 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var r tailed
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Sequence != next {
			t.Fatalf("seed %d: after sequence %d comes %d", seed, next-1, r.Sequence)
		}
		next++
		if want, ok := ledger[r.Sequence]; ok {
			found++
			if want != string(r.Value) {
				t.Fatalf("seed %d: sequence %d is %s, and %s was acknowledged there", seed, r.Sequence, r.Value, want)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if found != len(ledger) {
		t.Fatalf("seed %d: %d of %d acknowledged records are in the log", seed, found, len(ledger))
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
}

// checkDirectory runs sequencer-storage's own check of the stopped directory.
func checkDirectory(t *testing.T, data string, seed int) {
	t.Helper()
	r := finish(t, exec.Command(filepath.Join(bin, "sequencer-storage"), "check", filepath.Join(data, "sequencer")))
	if r.code != 0 {
		t.Fatalf("seed %d: check says: %s", seed, strings.TrimSpace(r.stdout+r.stderr))
	}
}
