package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-mq/lockstep/sdk/replica"
)

// crashEnv makes the test binary a consumer process: its value is "gateway|path".
const crashEnv = "LOCKSTEP_CRASH_CHILD"

// crashChild follows until it is killed, and says on its standard output what it is doing.
func crashChild() {
	gateway, path, _ := strings.Cut(os.Getenv(crashEnv), "|")
	r, err := replica.Open(context.Background(), replica.Config{Stream: "orders", Path: path, Gateways: []string{gateway},
		OnProgress: func(p replica.Progress) { fmt.Printf("%v %d %d bytes\n", p.Phase, p.Done, p.DoneBytes) }})
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
	d.killWhen(func(said string) bool { return strings.Count(said, word) >= times })
}

// killWhen starts a consumer process, waits until what it has said is enough, and kills it.
func (d *desk) killWhen(enough func(said string) bool) {
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
	for !enough(said) {
		n, err := out.Read(buffer)
		said += string(buffer[:n])
		if err != nil {
			d.t.Fatalf("the consumer ended too soon: %s", said)
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

// heavy gives every key a new value that begins with mark, some MiB together, in a history that begins anew: only a bootstrap leads there.
func (d *desk) heavy(mark string, partitions uint32) (chunks int) {
	d.t.Helper()
	for p := range partitions {
		if err := d.p.RotateEpoch("orders", p, 0); err != nil {
			d.t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(uint64(mark[0]), 1))
	for i := range 48 {
		value := make([]byte, 300_000)
		for j := range value {
			value[j] = byte('a' + rng.Uint32()%26)
		}
		d.put(fmt.Sprintf("key-%04d", i), mark+string(value))
	}
	return 48 / 4 // at least: each ends with the row that makes it larger than a MiB
}

// TestResumesFromItsSpool kills a consumer when all chunks that were sent are in its spool: none of them is asked for again.
func TestResumesFromItsSpool(t *testing.T) {
	d := newDesk(t, 2)
	chunks := d.heavy("A", 2)
	total := 0
	for _, n := range []int{1, 3, 4} {
		before, bytesBefore := d.p.ChunksSent()
		d.p.BootstrapStopsAfter(n)
		d.killWhen(func(said string) bool {
			sent, bytes := d.p.ChunksSent()
			return sent == before+n && strings.Contains(said, fmt.Sprintf(" %d bytes", bytes)) && bytes > bytesBefore
		})
		total += n
	}
	d.p.BootstrapStopsAfter(0)
	r := d.open()
	d.sync(r)
	d.same()
	sent, _ := d.p.ChunksSent()
	asked := d.p.ChunksAsked()
	if sent != asked[0]+asked[1] || sent < chunks {
		t.Fatalf("%d chunks were sent of %d, in requests of %v", sent, asked[0]+asked[1], asked)
	}
	if left, err := filepath.Glob(d.path + ".lockstep/spool-*"); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

// TestKilledAnywhereInABootstrap kills a consumer again and again while it replaces one generation by another, at points that a seed
// chooses. Whoever reads the link meanwhile finds one state or the other, whole.
func TestKilledAnywhereInABootstrap(t *testing.T) {
	const partitions = 2
	d := newDesk(t, partitions)
	d.heavy("A", partitions)
	r := d.open()
	d.sync(r)
	d.close(r)
	d.heavy("B", partitions)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				d.look()
			}
		}
	}()
	tries := 12
	if n, err := strconv.Atoi(os.Getenv("LOCKSTEP_CRASHES")); err == nil {
		tries = n
	}
	rng := rand.New(rand.NewPCG(2026, 11))
	before := d.generation()
	generations := "CDEFGHIJKLMNOPQRSTUVWXYZ"
	for range tries {
		word, sent := []string{"chunks", "chunks", "building", "receiving", "swapping"}[rng.IntN(5)], make(chan struct{})
		d.p.AfterChunks(1+rng.IntN(8), sync.OnceFunc(func() { close(sent) }))
		arrived := false
		d.killWhen(func(said string) bool {
			arrived = strings.Contains(said, "live") && d.generation() != before
			select {
			case <-sent:
				return arrived || word == "chunks" || strings.Contains(said, word)
			default:
				return arrived || word == "receiving" && strings.Contains(said, word)
			}
		})
		if arrived { // on to the next state
			next := 0
			if len(generations) > 1 {
				next = 1
			}
			before = d.generation()
			d.heavy(generations[:1], partitions)
			generations = generations[next:]
		}
	}
	r = d.open()
	d.sync(r)
	close(stop)
	<-done
	d.same()
}

// look reads through the link what another program sees: one state, whole.
func (d *desk) look() {
	db := d.sqlite()
	defer db.Close()
	var rows, marks int
	var mark string
	err := db.QueryRow(`SELECT count(*), count(DISTINCT substr(value,1,1)), max(substr(value,1,1)) FROM orders`).Scan(&rows, &marks, &mark)
	if err != nil || rows != 48 || marks != 1 {
		d.t.Errorf("a reader found %d rows of %d states (%s), %v", rows, marks, mark, err)
	}
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
