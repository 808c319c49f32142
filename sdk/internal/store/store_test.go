package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
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
	b := built(t, p, testMeta, records)
	if _, err := b.Publish(t.Context(), Finish{Lanes: []Lane{{Cursor: lane.Position{Epoch: 1, Sequence: lane.Sequence(n)}, Set: set}}}); err != nil {
		t.Fatal(err)
	}
	file, err := p.Current()
	if err != nil || file == "" {
		t.Fatalf("current is %q, %v", file, err)
	}
	return file
}

// built is a build with rows in it.
func built(t testing.TB, p Place, m Meta, records []record.Record) *Build {
	t.Helper()
	b, err := p.NewBuild(m)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if err := b.Add(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestUnprovenRowsAreNotLinked is I2.
func TestUnprovenRowsAreNotLinked(t *testing.T) {
	p := lockedPlace(t)
	first := generation(t, p, 10)
	records, set := sample(100, 64)
	b := built(t, p, testMeta, records[:99])
	if _, err := b.Publish(t.Context(), Finish{Lanes: []Lane{{Set: set}}}); !errors.Is(err, ErrUnproven) {
		t.Fatalf("99 rows of 100 were published: %v", err)
	}
	if now, err := p.Current(); err != nil || now != first {
		t.Fatalf("the link moved to %q, %v", now, err)
	}
	if numbers, err := p.generations(); err != nil || len(numbers) != 1 {
		t.Fatalf("the build is still there: %v, %v", numbers, err)
	}
	for range 2 { // one is kept for diagnosis, the last
		if _, err := built(t, p, testMeta, records[:98]).Publish(t.Context(), Finish{Lanes: []Lane{{Set: set}}}); !errors.Is(err, ErrUnproven) {
			t.Fatal(err)
		}
	}
	if kept, err := filepath.Glob(filepath.Join(p.Dir(), "*.db")); err != nil || len(kept) != 2 {
		t.Fatalf("there are %v, %v", kept, err)
	}
	kept, err := OpenView(t.Context(), p.unproven())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if sets, err := kept.Scan(); err != nil || sets[0].Count != 98 {
		t.Fatalf("the build that was kept has %v, %v", sets, err)
	}
}

// TestARebuildThatTouchesTheRowsIsNotLinked is I2 for what the user does in a build.
func TestARebuildThatTouchesTheRowsIsNotLinked(t *testing.T) {
	p := lockedPlace(t)
	records, set := sample(100, 64)
	for _, change := range []string{"UPDATE %s SET value='x' WHERE seq=50", "DELETE FROM %s WHERE seq=50", "DELETE FROM %s WHERE seq=100", "INSERT INTO %s VALUES('new',1,NULL,1,1)"} {
		_, err := built(t, p, testMeta, records).Publish(t.Context(), Finish{Lanes: []Lane{{Set: set}}, Rebuild: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf(change, quoted(string(testMeta.Stream))))
			return err
		}})
		if !errors.Is(err, ErrUnproven) {
			t.Fatalf("%s: %v", change, err)
		}
	}
}

func TestABootstrapWithoutRoomIsRefused(t *testing.T) {
	need := Need{Spool: 100 << 20, Rows: 1_000_000, RawBytes: 190_000_000}
	if err := need.fits("here", need.Total()); err != nil {
		t.Fatal(err)
	}
	err := need.fits("here", 50<<20)
	if !errors.Is(err, fault.DiskFull) || fault.Of(err).Detail("free") != fmt.Sprint(50<<20) || !strings.Contains(err.Error(), "100 MiB for chunks") {
		t.Fatal(err)
	}
	p := lockedPlace(t)
	if err := p.CheckRoom(Need{Rows: 1, RawBytes: 1 << 60}); !errors.Is(err, fault.DiskFull) {
		t.Fatalf("an exbibyte fits: %v", err)
	}
}

// TestNeedIsNotTooLittle compares the estimate with files.
func TestNeedIsNotTooLittle(t *testing.T) {
	for _, size := range []int{1, 160, 1500, 2100, 4000, 5000, 9000} {
		p := lockedPlace(t)
		records, set := sample(2000, size)
		if _, err := built(t, p, testMeta, records).Publish(t.Context(), Finish{Lanes: []Lane{{Set: set}}}); err != nil {
			t.Fatal(err)
		}
		file, err := p.Current()
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		guess := Need{Rows: 2000, RawBytes: uint64(2000 * (size + len(records[0].Key)))}.Total() - marginBytes
		if real := uint64(info.Size()); guess+64<<10 < real || guess > 2*real+64<<10 {
			t.Fatalf("values of %d bytes: a file of %d bytes was thought to have %d", size, real, guess)
		}
	}
}

// TestAClearedGenerationStaysUntilAnotherIsLinked is what the policy ClearFirst needs.
func TestAClearedGenerationStaysUntilAnotherIsLinked(t *testing.T) {
	p := lockedPlace(t)
	old := generation(t, p, 10)
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	if now, err := p.Current(); err != nil || now != "" {
		t.Fatalf("the link still names %q, %v", now, err)
	}
	if held, err := p.Clean(); err != nil || held != 0 || p.Cleared() != old {
		t.Fatalf("%d held, %v, cleared is %q", held, err, p.Cleared())
	}
	generation(t, p, 20)
	if _, err := p.Clean(); err != nil || p.Cleared() != "" {
		t.Fatalf("%v, cleared is %q", err, p.Cleared())
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the old generation is still there: %v", err)
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
