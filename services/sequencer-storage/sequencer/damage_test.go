package sequencer_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	streamv1 "github.com/lockstep-mq/lockstep/api/stream/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// Check finds a tombstone that lies in one of its two places only, and one that is missing in both.
func TestTombstonesAreChecked(t *testing.T) {
	whole := t.TempDir()
	h := open(t, sequencer.Config{Dir: whole})
	s := h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true})
	h.append(t, s, row{key: "a", value: "1"}, row{key: "b", value: "2"}, row{key: "a", tombstone: true})
	h.readState(t, s)
	h.close(t)
	const number = 1 // lanes are numbered as they were created
	order, at := staterow.OrderKey(nil, number, 3), staterow.RowKey(nil, number, []byte("a"))
	for name, keys := range map[string][][]byte{"whole": nil, "no order": {order}, "no row": {at}, "neither": {order, at}} {
		t.Run(name, func(t *testing.T) {
			dir := copied(t, whole)
			e, err := engine.Open(engine.Dirs{Log: filepath.Join(dir, "log"), State: filepath.Join(dir, "state")}, engine.Config{})
			if err != nil {
				t.Fatal(err)
			}
			var b engine.Batch
			for _, key := range keys {
				b.Delete(engine.State, key)
			}
			if len(keys) == 2 { // and the mark agrees
				stored, _, err := e.Get(engine.State, staterow.MarkKey(number), nil)
				if err != nil {
					t.Fatal(err)
				}
				mark, err := staterow.ParseMark(stored)
				if err != nil {
					t.Fatal(err)
				}
				mark.Tombstones = 0
				b.Put(engine.State, staterow.MarkKey(number), mark.Encode())
			}
			if err := e.WriteLight(&b); err != nil {
				t.Fatal(err)
			}
			if err := e.Flush(engine.State); err != nil {
				t.Fatal(err)
			}
			e.Close()
			report, err := sequencer.Check(t.Context(), dir)
			if err != nil || (len(report.Problems) == 0) != (len(keys) == 0) {
				t.Fatalf("%+v %v", report, err)
			}
		})
	}
}

// filled makes a closed directory with two streams, one of whose batches is large enough for a blob file.
func filled(t *testing.T) (dir string, keyed, plain *streamv1.Stream) {
	t.Helper()
	dir = t.TempDir()
	h := open(t, sequencer.Config{Dir: dir, SegmentBytes: 64 << 10})
	keyed = h.create(t, &streamv1.StreamSpec{Name: "orders", Keyed: true})
	plain = h.create(t, &streamv1.StreamSpec{Name: "log"})
	for i := range 40 {
		h.append(t, keyed, row{key: fmt.Sprintf("key%03d", i), value: fmt.Sprintf("small-value-%03d", i)})
		h.append(t, plain, row{value: incompressible(i, 8<<10)})
	}
	h.close(t)
	// A second start moves everything from the write-ahead log into tables and blob files.
	h = open(t, sequencer.Config{Dir: dir, SegmentBytes: 64 << 10})
	h.close(t)
	return dir, keyed, plain
}

// incompressible gives n bytes that depend on i and that S2 leaves alone.
func incompressible(i, n int) string {
	b, x := make([]byte, n), uint64(i)*2654435761+1
	for k := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[k] = byte(x)
	}
	return string(b)
}

