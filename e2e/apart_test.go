package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// apart is the four services as four processes, and a NATS server beside them.
type apart struct {
	data    string
	at      map[string]string
	nats    *server.Server
	running map[string]*process
}

// process is one service.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr *logged
	exited chan error
}

// The order of starting; stopping goes the other way.
var services = []string{"consumer-state", "sequencer-storage", "ingest", "delivery-gateway"}

// startApart runs the services on free ports and returns when all are ready.
func startApart(data string) (*apart, error) {
	a := &apart{data: data, at: map[string]string{}, running: map[string]*process{}}
	for _, port := range []string{"ingest", "http", "gateway", "websocket", "consumers", "sequencer", "nats", "admin ingest", "admin delivery-gateway", "admin consumer-state", "admin sequencer-storage"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once at the end, so that no two are the same
		a.at[port] = l.Addr().String()
	}
	return a, nil
}

// up starts what does not run yet.
func (a *apart) up() error {
	if err := a.startNATS(); err != nil {
		return err
	}
	for _, name := range services {
		if a.running[name] == nil {
			if err := a.start(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *apart) startNATS() error {
	_, port, err := net.SplitHostPort(a.at["nats"])
	if err != nil {
		return err
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return err
	}
	a.nats, err = server.NewServer(&server.Options{Host: "127.0.0.1", Port: number, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	a.nats.Start()
	if !a.nats.ReadyForConnections(patience) {
		return errors.New("NATS did not start")
	}
	return nil
}

func (a *apart) stopNATS() {
	a.nats.Shutdown()
	a.nats.WaitForShutdown()
}

func (a *apart) flags(name string) []string {
	bus := "nats://" + a.at["nats"]
	switch name {
	case "consumer-state":
		return []string{"--listen", a.at["consumers"], "--admin", a.at["admin "+name], "--data", filepath.Join(a.data, "consumers")}
	case "sequencer-storage":
		return []string{"--listen", a.at["sequencer"], "--admin", a.at["admin "+name], "--data", filepath.Join(a.data, "sequencer"), "--consumer-state", a.at["consumers"], "--nats", bus,
			"--retention-interval", "100ms"}
	case "ingest":
		return []string{"--listen", a.at["ingest"], "--listen-http", a.at["http"], "--admin", a.at["admin "+name], "--sequencer", a.at["sequencer"]}
	default:
		return []string{"--listen", a.at["gateway"], "--listen-websocket", a.at["websocket"], "--admin", a.at["admin "+name], "--sequencer", a.at["sequencer"],
			"--consumer-state", a.at["consumers"], "--nats", bus, "--drain-timeout", "1s",
			"--data", filepath.Join(a.data, "gateway")}
	}
}

// start runs one service and waits until it is ready.
func (a *apart) start(name string) error {
	p := &process{name: name, cmd: exec.Command(filepath.Join(bin, name), a.flags(name)...), stderr: &logged{}, exited: make(chan error, 1)}
	p.cmd.Env = cleanEnv()
	p.cmd.Stdout, p.cmd.Stderr = p.stderr, p.stderr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.exited <- p.cmd.Wait() }() // ends with the process
	a.running[name] = p
	client := http.Client{Timeout: 2 * time.Second}
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := client.Get("http://" + a.at["admin "+name] + "/readyz")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-p.exited:
			delete(a.running, name)
			return fmt.Errorf("%s ended: %v\n%s", name, err, p.stderr)
		case <-limit:
			return fmt.Errorf("%s is not ready\n%s", name, p.stderr)
		case <-tick.C:
		}
	}
}

// end stops one service by signal; by SIGTERM it must go well.
func (a *apart) end(name string, signal syscall.Signal) error {
	p := a.running[name]
	if p == nil {
		return nil
	}
	delete(a.running, name)
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	select {
	case err := <-p.exited:
		if err != nil && signal != syscall.SIGKILL {
			return fmt.Errorf("%s ended badly: %w\n%s", name, err, p.stderr)
		}
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill() // it did not stop by itself
		return fmt.Errorf("%s did not stop\n%s", name, p.stderr)
	}
}

func (a *apart) all(signal syscall.Signal) error {
	var errs []error
	for i := range services {
		errs = append(errs, a.end(services[len(services)-1-i], signal))
	}
	a.stopNATS()
	return errors.Join(errs...)
}

func (a *apart) stop() error { return a.all(syscall.SIGTERM) }
func (a *apart) kill()       { _ = a.all(syscall.SIGKILL) }

func (a *apart) env() []string {
	return []string{"LOCKSTEP_INGEST=" + a.at["ingest"], "LOCKSTEP_GATEWAY=tcp://" + a.at["gateway"], "LOCKSTEP_CONSUMER_STATE=" + a.at["consumers"]}
}

func (a *apart) lockstep(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "lockstep"), args...)
	cmd.Env = append(cleanEnv(), a.env()...)
	return cmd
}

