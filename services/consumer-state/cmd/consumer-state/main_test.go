package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
)

// childVariable makes the test binary behave as the command.
const childVariable = "CONSUMER_STATE_TEST_RUNS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// living is the command, running.
type living struct {
	*exec.Cmd
	address string
	rest    sync.WaitGroup // of reading what it logs
}

func child(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	return cmd
}

var addressInLog = regexp.MustCompile(`address=(\S+)`)

func start(t *testing.T, args ...string) *living {
	t.Helper()
	p := &living{Cmd: child(append([]string{"--listen", "127.0.0.1:0"}, args...)...)}
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for p.address == "" && lines.Scan() {
		if found := addressInLog.FindStringSubmatch(lines.Text()); found != nil {
			p.address = found[1]
		}
	}
	p.rest.Go(func() { _, _ = io.Copy(io.Discard, stderr) })
	if p.address == "" {
		t.Fatal("the process ended before it served")
	}
	return p
}

// end sends a signal and gives what Wait says.
func (p *living) end(t *testing.T, signal syscall.Signal) error {
	t.Helper()
	if err := p.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	p.rest.Wait()
	return p.Wait()
}

func (p *living) dial(t *testing.T) (consumerv1.ConsumerStateClient, *grpc.ClientConn) {
	t.Helper()
	cc, err := rpc.Dial(p.address, rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return consumerv1.NewConsumerStateClient(cc), cc
}

// Whatever was answered before a kill is there after it, cursors and incarnations.
func TestKilledWhileConsumersCheckpoint(t *testing.T) {
	const consumers, kills = 8, 10
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	var acknowledged, sent [consumers]uint64
	var incarnations [consumers]uint64
	ctx := context.Background()
	for kill := range kills {
		p := start(t, "--data", dir, "--admin", "")
		client, cc := p.dial(t)
		var answers atomic.Int64
		limit := 20 + random.Int64N(200)
		enough := make(chan struct{})
		var all sync.WaitGroup
		for i := range consumers {
			all.Go(func() {
				answer, err := client.Attach(ctx, &consumerv1.AttachRequest{Stream: "orders", StreamId: 1, ConsumerId: fmt.Sprint("c-", i)})
				if err != nil {
					return // killed already
				}
				if answer.GetIncarnation() <= incarnations[i] {
					t.Errorf("kill %d: incarnation %d was given before", kill, answer.GetIncarnation())
				}
				incarnations[i] = answer.GetIncarnation()
				kept := uint64(0)
				if len(answer.GetCursors()) > 0 {
					kept = answer.GetCursors()[0].GetPosition().GetSequence()
				}
				if kept < acknowledged[i] || kept > sent[i] {
					t.Errorf("kill %d: consumer %d has %d; %d was acknowledged and %d sent", kill, i, kept, acknowledged[i], sent[i])
				}
				for {
					sent[i]++
					_, err := client.Checkpoint(ctx, &consumerv1.CheckpointRequest{
						StreamId: 1, ConsumerId: fmt.Sprint("c-", i), Incarnation: answer.GetIncarnation(),
						Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: sent[i]}}},
					})
					if err != nil {
						return
					}
					acknowledged[i] = sent[i]
					if answers.Add(1) == limit {
						close(enough)
					}
				}
			})
		}
		quiet := make(chan struct{})
		go func() { all.Wait(); close(quiet) }() // ends at the latest when the process does
		select {
		case <-enough:
		case <-quiet:
			t.Fatalf("kill %d: the process failed before it was killed", kill)
		}
		_ = p.end(t, syscall.SIGKILL)
		_ = cc.Close()
		<-quiet
	}
	if incarnations[0] < kills {
		t.Errorf("consumer 0 lived %d times", incarnations[0])
	}
}

