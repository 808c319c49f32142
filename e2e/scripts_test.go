package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockstep-mq/lockstep/sdk/replica"
)

// layout is the house in one of its two forms.
type layout interface {
	env() []string
	stop() error
	kill()
}

// TestScripts runs testdata/script in both layouts, and testdata/dev in one process only. Commands of our own:
//
//	up                  starts the house on $WORK/data and points the commands at it
//	down, crash         ends it by SIGTERM, which must go well, or by SIGKILL; `stop` and `kill` are testscript's own words
//	sql FILE STATEMENT  writes the rows to stdout
//	keep STREAM FILE    keeps the file equal to the stream until the script ends, as another process would
//	taken               occupies a port and sets $TAKEN to it
func TestScripts(t *testing.T) {
	inOne := func(data string) (layout, error) { return startHouse(data) }
	t.Run("dev", func(t *testing.T) { runScripts(t, "testdata/script", inOne) })
	t.Run("dev only", func(t *testing.T) { runScripts(t, "testdata/dev", inOne) })
	t.Run("apart", func(t *testing.T) {
		runScripts(t, "testdata/script", func(data string) (layout, error) {
			a, err := startApart(data)
			if err != nil {
				return nil, err
			}
			if err := a.up(); err != nil {
				a.kill()
				return nil, err
			}
			return a, nil
		})
	})
}

func runScripts(t *testing.T, dir string, start func(data string) (layout, error)) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up":    func(ts *testscript.TestScript, _ bool, _ []string) { scriptUp(ts, start) },
			"down":  scriptDown,
			"crash": func(ts *testscript.TestScript, _ bool, _ []string) { running(ts).kill() },
			"sql":   scriptSQL,
			"keep":  scriptKeep,
			"taken": scriptTaken,
		},
	})
}

// kept has the running house of each script: *testscript.TestScript to layout.
var kept sync.Map

func scriptUp(ts *testscript.TestScript, start func(string) (layout, error)) {
	h, err := start(ts.MkAbs("data"))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	for _, one := range h.env() {
		name, value, _ := strings.Cut(one, "=")
		ts.Setenv(name, value)
	}
	kept.Store(ts, h)
	ts.Defer(func() {
		h.kill()
		kept.Delete(ts)
	})
}

func scriptDown(ts *testscript.TestScript, neg bool, _ []string) {
	if err := running(ts).stop(); err != nil {
		ts.Fatalf("%v", err)
	}
}

func scriptKeep(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: keep STREAM FILE")
	}
	r, err := replica.Open(context.Background(), replica.Config{Stream: args[0], Path: ts.MkAbs(args[1]), Gateways: []string{ts.Getenv("LOCKSTEP_GATEWAY")}})
	if err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Defer(func() { ts.Check(r.Close()) })
}

func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	rows, err := query(ts.MkAbs(args[0]), args[1])
	if neg != (err != nil) {
		ts.Fatalf("sql: %v\n%s", err, rows)
	}
	_, _ = ts.Stdout().Write([]byte(rows))
}

func scriptTaken(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv("TAKEN", port)
}

func running(ts *testscript.TestScript) layout {
	h, ok := kept.Load(ts)
	if !ok {
		ts.Fatalf("no house is running")
	}
	return h.(layout)
}

// repository gives a path below the repository's root.
func repository(parts ...string) string { return filepath.Join(append([]string{".."}, parts...)...) }
