package replica_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/sdk/replica"
	"github.com/lockstep-mq/lockstep/sdk/sdktest"
)

func TestAnOverloadedGatewayIsAskedAgain(t *testing.T) {
	d := newDesk(t, 3)
	d.fill(100)
	d.p.RefuseSnapshots(5)
	r := d.open()
	d.sync(r)
	d.same()
	if s := r.Status(); s.Connections != 1 {
		t.Fatalf("a refusal that asks for patience ended the connection: %+v", s)
	}
}

func TestADamagedChunkIsAskedForAgain(t *testing.T) {
	d := newDesk(t, 1)
	chunks := d.heavy("A", 1)
	d.p.Corrupt(sdktest.Chunks, 1)
	r := d.open()
	d.sync(r)
	d.same()
	asked := d.p.ChunksAsked()
	if len(asked) != 2 || asked[0] != chunks || asked[1] > chunks || r.Status().Bootstraps != 1 {
		t.Fatalf("chunks were asked for %v, of %d; %+v", asked, chunks, r.Status())
	}
	if s := r.Status(); s.Connections != 1 {
		t.Fatalf("it was asked for on another connection, where the gateway does not know that it must prove what it has: %+v", s)
	}
}

// TestGoesOnAtAnotherConnection is I9.
func TestGoesOnAtAnotherConnection(t *testing.T) {
	d := newDesk(t, 1)
	d.heavy("A", 1)
	cut := make(chan struct{})
	d.p.AfterChunks(5, func() {
		d.p.Disconnect()
		close(cut)
	})
	r := d.open()
	d.sync(r)
	<-cut
	d.same()
	if asked := d.p.ChunksAsked(); len(asked) < 2 || asked[1] >= asked[0] {
		t.Fatalf("chunks were asked for %v: what was there was asked for again", asked)
	}
}

func TestASnapshotThatIsGoneIsReplaced(t *testing.T) {
	d := newDesk(t, 1)
	d.heavy("A", 1)
	d.p.BootstrapStopsAfter(4)
	d.killWhen(func(said string) bool {
		sent, _ := d.p.ChunksSent()
		return sent == 4 && strings.Contains(said, "receiving")
	})
	d.p.BootstrapStopsAfter(0)
	d.p.ForgetSnapshots()
	d.put("key-0000", "B")
	r := d.open()
	d.sync(r)
	d.same()
	if asked := d.p.ChunksAsked(); len(asked) != 2 || asked[1] < asked[0]-1 {
		t.Fatalf("chunks were asked for %v", asked)
	}
}

func TestABuildThatIsRefusedIsKeptForDiagnosis(t *testing.T) {
	d := newDesk(t, 1)
	d.fill(100)
	d.p.BootstrapLosesRow()
	r := d.open()
	d.sync(r)
	d.same()
	if d.happened(replica.BuildRefused) != 1 || r.Status().Bootstraps != 1 {
		t.Fatalf("events %v, %+v", d.events, r.Status())
	}
	if _, err := os.Stat(filepath.Join(d.path+".lockstep", "unproven.db")); err != nil {
		t.Fatal(err)
	}
}

func TestProgressCountsRowsAndBytes(t *testing.T) {
	d := newDesk(t, 2)
	d.heavy("A", 2)
	var last replica.Progress
	d.cfg.OnProgress = func(p replica.Progress) {
		if p.Phase == replica.Building {
			last = p
		}
	}
	r := d.open()
	d.sync(r)
	d.close(r)
	_, bytes := d.p.ChunksSent()
	if last.Done != 48 || last.Expected != 48 || last.DoneBytes != bytes || last.ExpectedBytes != bytes {
		t.Fatalf("got %+v, %d bytes were sent", last, bytes)
	}
}

