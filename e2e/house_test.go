package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a process.
const patience = 60 * time.Second

// house is one `lockstep dev` process.
type house struct {
	cmd    *exec.Cmd
	stderr *logged
	exited chan error
	ended  bool
	// at has the addresses: ingest, gateway, consumers, ...
	at map[string]string
}

// logged collects what a process writes; safe for the process and the test at once.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startHouse runs dev on any free ports and returns when it answers.
func startHouse(data string, flags ...string) (*house, error) {
	h := &house{stderr: &logged{}, exited: make(chan error, 1)}
	h.cmd = exec.Command(filepath.Join(bin, "lockstep"), append([]string{"dev", "--json", "--free-ports", "--data", data}, flags...)...)
	h.cmd.Stderr = h.stderr
	h.cmd.Env = cleanEnv()
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan string, 1)
	go func() { // ends when the process does
		lines := bufio.NewReader(out)
		line, _ := lines.ReadString('\n')
		first <- line
		_, _ = lines.WriteTo(h.stderr)
		h.exited <- h.cmd.Wait()
	}()
	select {
	case line := <-first:
		if json.Unmarshal([]byte(line), &h.at) != nil {
			err := <-h.exited
			return nil, fmt.Errorf("dev did not start: %v\n%s%s", err, line, h.stderr)
		}
	case <-time.After(patience):
		h.kill()
		return nil, fmt.Errorf("dev did not answer within %v\n%s", patience, h.stderr)
	}
	return h, nil
}

// env gives the addresses as the variables the commands read.
func (h *house) env() []string {
	return []string{"LOCKSTEP_INGEST=" + h.at["ingest"], "LOCKSTEP_GATEWAY=" + h.at["gateway"], "LOCKSTEP_CONSUMER_STATE=" + h.at["consumers"]}
}

// stop interrupts the process and expects it to end well.
func (h *house) stop() error {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-h.exited:
		h.ended = true
		if err != nil {
			return fmt.Errorf("dev ended badly: %w\n%s", err, h.stderr)
		}
		return nil
	case <-time.After(patience):
		h.kill()
		return fmt.Errorf("dev did not stop within %v\n%s", patience, h.stderr)
	}
}

// kill ends the process at once, if it has not ended.
func (h *house) kill() {
	if h.ended {
		return
	}
	_ = h.cmd.Process.Kill() // it may be ending
	<-h.exited
	h.ended = true
}

func newHouse(t *testing.T, data string, flags ...string) *house {
	t.Helper()
	h, err := startHouse(data, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.kill()
		if t.Failed() {
			t.Logf("dev said:\n%s", h.stderr)
		}
	})
	return h
}

// cleanEnv is the environment without our own variables.
func cleanEnv() []string {
	var env []string
	for _, one := range os.Environ() {
		if !strings.HasPrefix(one, "LOCKSTEP_") {
			env = append(env, one)
		}
	}
	return env
}

// result of a command.
type result struct {
	stdout, stderr string
	code           int
}

// commanded is a house in either form, for those who only run commands against it.
type commanded interface {
	lockstep(args ...string) *exec.Cmd
}

// lockstep makes a command against the house; run it with finish.
func (h *house) lockstep(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "lockstep"), args...)
	cmd.Env = append(cleanEnv(), h.env()...)
	return cmd
}

// finish runs a command to its end, which must come by itself.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Start()
	if err == nil {
		hangs := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() }) // it says how far it came
		err = cmd.Wait()
		hangs.Stop()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed.
func (h *house) must(t *testing.T, args ...string) result {
	t.Helper()
	r := finish(t, h.lockstep(args...))
	if r.code != 0 {
		t.Fatalf("lockstep %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}
