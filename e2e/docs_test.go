package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shims stand before the real commands while a page is executed. What would run for ever is begun, seen to work, and interrupted;
// make is asked what it would do, since running the tests is what it would do.
var shims = map[string]string{
	"lockstep": `
case "$*" in
dev*)
	out=$(mktemp)
	"$REAL/lockstep" "$@" --free-ports --json >"$out" &
	pid=$!
	for _ in $(seq 300); do [ -s "$out" ] && break; kill -0 $pid || break; sleep 0.1; done
	[ -s "$out" ] || { echo "dev did not print its addresses" >&2; exit 1; }
	kill -TERM $pid
	wait $pid ;;
replica*--once* | tail*--no-follow* | tail*--count*) exec "$REAL/lockstep" "$@" ;;
replica* | tail*) exec timeout --preserve-status -s INT 4 "$REAL/lockstep" "$@" ;;
*) exec "$REAL/lockstep" "$@" ;;
esac`,
	"make": `exec "$REAL_MAKE" -n -C "$REPOSITORY" "$@"`,
}

var block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")

// TestDocs executes every sh block of README.md and docs/, page by page, each in a fresh directory beside a fresh house with the
// demo feed.
func TestDocs(t *testing.T) {
	pages, err := filepath.Glob(repository("docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(repository("docs", "decisions", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages = append(append(pages, more...), repository("README.md"), repository("ARCHITECTURE.md"))
	executed := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var script strings.Builder
		for _, b := range block.FindAllSubmatch(text, -1) {
			script.Write(b[1])
		}
		if script.Len() == 0 {
			continue
		}
		executed++
		t.Run(filepath.Base(page), func(t *testing.T) { executePage(t, script.String()) })
	}
	if executed < 4 {
		t.Fatalf("only %d pages have commands: the search for them is broken", executed)
	}
}

func executePage(t *testing.T, script string) {
	for _, tool := range []string{"bash", "sqlite3", "curl", "make"} {
		if _, err := exec.LookPath(tool); err != nil && strings.Contains(script, tool+" ") {
			t.Skipf("SKIPPED: the page uses %s, which is not on this machine", tool)
		}
	}
	dir := t.TempDir()
	h := newHouse(t, filepath.Join(dir, "data-of-the-house"), "--demo")
	shimDir := filepath.Join(dir, "shims")
	if err := os.Mkdir(shimDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range shims {
		if err := os.WriteFile(filepath.Join(shimDir, name), []byte("#!/usr/bin/env bash\nset -eu\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(repository())
	if err != nil {
		t.Fatal(err)
	}
	realMake, _ := exec.LookPath("make")
	absBin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = work
	cmd.Env = append(append(cleanEnv(), h.env()...), "LOCKSTEP_HTTP="+h.at["http"], "REAL="+absBin, "REAL_MAKE="+realMake, "REPOSITORY="+root,
		fmt.Sprintf("PATH=%s:%s:%s", shimDir, absBin, os.Getenv("PATH")), "MAKEFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}