// replaced begins a bootstrap over an old generation that stops before its end, and gives the replica as the policy leaves it meanwhile.
func (d *desk) replaced(reads replica.Reads) *replica.Replica {
	d.t.Helper()
	d.heavy("A", 1)
	d.cfg.Reads = reads
	receiving := make(chan struct{}, 1)
	d.cfg.OnProgress = func(p replica.Progress) {
		if p.Phase == replica.Receiving && p.DoneBytes > 0 {
			select {
			case receiving <- struct{}{}:
			default:
			}
		}
	}
	r := d.open()
	d.sync(r)
	d.exec(`CREATE TABLE mine(n); INSERT INTO mine VALUES(7)`)
	d.close(r)
	for len(receiving) > 0 {
		<-receiving
	}
	d.heavy("B", 1)
	d.p.BootstrapStopsAfter(3)
	r = d.open()
	<-receiving
	return r
}

// finished lets the bootstrap come to its end.
func (d *desk) finished(r *replica.Replica) {
	d.t.Helper()
	d.p.BootstrapStopsAfter(0)
	d.p.Disconnect()
	d.sync(r)
	d.same()
	var n int
	if err := r.DB().QueryRow(`SELECT n FROM mine`).Scan(&n); err != nil || n != 7 {
		d.t.Fatalf("the user's table has %d, %v", n, err)
	}
}

func mark(ctx context.Context, r *replica.Replica) (m string, err error) {
	err = r.DB().QueryRowContext(ctx, `SELECT max(substr(value,1,1)) FROM orders`).Scan(&m)
	return m, err
}

func TestStaleRowsAreServed(t *testing.T) {
	d := newDesk(t, 1)
	r := d.replaced(replica.ServeStale)
	if m, err := mark(t.Context(), r); m != "A" {
		t.Fatalf("found %q, %v", m, err)
	}
	d.finished(r)
}

func TestReadsCanWaitForTheNewRows(t *testing.T) {
	d := newDesk(t, 1)
	r := d.replaced(replica.BlockReads)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := mark(ctx, r); err == nil {
		t.Fatalf("found %q while reads are blocked", m)
	}
	found := make(chan string, 1)
	go func() { // ends when the new rows are in
		m, err := mark(context.Background(), r)
		if err != nil {
			m = err.Error()
		}
		found <- m
	}()
	d.finished(r)
	if m := <-found; m != "B" {
		t.Fatalf("the query that waited found %q", m)
	}
}

// TestTheOldRowsCanBeClearedFirst also kills and reopens in between: the user's table is carried over all the same.
func TestTheOldRowsCanBeClearedFirst(t *testing.T) {
	d := newDesk(t, 1)
	r := d.replaced(replica.ClearFirst)
	if _, err := mark(t.Context(), r); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("a query of cleared rows: %v", err)
	}
	if _, err := os.Lstat(d.path); err == nil {
		t.Fatal("other programs still find the old rows")
	}
	d.close(r)
	r = d.open()
	if _, err := mark(t.Context(), r); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("a query of cleared rows after opening again: %v", err)
	}
	d.finished(r)
}

// A bootstrap tells how far the provider is with the snapshots, then what arrives, each on its rung, and in the end what it moved.
func TestProgressOfABootstrap(t *testing.T) {
	d := newDesk(t, 2)
	d.fill(500)
	var mu sync.Mutex
	var all []replica.Progress
	d.cfg.OnProgress = func(p replica.Progress) {
		if !mu.TryLock() { // one call at a time
			t.Error("two calls overlap")
			return
		}
		defer mu.Unlock()
		all = append(all, p)
	}
	r := d.open()
	d.sync(r)
	d.close(r)
	made, received := -1, -1
	for i, p := range all {
		if climbs := p.Phase == replica.Receiving || p.Phase == replica.Building || p.Phase == replica.Swapping; climbs != (p.On == replica.RungBootstrap) {
			t.Errorf("in phase %v it is on rung %v", p.Phase, p.On)
		}
		if p.Phase == replica.Receiving && p.ExpectedBytes == 0 && p.Expected == 500 && p.Done == 500 {
			made = i
		}
		if p.Phase == replica.Receiving && p.ExpectedBytes > 0 && received < 0 {
			received = i
		}
	}
	if made < 0 || received < made {
		t.Errorf("the making was told at step %d, the receiving at %d: %+v", made, received, all)
	}
	if why := d.told(replica.Bootstrapped); len(why) != 1 || !strings.Contains(why[0], "500 rows, verified; ") || !strings.Contains(why[0], "bytes moved") {
		t.Errorf("told %q", why)
	}
}