func newApart(t *testing.T) *apart {
	t.Helper()
	a, err := startApart(filepath.Join(t.TempDir(), "data"))
	if err == nil {
		err = a.up()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name, p := range a.running {
				t.Logf("%s said:\n%s", name, p.stderr)
			}
		}
		a.kill()
	})
	return a
}

// publishNumbered publishes the lines [from, to) and gives the command's result.
func (a *apart) publishNumbered(t *testing.T, from, to int, flags ...string) result {
	t.Helper()
	var input strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&input, `{"id":"k%d","n":%d}`+"\n", n%50, n)
	}
	cmd := a.lockstep(append([]string{"publish", "numbers", "-", "--key", "id"}, flags...)...)
	cmd.Stdin = strings.NewReader(input.String())
	return finish(t, cmd)
}

// followNumbers tails the stream from its beginning until count records came, and checks that they are 1..count, each once, in order (S5).
func (a *apart) followNumbers(t *testing.T, count int) (wait func(), arrived <-chan int) {
	t.Helper()
	cmd := a.lockstep("tail", "numbers", "--from", "1", "--count", fmt.Sprint(count), "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended when all went well
	seen := make(chan int, count)
	failed := make(chan error, 1)
	go func() { // ends with the command
		lines := bufio.NewScanner(out)
		next := 1
		for lines.Scan() {
			var r tailed
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				failed <- err
				return
			}
			var value struct{ N int }
			if err := json.Unmarshal(r.Value, &value); err != nil || int(r.Sequence) != next || value.N != next {
				failed <- fmt.Errorf("at place %d came sequence %d with number %d", next, r.Sequence, value.N)
				return
			}
			seen <- next
			next++
		}
		failed <- errors.Join(lines.Err(), cmd.Wait())
	}()
	return func() {
		t.Helper()
		select {
		case err := <-failed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatalf("not all %d records arrived", count)
		}
	}, seen
}

// reach waits until record n has arrived.
func reach(t *testing.T, arrived <-chan int, n int) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case seen := <-arrived:
			if seen == n {
				return
			}
		case <-limit:
			t.Fatalf("record %d did not arrive", n)
		}
	}
}

func (a *apart) mustPublish(t *testing.T, from, to int) {
	t.Helper()
	if r := a.publishNumbered(t, from, to); r.code != 0 {
		t.Fatalf("publish: exit code %d\n%s", r.code, r.stderr)
	}
}

func (a *apart) proveReplica(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "n.db")
	for _, args := range [][]string{{"replica", "numbers", file, "--once"}, {"verify", "numbers", file}} {
		if r := finish(t, a.lockstep(args...)); r.code != 0 {
			t.Fatalf("lockstep %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
		}
	}
}

// TestNATSStops: without hints deliveries go on by polling, and recover by themselves.
func TestNATSStops(t *testing.T) {
	a := newApart(t)
	a.mustPublish(t, 1, 101)
	wait, arrived := a.followNumbers(t, 300)
	reach(t, arrived, 100)
	a.stopNATS()
	a.mustPublish(t, 101, 201)
	reach(t, arrived, 200)
	if err := a.startNATS(); err != nil {
		t.Fatal(err)
	}
	a.mustPublish(t, 201, 301)
	wait()
	a.proveReplica(t)
}

// TestStorageStops: publishers get explicit errors or retry, consumers wait and resume, nothing is lost or repeated.
func TestStorageStops(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t)
			a.mustPublish(t, 1, 101)
			wait, arrived := a.followNumbers(t, 200)
			reach(t, arrived, 100)
			if err := a.end("sequencer-storage", signal); err != nil {
				t.Fatal(err)
			}
			if r := a.publishNumbered(t, 101, 102, "--retry-for", "300ms"); r.code != 1 || r.stderr == "" {
				t.Fatalf("publishing without storage: exit code %d\n%s", r.code, r.stderr)
			}
			published := make(chan result, 1)
			go func() { published <- a.publishNumbered(t, 101, 201) }() // retries until storage is back
			if err := a.start("sequencer-storage"); err != nil {
				t.Fatal(err)
			}
			if r := <-published; r.code != 0 {
				t.Fatalf("publishing across the stop: exit code %d\n%s", r.code, r.stderr)
			}
			wait()
			a.proveReplica(t)
		})
	}
}

// TestGatewayAndConsumerStateStop: both come back to where they were.
func TestGatewayAndConsumerStateStop(t *testing.T) {
	a := newApart(t)
	a.mustPublish(t, 1, 101)
	wait, arrived := a.followNumbers(t, 200)
	reach(t, arrived, 100)
	for _, name := range []string{"delivery-gateway", "consumer-state"} {
		if err := a.end(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	a.mustPublish(t, 101, 201) // nobody who publishes needs them
	for _, name := range []string{"consumer-state", "delivery-gateway"} {
		if err := a.start(name); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	a.proveReplica(t)
}