// flip changes one byte behind the first place where needle stands in a file that matches pattern.
func flip(t *testing.T, dir, pattern, needle string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(content, []byte(needle)); at >= 0 {
			content[at] ^= 0x40
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no file %s holds %.20q", pattern, needle)
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestDamageIsNamedAndStopsOnlyItsLane(t *testing.T) {
	dir, keyed, plain := filled(t)
	if report, err := sequencer.Check(t.Context(), dir); err != nil || len(report.Problems) > 0 {
		t.Fatalf("before any damage: %+v %v", report, err)
	}
	t.Run("blob", func(t *testing.T) {
		dir := copied(t, dir)
		flip(t, dir, "log/*.blob", incompressible(17, 64))
		report, err := sequencer.Check(t.Context(), dir)
		if err != nil || len(report.Problems) == 0 || !strings.Contains(report.Problems[0], `"log"`) {
			t.Fatalf("%+v %v", report, err)
		}
		h := open(t, sequencer.Config{Dir: dir, SegmentBytes: 64 << 10})
		records, err := h.read(t, plain, 1, 0)
		reason(t, err, fault.Corrupt)
		if len(records) > 17 { // what comes before it is served, it is not
			t.Fatalf("%d records were served", len(records))
		}
		_, err = h.Append(t.Context(), request(plain, row{value: "x"})) // the lane is stopped
		reason(t, err, fault.Corrupt)
		if h.lane(t, plain).GetStopped() == "" {
			t.Fatal("tails do not say that the lane is stopped")
		}
		if got := h.append(t, keyed, row{key: "k", value: "v"}); got != 41 { // the other goes on
			t.Fatalf("sequence %d", got)
		}
	})
	t.Run("table", func(t *testing.T) {
		dir := copied(t, dir)
		flip(t, dir, "log/*.sst", "small-value-023")
		report, err := sequencer.Check(t.Context(), dir)
		if err != nil || len(report.Problems) == 0 || !strings.Contains(report.Problems[0], `"orders"`) {
			t.Fatalf("%+v %v", report, err)
		}
	})
	t.Run("state row", func(t *testing.T) {
		dir := copied(t, dir)
		flip(t, dir, "state/*.sst", "small-value") // the first one lies uncompressed
		report, err := sequencer.Check(t.Context(), dir)
		if err != nil || len(report.Problems) == 0 || !strings.Contains(report.Problems[0], `"orders"`) {
			t.Fatalf("%+v %v", report, err)
		}
	})
	t.Run("lost state, the log is whole", func(t *testing.T) {
		dir := copied(t, dir)
		if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
			t.Fatal(err)
		}
		h := open(t, sequencer.Config{Dir: dir})
		if rows, mark := h.readState(t, keyed); len(rows) != 40 || mark.GetSequence() != 40 {
			t.Fatal(rows, mark)
		}
	})
	t.Run("format 1", func(t *testing.T) {
		dir := copied(t, dir)
		name := filepath.Join(dir, "FORMAT")
		if err := os.WriteFile(name, []byte("lockstep sequencer-storage 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		format := func() string {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		if report, err := sequencer.Check(t.Context(), dir); err != nil || len(report.Problems) > 0 || format() != "lockstep sequencer-storage 1\n" {
			t.Fatalf("%+v %v %s", report, err, format())
		}
		h := open(t, sequencer.Config{Dir: dir})
		if rows, _ := h.readState(t, keyed); len(rows) != 40 || format() != "lockstep sequencer-storage 2\n" {
			t.Fatal(rows, format())
		}
	})
	t.Run("lost log, witness remains", func(t *testing.T) {
		dir := copied(t, dir)
		if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
			t.Fatal(err)
		}
		h := open(t, sequencer.Config{Dir: dir})
		for _, s := range []*streamv1.Stream{keyed, plain} {
			_, err := h.Append(t.Context(), request(s, row{key: "k", value: "x"}))
			if r := fault.ReasonOf(err); r != fault.LaneStopped && r != fault.Corrupt {
				t.Fatalf("a lane that lost everything answers %v", err)
			}
		}
	})
}

func TestForeignDirectories(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       fault.Reason
	}{
		"newer format":  {"FORMAT", "lockstep sequencer-storage 9\n", fault.UnsupportedVersion},
		"other program": {"FORMAT", "lockstep consumer-state 1\n", fault.ForeignData},
		"other data":    {"holiday.jpg", "x", fault.ForeignData},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := sequencer.New(sequencer.Config{Dir: dir}, sequencer.Deps{})
			reason(t, err, c.want)
			entries, _ := os.ReadDir(dir)
			if len(entries) != 1 { // left as it was
				t.Fatalf("%v", entries)
			}
		})
	}
}
