package sequencer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
)

const crashTries = 4

// The service is killed at a random moment of publishing, again and again over one directory. What was acknowledged is there, at its
// sequence; sequences have no holes; the directory is clean.
func TestKilledWhilePublishing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and kills the service's binary")
	}
	bin := filepath.Join(t.TempDir(), "sequencer-storage")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../cmd/sequencer-storage").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "data")
	random := rand.New(rand.NewPCG(1, 2))
	acked := map[string]map[uint64]string{} // by stream: value at sequence
	for try := range crashTries {
		address := freeAddress(t)
		cmd := exec.Command(bin, "--data", dir, "--listen", address, "--admin", freeAddress(t), "--segment-bytes", "32768", "--retention-interval", "20ms")
		if testing.Verbose() {
			cmd.Stderr = os.Stderr
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		first := make(chan struct{}, 64)
		for p := range 3 {
			name := fmt.Sprintf("s%d", p)
			if acked[name] == nil {
				acked[name] = map[uint64]string{}
			}
			values := acked[name]
			wg.Go(func() { publishUntilKilled(ctx, address, name, try, &mu, values, first) })
		}
		select {
		case <-first:
		case <-ctx.Done():
			t.Error("nothing was acknowledged in 20 s")
		}
		timer := time.NewTimer(time.Duration(20+random.IntN(300)) * time.Millisecond) // the moment of death
		<-timer.C
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Errorf("try %d: the service was gone before it was killed: %v", try, err)
		}
		_ = cmd.Wait() // it was killed, and says so
		cancel()
		wg.Wait()
		report, err := sequencer.Check(t.Context(), dir)
		if err != nil || len(report.Problems) > 0 {
			t.Fatalf("try %d: check: %+v %v", try, report, err)
		}
	}
	h := open(t, sequencer.Config{Dir: dir})
	for name, values := range acked {
		s := h.create(t, &streamv1.StreamSpec{Name: name, Keyed: true})
		records, err := h.read(t, s, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range records {
			if uint64(r.Sequence) != uint64(i+1) {
				t.Fatalf("%s: record %d has sequence %d", name, i, r.Sequence)
			}
		}
		if len(values) == 0 {
			t.Fatalf("%s: nothing was acknowledged in %d tries", name, crashTries)
		}
		for sequence, value := range values {
			if sequence > uint64(len(records)) || string(records[sequence-1].Value) != value {
				t.Fatalf("%s: acknowledged sequence %d is lost or another", name, sequence)
			}
		}
		h.readState(t, s) // proves the digest against the rows
		t.Logf("%s: %d acknowledged appends of 2, %d records", name, len(values), len(records))
	}
}

// publishUntilKilled appends pairs of records until the service does not answer, noting what was acknowledged.
func publishUntilKilled(ctx context.Context, address, name string, try int, mu *sync.Mutex, acked map[uint64]string, first chan<- struct{}) {
	conn, err := rpc.Dial(address, rpc.ClientConfig{})
	if err != nil {
		return
	}
	defer conn.Close()
	streams, client := sequencerv1.NewCatalogueClient(conn), sequencerv1.NewSequencerClient(conn)
	var s *streamv1.Stream
	for s == nil {
		r, err := streams.CreateStream(ctx, &sequencerv1.CreateStreamRequest{Spec: &streamv1.StreamSpec{Name: name, Keyed: true}, IfAbsent: true})
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			s = r.GetStream()
		}
	}
	for i := 0; ; i++ {
		value := fmt.Sprintf("%d-%d-%s", try, i, incompressible(i, i%3*3000))
		r, err := client.Append(ctx, request(s, row{key: fmt.Sprint(i % 50), value: value}, row{key: "k", value: value}))
		if err != nil {
			return
		}
		mu.Lock()
		acked[r.GetFirstSequence()] = value
		mu.Unlock()
		select {
		case first <- struct{}{}:
		default:
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
