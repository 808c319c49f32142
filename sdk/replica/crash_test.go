package replica_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/sdk/replica"
)

// crashEnv makes the test binary a consumer process: its value is "gateway|path".
const crashEnv = "LOCKSTEP_CRASH_CHILD"

// crashChild follows until it is killed, and says on its standard output what it is doing.
func crashChild() {
	gateway, path, _ := strings.Cut(os.Getenv(crashEnv), "|")
	r, err := replica.Open(context.Background(), replica.Config{Stream: "orders", Path: path, Gateways: []string{gateway},
		OnProgress: func(p replica.Progress) { fmt.Printf("%v %d\n", p.Phase, p.Done) }})
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	for range r.Changes(context.Background()) {
		fmt.Println("applied 0")
	}
}

// killAt starts a consumer process, waits for it to say word so many times, and kills it.
func (d *desk) killAt(word string, times int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+d.p.Gateway()+"|"+d.path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	buffer, said := make([]byte, 4096), ""
	for strings.Count(said, word) < times {
		n, err := out.Read(buffer)
		said += string(buffer[:n])
		if err != nil {
			d.t.Fatalf("the consumer ended before %q: %s", word, said)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
}

func TestKilledDuringBootstrap(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(5000)
	d.p.BootstrapStops(true)
	d.killAt("receiving", 2)
	if _, err := os.Lstat(d.path); err == nil {
		t.Fatal("an unfinished bootstrap is visible")
	}
	d.p.BootstrapStops(false)
	r := d.open()
	d.sync(r)
	d.same()
}

func TestKilledDuringTail(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(200)
	d.killAt("live", 1)
	for try := range 5 {
		d.put("before", fmt.Sprint(try))
		d.put("kick", fmt.Sprint(try))
		d.killAt("live", 1)
		d.put("between", fmt.Sprint(try))
	}
	d.killTail(10)
	r := d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Bootstraps != 0 {
		t.Fatalf("a killed consumer had to begin anew: %+v", s)
	}
}

// killTail publishes one record after another until the consumer has told of n of them, and kills it in the middle.
func (d *desk) killTail(n int) {
	d.t.Helper()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if err := d.p.Put("orders", fmt.Sprint("tail-", i%50), fmt.Sprint(i)); err != nil {
					d.t.Error(err)
					return
				}
				runtime.Gosched() // the batches between two looks of the consumer make one transaction
			}
		}
	}()
	d.killAt("applied", n)
	close(stop)
	<-done
}
