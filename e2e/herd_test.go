package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/lockstep-mq/lockstep/sdk/replica"
)

const (
	herd     = 200
	herdRows = 20_000
	// herdMiB is what the whole house may take: its fixed buffers and caches (docs/memory.md), and a bounded number of bootstraps at once.
	herdMiB = 256
)

// TestHerd lets 200 empty replicas come at once. One snapshot is made and fetched for all of them, the house's memory stays within bounds,
// and every one of them is proven equal.
func TestHerd(t *testing.T) {
	dir := t.TempDir()
	h := newHouse(t, filepath.Join(dir, "data"), "--verbose")
	var lines bytes.Buffer
	for n := range herdRows {
		fmt.Fprintf(&lines, `{"id":"k%d","text":"%x"}`+"\n", n, sha256.Sum256([]byte(strconv.Itoa(n))))
	}
	publishLines(t, h, "things", "id", lines.Bytes())
	before := peakMiB(t, h.cmd.Process.Pid)

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for n := range herd {
		wg.Go(func() {
			<-start
			r, err := replica.Open(ctx, replica.Config{
				Stream: "things", Path: filepath.Join(dir, fmt.Sprintf("r%d.db", n)), Gateways: []string{h.at["gateway"]}, ScrubRowsPerSecond: -1,
			})
			if err != nil {
				t.Error(err)
				return
			}
			err = r.WaitSynced(ctx)
			s := r.Status()
			if closed := r.Close(); err != nil || closed != nil {
				t.Errorf("replica %d: %v, %v; %+v", n, err, closed, s)
				return
			}
			if l := s.Lanes[0]; s.Bootstraps != 1 || l.Digest.Count != herdRows || l.VerifiedAt != l.Cursor || l.Cursor.Sequence != herdRows {
				t.Errorf("replica %d: %+v", n, s)
			}
		})
	}
	close(start)
	wg.Wait()
	peak := peakMiB(t, h.cmd.Process.Pid)
	t.Logf("the house took %d MiB before and %d MiB at most", before, peak)
	if peak > herdMiB {
		t.Errorf("the house took %d MiB, %d before; at most %d were expected", peak, before, herdMiB)
	}
	if made := bytes.Count([]byte(h.stderr.String()), []byte("a snapshot was made")); made != 1 {
		t.Errorf("%d snapshots were made", made)
	}
	if pulled := metricOf(t, h.at["admin"], "snapshot_pulls_total"); pulled != 1 {
		t.Errorf("the gateway fetched %v snapshots", pulled)
	}
}

// peakMiB is the most memory a process has had.
func peakMiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no VmHWM in %s", text)
	}
	kib, _ := strconv.Atoi(string(found[1])) // digits
	return kib / 1024
}

// metricOf reads the one metric whose name ends so.
func metricOf(t *testing.T, admin, name string) float64 {
	t.Helper()
	answer, err := http.Get(admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^lockstep_\w*`+regexp.QuoteMeta(name)+`(?:\{.*\})? (\S+)$`).FindAllSubmatch(text, -1)
	if len(found) != 1 {
		t.Fatalf("%d metrics are named %s:\n%s", len(found), name, text)
	}
	value, err := strconv.ParseFloat(string(found[0][1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