// Whatever was answered of a command before a kill is so after it: issued, superseded, done, and the cursors that moved with that.
func TestKilledWhileCommandsRun(t *testing.T) {
	const kills = 10
	random := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	ctx := context.Background()
	states := map[string]consumerv1.ResetState{} // answered, by command
	rewound := 0
	for kill := range kills {
		p := start(t, "--data", dir, "--admin", "")
		client, cc := p.dial(t)
		listed, err := client.ListResets(ctx, &consumerv1.ListResetsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, reset := range listed.GetResets() {
			want, known := states[reset.GetCommand().GetCommandId()]
			// The call under way at the kill may have gone through: a step further than was answered.
			if got := reset.GetProgress().GetState(); known && got < want {
				t.Errorf("kill %d: command %s is %v and was answered as %v", kill, reset.GetCommand().GetCommandId(), got, want)
			}
			delete(states, reset.GetCommand().GetCommandId())
		}
		for id, state := range states {
			t.Errorf("kill %d: command %s was answered as %v and is gone", kill, id, state)
		}
		ended := make(chan struct{})
		enough := make(chan struct{})
		limit := 5 + random.IntN(60)
		go func() { // ends at the latest when the process does
			defer close(ended)
			for calls, n := 0, 0; ; n++ {
				answered := func(err error) bool {
					if calls++; calls == limit {
						close(enough)
					}
					return err == nil
				}
				life, err := client.Attach(ctx, &consumerv1.AttachRequest{Stream: "orders", StreamId: 1, ConsumerId: "c", Kind: consumerv1.ConsumerKind_CONSUMER_KIND_LOG})
				if !answered(err) {
					return
				}
				_, err = client.Checkpoint(ctx, &consumerv1.CheckpointRequest{StreamId: 1, ConsumerId: "c", Incarnation: life.GetIncarnation(),
					Cursors: []*consumerv1.Cursor{{Position: &streamv1.Position{Epoch: 1, Sequence: 1000}}}})
				if !answered(err) {
					return
				}
				id := fmt.Sprint("k-", kill, "-", n)
				_, err = client.IssueReset(ctx, &consumerv1.IssueResetRequest{ConsumerId: "c", Command: &consumerv1.Command{CommandId: id, Stream: "orders",
					Action: consumerv1.Action_ACTION_FROM_SEQUENCE, FromSequence: 10}})
				if !answered(err) {
					return
				}
				states = map[string]consumerv1.ResetState{id: consumerv1.ResetState_RESET_STATE_WAITING}
				for _, state := range []consumerv1.ResetState{consumerv1.ResetState_RESET_STATE_RUNNING, consumerv1.ResetState_RESET_STATE_DONE} {
					if state == consumerv1.ResetState_RESET_STATE_DONE && n%3 == 0 {
						break // the next one supersedes it
					}
					_, err = client.Report(ctx, &consumerv1.ReportRequest{StreamId: 1, ConsumerId: "c", Incarnation: life.GetIncarnation(),
						Health: &consumerv1.Health{Resets: []*consumerv1.ResetProgress{{CommandId: id, State: state}}}})
					if !answered(err) {
						return
					}
					states[id] = state
				}
			}
		}()
		select {
		case <-enough:
		case <-ended:
			t.Fatalf("kill %d: the process failed before it was killed", kill)
		}
		_ = p.end(t, syscall.SIGKILL)
		_ = cc.Close()
		<-ended
		rewound += cursorsAgree(t, dir, states)
	}
	if rewound == 0 {
		t.Error("no kill came after a cursor had moved back: the test proves nothing of that")
	}
}

// cursorsAgree looks at what a kill left: a cursor is back exactly when the command is done and nobody has moved it on.
func cursorsAgree(t *testing.T, dir string, answered map[string]consumerv1.ResetState) (rewound int) {
	t.Helper()
	p := start(t, "--data", dir, "--admin", "")
	client, cc := p.dial(t)
	consumers, err := client.ListConsumers(t.Context(), &consumerv1.ListConsumersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	resets, err := client.ListResets(t.Context(), &consumerv1.ListResetsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_ = cc.Close()
	if err := p.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("asked to end: %v", err)
	}
	if len(resets.GetResets()) == 0 || len(consumers.GetConsumers()[0].GetLanes()) == 0 {
		return 0 // killed before the first
	}
	last := resets.GetResets()[len(resets.GetResets())-1]
	sequence := consumers.GetConsumers()[0].GetLanes()[0].GetCursor().GetPosition().GetSequence()
	open := last.GetProgress().GetState() < consumerv1.ResetState_RESET_STATE_DONE
	if sequence == 9 && open || sequence != 9 && sequence != 1000 {
		t.Errorf("the cursor is at %d and the last command %v", sequence, last)
	}
	if answered[last.GetCommand().GetCommandId()] == consumerv1.ResetState_RESET_STATE_DONE && sequence == 9 {
		rewound = 1
	}
	return rewound
}

func TestAdminPageAndEnd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	socket, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("data: "+dir+"\nadmin: "+socket+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--config", file)
	client, cc := p.dial(t)
	if _, err := client.Attach(t.Context(), &consumerv1.AttachRequest{Stream: "orders", StreamId: 1, ConsumerId: "c"}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "lockstep_consumer_state_consumers 1"} {
		answer, err := http.Get("http://" + socket + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v %.300s", path, answer.StatusCode, err, body)
		}
	}
	out, err := child("--data", dir, "--listen", "127.0.0.1:0", "--admin", "").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "used by another process") {
		t.Errorf("a second one in the directory: %v %s", err, out)
	}
	out, err = child("--data", t.TempDir(), "--listen", p.address, "--admin", "").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is in use") {
		t.Errorf("a second one at the address: %v %s", err, out)
	}
	_ = cc.Close()
	if err := p.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("asked to end: %v", err)
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--data", ""}, "set data"},
		{[]string{"--data", "x", "extra"}, "extra"},
		{[]string{"--no-such"}, "no-such"},
		{[]string{"--data", "x", "--silent-after", "-1s"}, "silent-after"},
	} {
		cmd := child(append(c.args, "--admin", "", "--listen", "127.0.0.1:0")...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: %v %s", c.args, err, out)
		}
	}
}

// freeAddress gives one that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
