package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/lockstep-mq/lockstep/api/ingest/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
)

// house is one `lockstep dev` process and a connection to its ingest.
type house struct {
	pid    int
	ingest *grpc.ClientConn
	at     struct{ Ingest, Gateway, Consumers string }
}

// binaries is the folder with lockstep in it.
func binaries() string {
	if bin := os.Getenv("LOCKSTEP_BIN"); bin != "" {
		return bin
	}
	return filepath.Join("..", "..", "bin")
}

// startHouse starts dev on any free ports and fresh data, and ends it with the benchmark.
func startHouse(b *testing.B) *house {
	b.Helper()
	cmd := exec.Command(filepath.Join(binaries(), "lockstep"), "dev", "--json", "--free-ports", "--data", b.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatalf("starting lockstep dev (make build makes it): %v", err)
	}
	h := &house{pid: cmd.Process.Pid}
	b.Cleanup(func() {
		if h.ingest != nil {
			h.ingest.Close()
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b.Errorf("lockstep dev: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		b.Fatalf("lockstep dev said nothing: %v", err)
	}
	if err := json.Unmarshal(line, &h.at); err != nil {
		b.Fatal(err)
	}
	if h.ingest, err = rpc.Dial(h.at.Ingest, rpc.ClientConfig{}); err != nil {
		b.Fatal(err)
	}
	return h
}

func (h *house) createStream(b *testing.B, name string, keyed bool) {
	b.Helper()
	_, err := ingestv1.NewStreamsClient(h.ingest).CreateStream(b.Context(), &ingestv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: name, Partitions: 1, Keyed: keyed}})
	if err != nil {
		b.Fatal(err)
	}
}

// residentMiB is a process's resident memory now and at its highest.
func residentMiB(b *testing.B, pid int) (now, peak float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	field := func(name string) float64 {
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				kib, err := strconv.Atoi(strings.Fields(rest)[0])
				if err != nil {
					b.Fatal(err)
				}
				return float64(kib) / 1024
			}
		}
		b.Fatalf("no %s in status", name)
		return 0
	}
	return field("VmRSS"), field("VmHWM")
}

// processorTime is what a process has used of the processors, to the hundredth of a second. Unlike a rate it hardly depends on who
// else is busy on the machine.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name; the first field is then the third
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] { // user and system
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
