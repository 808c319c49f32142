package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// resyncCrashes is how often something is killed, unless LOCKSTEP_CRASHES says how often; each time has its own seed.
	resyncCrashes = 24
	crashRows     = 10_000
	// damagedRows differ when a repair is to heal them.
	damagedRows = 300
)

// TestKillDuringResync kills the consumer, the gateway or the provider at a seeded moment of a bootstrap or of a repair. Somebody who reads
// through the link meanwhile sees the rows of before or those of afterwards, never an error or a mixture, and the end is proven equal.
func TestKillDuringResync(t *testing.T) {
	tries := resyncCrashes
	if testing.Short() {
		tries = 4
	}
	if given := os.Getenv(crashesVariable); given != "" {
		var err error
		if tries, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	a := newApart(t)
	c := &crashing{t: t, a: a, file: filepath.Join(t.TempDir(), "r.db"), took: map[string]time.Duration{}}
	if r := finish(t, a.lockstep("stream", "create", "things", "--max-records", "1")); r.code != 0 {
		t.Fatal(r.stderr)
	}
	c.nextGeneration()
	c.run(nil)
	c.looks.Store(&views{c.whole()})
	stop := c.watch()
	for _, kind := range resyncKinds { // undisturbed, to learn how long it takes
		c.prepare(kind)
		began := time.Now()
		c.run(nil)
		c.took[kind] = time.Since(began)
		if event := map[string]string{"bootstrap": "bootstrapped: ", "repair": "rows repaired: "}[kind]; !strings.Contains(c.said.String(), event) {
			t.Fatalf("there was no %s:\n%s", kind, c.said)
		}
		c.settle(kind)
	}
	t.Logf("undisturbed: %v", c.took)
	victims := []string{"consumer", "delivery-gateway", "sequencer-storage"}
	hit := map[string]int{}
	for seed := range tries {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		kind, victim := resyncKinds[seed%len(resyncKinds)], victims[seed/len(resyncKinds)%len(victims)]
		after := time.Duration(rng.Int64N(int64(c.took[kind])))
		c.name = fmt.Sprintf("seed %d: %s, %s killed after %v", seed, kind, victim, after)
		c.prepare(kind)
		if c.run(&blow{victim: victim, after: after}) {
			hit[kind+", "+victim]++
		}
		c.settle(kind)
	}
	stop()
	t.Logf("%d times something was killed in the midst of it: %v; the readers looked %d times", tries, hit, c.looked.Load())
}

const crashesVariable = "LOCKSTEP_CRASHES"

var resyncKinds = []string{"bootstrap", "repair"}

// crashing is one replica and what is done to it.
type crashing struct {
	t    *testing.T
	a    *apart
	file string
	name string  // of what is tried now
	said *logged // by the replica that ran last
	took map[string]time.Duration
	// generation is in every row's value; the rows of one are published and taken together.
	generation int
	looks      atomic.Pointer[views] // what readers may see
	looked     atomic.Int64
}

// views are the shapes that readers may see: how many rows of each generation there are.
type views []string

func (c *crashing) whole() string { return fmt.Sprintf("%d:%d", c.generation, crashRows) }

// nextGeneration publishes all rows anew. The log is trimmed until nobody can come from one generation to the next by reading it.
func (c *crashing) nextGeneration() {
	c.generation++
	var lines bytes.Buffer
	for n := range crashRows {
		fmt.Fprintf(&lines, `{"id":"k%05d","g":%d,"n":%d,"text":"%x"}`+"\n", n, c.generation, n*c.generation, n*2654435761)
	}
	publishLines(c.t, c.a, "things", "id", lines.Bytes())
	awaitHead(c.t, c.a, "things", uint64(crashRows*(c.generation-1)+1))
}

// prepare makes the replica need a bootstrap or a repair when it next starts.
func (c *crashing) prepare(kind string) {
	c.t.Helper()
	before := c.whole()
	switch kind {
	case "bootstrap": // all rows differ, which is too much for a repair; what people see in them is as it was
		c.nextGeneration()
		c.execute("UPDATE things SET time = time + 1", crashRows)
	case "repair":
		before = fmt.Sprintf("-1:%d,%d:%d", damagedRows, c.generation, crashRows-damagedRows)
		c.looks.Store(&views{c.whole(), before})
		c.execute(fmt.Sprintf(`UPDATE things SET value = '{"g":-1}' WHERE rowid IN (SELECT rowid FROM things ORDER BY rowid %% 7, rowid LIMIT %d)`, damagedRows), damagedRows)
	}
	c.looks.Store(&views{before, c.whole()})
}

// blow is a kill to come.
type blow struct {
	victim string
	after  time.Duration
}

// run lets the replica become equal, in spite of the blow; nil for none. It reports whether the blow fell before that.
func (c *crashing) run(b *blow) (midst bool) {
	c.t.Helper()
	cmd := c.a.lockstep("replica", "things", c.file, "--once", "--retry-for", patience.String(), "--consumer", "copy")
	said := &logged{}
	cmd.Stderr, c.said = said, said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process
	wait := func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(2 * patience):
			_ = cmd.Process.Kill() // it hangs
			<-ended
			return fmt.Errorf("not equal after %v", 2*patience)
		}
	}
	if b == nil {
		if err := wait(); err != nil {
			c.t.Fatalf("%s: %v\n%s", c.name, err, said)
		}
		return false
	}
	var err error
	select {
	case err = <-ended:
		if err != nil {
			c.t.Fatalf("%s: %v\n%s", c.name, err, said)
		}
		return false
	case <-time.After(b.after):
	}
	if b.victim == "consumer" {
		if err := cmd.Process.Kill(); err == nil {
			<-ended
		}
		c.run(nil)
		return true
	}
	if err := errors.Join(c.a.end(b.victim, syscall.SIGKILL), c.a.start(b.victim)); err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	if err := wait(); err != nil {
		c.t.Fatalf("%s: %v\n%s", c.name, err, said)
	}
	return true
}

