package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script. Commands of our own:
//
//	dev [FLAGS]         starts `lockstep dev` on $WORK/data and points the commands at it; flags such as --data come later and win
//	stop, kill          ends it by SIGTERM, which must go well, or by SIGKILL
//	sql FILE STATEMENT  writes the rows to stdout
//	taken               occupies a port and sets $TAKEN to it
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dev":   scriptDev,
			"stop":  scriptStop,
			"kill":  func(ts *testscript.TestScript, _ bool, _ []string) { running(ts).kill() },
			"sql":   scriptSQL,
			"taken": scriptTaken,
		},
	})
}

// kept has the running house of each script: *testscript.TestScript to *house.
var kept sync.Map

func scriptDev(ts *testscript.TestScript, neg bool, args []string) {
	h, err := startHouse(ts.MkAbs("data"), args...)
	if err != nil {
		ts.Fatalf("%v", err)
	}
	for _, one := range h.env() {
		name, value, _ := strings.Cut(one, "=")
		ts.Setenv(name, value)
	}
	kept.Store(ts, h)
	ts.Defer(func() {
		if h.running() {
			h.kill()
		}
		kept.Delete(ts)
	})
}

func scriptStop(ts *testscript.TestScript, neg bool, _ []string) {
	if err := running(ts).stop(); err != nil {
		ts.Fatalf("%v", err)
	}
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

func running(ts *testscript.TestScript) *house {
	h, ok := kept.Load(ts)
	if !ok {
		ts.Fatalf("no dev is running")
	}
	return h.(*house)
}

// repository gives a path below the repository's root.
func repository(parts ...string) string { return filepath.Join(append([]string{".."}, parts...)...) }
