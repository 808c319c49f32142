package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
)

var testMeta = Meta{Stream: `odd "name"`, StreamID: 1, Partitions: 1, DigestSeed: 7}

// lockedPlace is a place this test may write to.
func lockedPlace(t *testing.T) Place {
	t.Helper()
	p := PlaceOf(filepath.Join(t.TempDir(), "a b?c#d.db")) // characters that mean something in a URI
	unlock, err := p.Lock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	return p
}

// generation builds and publishes one of n rows.
func generation(t *testing.T, p Place, n int) string {
	t.Helper()
	records, set := sample(n, 64)
	b, err := p.NewBuild(t.Context(), testMeta)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Insert(feed(records)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), Finish{Lanes: []Lane{{Cursor: lane.Position{Epoch: 1, Sequence: lane.Sequence(n)}, Set: set}}}); err != nil {
		t.Fatal(err)
	}
	file, err := p.Current()
	if err != nil || file == "" {
		t.Fatalf("current is %q, %v", file, err)
	}
	return file
}

// TestUnprovenRowsAreNotLinked is I2.
func TestUnprovenRowsAreNotLinked(t *testing.T) {
	p := lockedPlace(t)
	first := generation(t, p, 10)
	records, set := sample(100, 64)
	b, err := p.NewBuild(t.Context(), testMeta)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Insert(feed(records[:99])); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), Finish{Lanes: []Lane{{Set: set}}}); !errors.Is(err, ErrUnproven) {
		t.Fatalf("99 rows of 100 were published: %v", err)
	}
	if now, err := p.Current(); err != nil || now != first {
		t.Fatalf("the link moved to %q, %v", now, err)
	}
	if numbers, err := p.generations(); err != nil || len(numbers) != 1 {
		t.Fatalf("the build is still there: %v, %v", numbers, err)
	}
}

// TestAHeldGenerationStays is I3.
func TestAHeldGenerationStays(t *testing.T) {
	p := lockedPlace(t)
	old := generation(t, p, 10)
	view, err := OpenView(t.Context(), p.Path())
	if err != nil {
		t.Fatal(err)
	}
	generation(t, p, 20)
	if held, err := p.Clean(); err != nil || held != 1 {
		t.Fatalf("held %d, %v", held, err)
	}
	if sets, err := view.Scan(); err != nil || sets[0].Count != 10 {
		t.Fatalf("the reader of the old generation has %v, %v", sets, err)
	}
	if err := view.Close(); err != nil {
		t.Fatal(err)
	}
	if held, err := p.Clean(); err != nil || held != 0 {
		t.Fatalf("held %d, %v", held, err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a generation nobody holds is still there: %v", err)
	}
}

// TestAnUnfinishedBuildIsRemoved is I2 for a process that was killed.
func TestAnUnfinishedBuildIsRemoved(t *testing.T) {
	p := lockedPlace(t)
	first := generation(t, p, 10)
	left := p.generation(7)
	if err := os.WriteFile(left, []byte("cut short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Clean(); err != nil {
		t.Fatal(err)
	}
	if numbers, err := p.generations(); err != nil || len(numbers) != 1 {
		t.Fatalf("got %v, %v", numbers, err)
	}
	if now, err := p.Current(); err != nil || now != first {
		t.Fatalf("got %q, %v", now, err)
	}
}

// TestForeignPaths is I4.
func TestForeignPaths(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere.db")
	if err := os.Symlink("/nowhere/at/all.db", elsewhere); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{elsewhere, empty, dir} {
		if _, err := PlaceOf(path).Current(); fault.ReasonOf(err) != fault.ForeignData {
			t.Fatalf("%s: %v", path, err)
		}
	}
	p := lockedPlace(t)
	generation(t, p, 1)
	if _, err := p.Lock(); fault.ReasonOf(err) != fault.InUse {
		t.Fatalf("a second writer: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "never.db.lockstep")); err == nil {
		t.Fatal("looking made a directory")
	}
	file, err := p.Current()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(t.Context(), file, "other"); fault.ReasonOf(err) != fault.ForeignData {
		t.Fatalf("another stream: %v", err)
	}
}
