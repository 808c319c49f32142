package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRottenSnapshots damages what the gateway and the provider keep on disk, while they run and while they are down. What is damaged is
// refused and fetched or made again, and every replica made from it ends equal byte for byte.
func TestRottenSnapshots(t *testing.T) {
	const gateway, provider = "delivery-gateway", "sequencer-storage"
	a := newApart(t)
	want := map[string]string{}
	var lines bytes.Buffer
	for n := range 20_000 {
		key, line := fmt.Sprintf("k%d", n), fmt.Sprintf(`{"id":"k%d","text":"%x"}`, n, n*2654435761*97)
		want[key] = line
		fmt.Fprintln(&lines, line)
	}
	publishLines(t, a, "things", "id", lines.Bytes())
	copies, originals := filepath.Join(a.data, "gateway"), filepath.Join(a.data, "sequencer", "snapshots")
	fresh := func(t *testing.T) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "r.db")
		for _, args := range [][]string{{"replica", "things", file, "--once"}, {"verify", "things", file}} {
			if r := finish(t, a.lockstep(args...)); r.code != 0 {
				t.Fatalf("lockstep %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
			}
		}
		compareRows(t, file, "things", want)
	}
	fresh(t)

	flip := func(t *testing.T, dir, suffix string) {
		file := onlyFile(t, dir, suffix)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		flipAt(t, file, info.Size()/3)
	}
	empty := func(t *testing.T) { // the gateway has to fetch
		if err := os.RemoveAll(copies); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		name   string
		down   []string // meanwhile
		damage func(t *testing.T)
		says   string // the service that says it, and what
		what   string
	}{
		{"chunks of a gateway that runs", nil, func(t *testing.T) { flip(t, copies, ".chunks") }, gateway, "is damaged on this gateway's disk"},
		{"chunks of a gateway that is down", []string{gateway}, func(t *testing.T) { flip(t, copies, ".chunks") }, gateway, "is damaged on this gateway's disk"},
		{"manifest of a gateway that is down", []string{gateway}, func(t *testing.T) { flip(t, copies, ".manifest") }, "", ""},
		{"chunks of a provider that runs", []string{gateway}, func(t *testing.T) { empty(t); flip(t, originals, ".chunks") }, provider, "a kept snapshot is damaged"},
		{"chunks of a provider that is down", []string{gateway, provider}, func(t *testing.T) { empty(t); flip(t, originals, ".chunks") }, provider, "a kept snapshot is damaged"},
		{"manifest of a provider that is down", []string{gateway, provider}, func(t *testing.T) { empty(t); flip(t, originals, ".manifest") }, provider, "a snapshot was made"},
		{"chunks of both", nil, func(t *testing.T) { flip(t, copies, ".chunks"); flip(t, originals, ".chunks") }, provider, "a kept snapshot is damaged"},
	} {
		t.Run(one.name, func(t *testing.T) {
			for _, name := range one.down {
				if err := a.end(name, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			one.damage(t)
			for i := range one.down {
				if err := a.start(one.down[len(one.down)-1-i]); err != nil {
					t.Fatal(err)
				}
			}
			said := 0
			if one.says != "" {
				said = strings.Count(a.running[one.says].stderr.String(), one.what)
			}
			fresh(t)
			if one.says != "" && strings.Count(a.running[one.says].stderr.String(), one.what) == said {
				t.Errorf("%s did not say %q:\n%s", one.says, one.what, a.running[one.says].stderr)
			}
			if !bytes.Equal(contents(t, copies, ".chunks"), contents(t, originals, ".chunks")) {
				t.Error("the gateway's copy is not the provider's snapshot")
			}
			fresh(t)
		})
	}
}

// onlyFile is the one file with a suffix.
func onlyFile(t *testing.T, dir, suffix string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s has %d files *%s (%v)", dir, len(files), suffix, err)
	}
	return files[0]
}

func contents(t *testing.T, dir, suffix string) []byte {
	t.Helper()
	b, err := os.ReadFile(onlyFile(t, dir, suffix))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