// settle proves that the replica is equal, and lets readers see nothing else from now on.
func (c *crashing) settle(kind string) {
	c.t.Helper()
	if c.t.Failed() {
		c.t.FailNow() // a reader saw what it must not
	}
	c.looks.Store(&views{c.whole()})
	if got, err := shapeOf(c.t.Context(), c.file); err != nil || got != c.whole() {
		c.t.Fatalf("%s: the end is %s instead of %s (%v)", c.name, got, c.whole(), err)
	}
	if r := finish(c.t, c.a.lockstep("verify", "things", c.file)); r.code != 0 {
		c.t.Fatalf("%s: after the %s: %s%s", c.name, kind, r.stdout, r.stderr)
	}
}

func (c *crashing) execute(statement string, rows int64) {
	c.t.Helper()
	db, err := sql.Open("sqlite3", c.file+"?_busy_timeout=10000&_txlock=immediate")
	if err != nil {
		c.t.Fatal(err)
	}
	defer db.Close()
	done, err := db.Exec(statement)
	if err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	if n, err := done.RowsAffected(); err != nil || n != rows {
		c.t.Fatalf("%s: %d rows were changed (%v)", c.name, n, err)
	}
}

// watch reads through the link again and again until stop is called.
func (c *crashing) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		for ctx.Err() == nil {
			before := *c.looks.Load()
			got, err := shapeOf(ctx, c.file)
			now := *c.looks.Load()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				c.t.Errorf("%s: a reader got an error: %v", c.name, err)
				return
			}
			if !before.has(got) && !now.has(got) {
				c.t.Errorf("%s: a reader saw %s, where %v or %v is what there may be", c.name, got, before, now)
				return
			}
			c.looked.Add(1)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	c.t.Cleanup(stop)
	return stop
}

func (v views) has(shape string) bool {
	for _, one := range v {
		if one == shape {
			return true
		}
	}
	return false
}

// shapeOf opens the file as anybody would and counts the rows of each generation, twice in one transaction.
func shapeOf(ctx context.Context, file string) (shape string, err error) {
	db, err := sql.Open("sqlite3", file+"?_busy_timeout=10000&_query_only=1")
	if err != nil {
		return "", err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	const count = `SELECT coalesce(group_concat(g || ':' || n), '') FROM (SELECT value->>'g' AS g, count(*) AS n FROM things GROUP BY 1 ORDER BY 1)`
	var again string
	if err := tx.QueryRowContext(ctx, count).Scan(&shape); err != nil {
		return "", err
	}
	if err := tx.QueryRowContext(ctx, count).Scan(&again); err != nil {
		return "", err
	}
	if shape != again {
		return "", fmt.Errorf("one transaction saw %s and then %s", shape, again)
	}
	return shape, nil
}
