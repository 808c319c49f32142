package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// history is the package index in two times: what there was when the replica was last heard of, and what became of it since.
type history struct {
	before, after []byte            // JSON lines to publish
	gone          []string          // keys to delete afterwards
	then, now     map[string]string // the state: key to value
	touched       int               // keys whose row differs between the two
	changed       string            // one that was there then, and has another value now
}

// historyOf derives the times from the input: in the order of keys, of every 18 packages 1 stays as it was, 2 are new, 2 go, and 13 change.
func historyOf(last map[string]string) history {
	h := history{then: map[string]string{}, now: map[string]string{}}
	keys := make([]string, 0, len(last))
	for key := range last {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var before, after bytes.Buffer
	for n, key := range keys {
		value := last[key]
		kind := n % 18
		if kind != 1 && kind != 2 {
			older := strings.Replace(value, `{"package":`, `{"seen":1,"package":`, 1)
			if kind == 0 {
				older = value
			}
			h.then[key] = older
			fmt.Fprintln(&before, older)
		}
		switch {
		case kind == 0:
			h.now[key] = value
			continue
		case kind == 3 || kind == 4:
			h.gone = append(h.gone, key)
		default:
			h.now[key] = value
			fmt.Fprintln(&after, value)
			if kind == 9 {
				h.changed = key
			}
		}
		h.touched++
	}
	h.before, h.after = before.Bytes(), after.Bytes()
	return h
}

// TestLeftBehind leaves a replica of the package index behind while nearly every key changes, is added or deleted, and the log is trimmed
// far beyond its cursor. It comes back by what changed, not by the whole state, and ends equal byte for byte. Then single rows are damaged
// behind its back: each is found, and healed without a full copy.
func TestLeftBehind(t *testing.T) {
	_, last := packages(t)
	story := historyOf(last)
	if story.touched < 59_500 || len(story.gone) < 7000 {
		t.Fatalf("only %d keys change and %d go", story.touched, len(story.gone))
	}
	dir := t.TempDir()
	h := newHouse(t, filepath.Join(dir, "data"))
	file := filepath.Join(dir, "p.db")
	h.must(t, "stream", "create", "packages", "--max-records", "2000")
	publishLines(t, h, "packages", "package", story.before)
	h.must(t, "replica", "packages", file, "--once")
	compareRows(t, file, "packages", story.then)
	cursor := tailOf(t, h, "packages")
	row := readRow(t, file, "packages", story.changed)

	publishLines(t, h, "packages", "package", story.after)
	forget := h.lockstep("delete", "packages", "--keys-from", "-")
	forget.Stdin = strings.NewReader(strings.Join(story.gone, "\n"))
	if r := finish(t, forget); r.code != 0 {
		t.Fatal(r.stderr)
	}
	awaitHead(t, h, "packages", cursor+50_000)
	if err := h.stop(); err != nil { // a gateway that ran all the while may have the records in memory still
		t.Fatal(err)
	}
	h = newHouse(t, filepath.Join(dir, "data"))

	r := h.must(t, "replica", "packages", file, "--once")
	if !strings.Contains(r.stderr, "changes taken: ") || strings.Contains(r.stderr, "bootstrapped") {
		t.Fatalf("the replica did not come back by what changed:\n%s", r.stderr)
	}
	rows, moved := movedBy(t, "changes taken", r.stderr)
	if rows != story.touched {
		t.Errorf("%d rows were taken, %d had changed", rows, story.touched)
	}
	t.Logf("%d of %d keys had changed: %d bytes moved", story.touched, len(last), moved)
	compareRows(t, file, "packages", story.now)
	h.must(t, "verify", "packages", file)

	for name, damage := range map[string]func(t *testing.T){
		"flipped byte": func(t *testing.T) { flipIn(t, file, shaOf(t, story.now[story.changed])) },
		"missing row":  func(t *testing.T) { change(t, file, "DELETE FROM packages WHERE key = ?", story.changed) },
		"extra row": func(t *testing.T) {
			change(t, file, "INSERT INTO packages SELECT key||'-mine', value, headers, seq, time FROM packages WHERE key = ?", story.changed)
		},
		"stale row": func(t *testing.T) {
			change(t, file, "UPDATE packages SET value = ?, seq = ?, time = ? WHERE key = ?", row.value, row.seq, row.time, story.changed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			damage(t)
			if r := finish(t, h.lockstep("verify", "packages", file)); r.code != 1 || !strings.HasPrefix(r.stdout, "different: 1 of ") {
				t.Fatalf("verify: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			r := h.must(t, "replica", "packages", file, "--once")
			if strings.Contains(r.stderr, "bootstrapped") || strings.Contains(r.stderr, "receiving") {
				t.Fatalf("one row was healed by a full copy:\n%s", r.stderr)
			}
			if _, moved := movedBy(t, "rows repaired", r.stderr); moved > 16<<10 {
				t.Errorf("one row was healed by moving %d bytes", moved)
			} else {
				t.Logf("%d bytes moved", moved)
			}
			h.must(t, "verify", "packages", file)
			compareRows(t, file, "packages", story.now)
		})
	}
}

// publishLines publishes JSON lines under the key that is in the named field.
func publishLines(t *testing.T, h commanded, stream, key string, lines []byte) {
	t.Helper()
	cmd := h.lockstep("publish", stream, "-", "--key", key)
	cmd.Stdin = bytes.NewReader(lines)
	if r := finish(t, cmd); r.code != 0 {
		t.Fatalf("publish: exit code %d\n%s", r.code, r.stderr)
	}
}

// standing is the only partition of a stream.
type standing struct {
	Head, Tail uint64
}

func standingOf(t *testing.T, h commanded, stream string) standing {
	t.Helper()
	r := finish(t, h.lockstep("stream", "info", stream, "--json"))
	var info struct {
		Lanes []struct {
			Head uint64 `json:"head,string"`
			Tail uint64 `json:"tail,string"`
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &info); err != nil || len(info.Lanes) != 1 {
		t.Fatalf("stream info: %v\n%s%s", err, r.stdout, r.stderr)
	}
	return standing(info.Lanes[0])
}

func tailOf(t *testing.T, h commanded, stream string) uint64 {
	t.Helper()
	return standingOf(t, h, stream).Tail
}

// awaitHead waits until retention has let go of everything below a sequence.
func awaitHead(t *testing.T, h commanded, stream string, beyond uint64) {
	t.Helper()
	await(t, fmt.Sprintf("the log is trimmed beyond %d", beyond), func() bool { return standingOf(t, h, stream).Head > beyond })
}

// await asks again and again until what is described is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("within %v it did not come to be that %s", patience, what)
		}
	}
}

// movedBy finds what the last event of a kind says: how many rows, and how many bytes were moved for them.
func movedBy(t *testing.T, event, said string) (rows, bytes int) {
	t.Helper()
	found := regexp.MustCompile(regexp.QuoteMeta(event)+`: (\d+) rows, (\d+) bytes moved`).FindAllStringSubmatch(said, -1)
	if len(found) == 0 {
		t.Fatalf("nothing was said of %q:\n%s", event, said)
	}
	rows, _ = strconv.Atoi(found[len(found)-1][1]) // digits
	bytes, _ = strconv.Atoi(found[len(found)-1][2])
	return rows, bytes
}
