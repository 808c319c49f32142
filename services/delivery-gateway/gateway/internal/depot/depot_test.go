package depot_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/sketch"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/depot"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/snaptest"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	id    = lane.ID{Stream: 7}
	whole = storage.Wanted{Stream: "orders", Lane: id}
)

func made(t testing.TB, rows int, at lane.Sequence) *snaptest.Kept {
	t.Helper()
	k, err := snaptest.Make(snaptest.State{Stream: "orders", Lane: id, Epoch: 1, Rows: rows, ValueBytes: 190, At: at})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newDepot(t testing.TB, cfg depot.Config, p depot.Provider) *depot.Depot {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	d, err := depot.New(cfg, p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func ignore(uint64, uint64) {}

func open(t testing.TB, d *depot.Depot, w storage.Wanted) (*depot.Copy, func()) {
	t.Helper()
	c, release, err := d.Open(t.Context(), w, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return c, release
}

// equal compares every chunk of a copy with what storage has.
func equal(t testing.TB, c *depot.Copy, k *snaptest.Kept) {
	t.Helper()
	if c.ID != k.ID || !bytes.Equal(c.Encoded, k.Encoded) {
		t.Fatalf("the copy is %v", c.ID)
	}
	for n := range k.Chunks() {
		b, err := c.Chunk(t.Context(), n, false)
		if err != nil || !bytes.Equal(b, k.Stored(n)) {
			t.Fatalf("chunk %d: %v", n, err)
		}
	}
}

func TestACopyIsPulledOnceForAll(t *testing.T) {
	s, k := snaptest.New(), made(t, 15_000, 15_100)
	s.Put(k)
	lift := s.Gate()
	d := newDepot(t, depot.Config{}, s)
	const consumers = 50
	var wg, told sync.WaitGroup
	told.Add(consumers)
	for range consumers {
		wg.Go(func() {
			first := sync.OnceFunc(told.Done)
			c, release, err := d.Open(t.Context(), whole, func(rows, expected uint64) {
				if expected == k.Set.Count && rows > 0 {
					first()
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			equal(t, c, k)
		})
	}
	told.Wait() // all wait for one, and know how far it is
	lift()
	wg.Wait()
	if opens, _, bytes := s.Counts(); opens != 1 || bytes != int64(len(k.File)) || d.Counts().Pulled != 1 || d.Counts().Copies != 1 {
		t.Fatalf("%d opens, %d bytes of %d, %+v", opens, bytes, len(k.File), d.Counts())
	}
}

func TestWhoLeavesDoesNotEndItForOthers(t *testing.T) {
	s, k := snaptest.New(), made(t, 1000, 1000)
	s.Put(k)
	lift := s.Gate()
	d := newDepot(t, depot.Config{}, s)
	ctx, leave := context.WithCancel(t.Context())
	asked := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := d.Open(ctx, whole, func(uint64, uint64) { close(asked) }); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
	})
	<-asked
	wg.Go(func() {
		c, release := open(t, d, whole)
		defer release()
		equal(t, c, k)
	})
	leave()
	lift()
	wg.Wait()
}

func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := snaptest.New()
		old := made(t, 50_000, 50_000)
		s.Put(old)
		d := newDepot(t, depot.Config{MaxAge: time.Minute}, s)
		_, release := open(t, d, whole)
		release()
		newer := made(t, 50_000, 70_000)
		expect := func(what string, w storage.Wanted, want *snaptest.Kept) {
			t.Helper()
			c, release := open(t, d, w)
			defer release()
			if c.ID != want.ID {
				t.Fatalf("%s: got the snapshot at %v", what, c.At)
			}
		}
		s.Put(newer)
		s.Stand(1, 50_400)
		time.Sleep(time.Hour)
		expect("old, hardly behind", whole, old)
		s.Stand(50_002, 50_400)
		expect("what follows it is gone", whole, newer)

		d = newDepot(t, depot.Config{MaxAge: time.Minute}, s)
		s.Put(old)
		expect("first", whole, old)
		s.Put(newer)
		s.Stand(1, 62_000)
		expect("young, a quarter behind", whole, old)
		s.Stand(1, 63_000)
		expect("young, far behind", whole, newer)

		d = newDepot(t, depot.Config{MaxAge: time.Minute}, s)
		s.Put(old)
		expect("first", whole, old)
		s.Put(newer)
		s.Stand(1, 62_000)
		time.Sleep(2 * time.Minute)
		expect("old, a quarter behind", whole, newer)
		expect("by its id", storage.Wanted{Stream: "orders", Lane: id, ID: old.ID}, old)
		s.SetDown(true)
		expect("storage is away", whole, newer)
		expect("storage is away, at least 70,000", storage.Wanted{Stream: "orders", Lane: id, AtLeast: lane.Position{Epoch: 1, Sequence: 70_000}}, newer)
		if _, _, err := d.Open(t.Context(), storage.Wanted{Stream: "orders", Lane: id, AtLeast: lane.Position{Epoch: 1, Sequence: 70_001}}, ignore); !errors.Is(err, fault.Unavailable) {
			t.Fatalf("ahead of all: %v", err)
		}
		s.SetDown(false)
		if _, _, err := d.Open(t.Context(), storage.Wanted{Stream: "other", Lane: lane.ID{Stream: 8}, ID: old.ID}, ignore); err == nil {
			t.Fatal("a snapshot was given out under another stream's name")
		}
		s.Forget()
		expect("by its id, gone at storage", storage.Wanted{Stream: "orders", Lane: id, ID: old.ID}, old)
		if _, _, err := d.Open(t.Context(), storage.Wanted{Stream: "orders", Lane: id, ID: snapshot.ID{1}}, ignore); !errors.Is(err, fault.SnapshotGone) {
			t.Fatalf("never heard of: %v", err)
		}
	})
}

func TestSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s, k, broken := snaptest.New(), made(t, 5000, 5000), made(t, 5000, 5001)
	d := newDepot(t, depot.Config{Dir: dir}, s)
	for _, one := range []*snaptest.Kept{broken, k} {
		s.Put(one)
		_, release := open(t, d, storage.Wanted{Stream: "orders", Lane: id, ID: one.ID})
		release()
	}
	if _, err := depot.New(depot.Config{Dir: dir}, s, quiet); !errors.Is(err, fault.InUse) {
		t.Fatalf("a second gateway in the directory: %v", err)
	}
	d.Close()
	// A crash left: chunks cut short, a part, chunks without a manifest; and somebody's own file.
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Truncate(at(broken.ID.String()+".chunks"), 100); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00112233445566778899aabbccddeeff.part", "00112233445566778899aabbccddeeff.chunks", "notes.txt"} {
		if err := os.WriteFile(at(name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.SetDown(true)
	d = newDepot(t, depot.Config{Dir: dir}, s)
	if c := d.Counts(); c.Copies != 1 || c.DiskBytes != int64(len(k.File)+len(k.Encoded)) {
		t.Fatalf("%+v", c)
	}
	c, release := open(t, d, whole)
	defer release()
	equal(t, c, k)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{k.ID.String() + ".chunks", k.ID.String() + ".manifest", "lock", "notes.txt"}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Fatalf("the directory has %v", names)
	}
}

// flip changes a bit of a copy's file.
func flip(t *testing.T, dir string, k *snaptest.Kept, chunk int) {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(dir, k.ID.String()+".chunks"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	at := int64(k.Chunk(chunk).Offset) + int64(k.Chunk(chunk).Bytes)/2
	if _, err := file.WriteAt([]byte{k.File[at] ^ 4}, at); err != nil {
		t.Fatal(err)
	}
}

func TestBitRotIsMended(t *testing.T) {
	dir := t.TempDir()
	s, k := snaptest.New(), made(t, 20_000, 20_000)
	s.Put(k)
	d := newDepot(t, depot.Config{Dir: dir}, s)
	c, release := open(t, d, whole)
	flip(t, dir, k, 1)
	// It was proven when it came; who asks for a proof gets a mended one, and so does everybody after.
	if b, err := c.Chunk(t.Context(), 1, true); err != nil || !bytes.Equal(b, k.Stored(1)) || d.Counts().Mended != 1 {
		t.Fatalf("%v, %+v", err, d.Counts())
	}
	equal(t, c, k)
	// A scan proves what it reads.
	flip(t, dir, k, 2)
	if got := changes(t, c, 0); len(got.rows) != 20_000 || d.Counts().Mended != 2 {
		t.Fatalf("%d rows, %+v", len(got.rows), d.Counts())
	}
	release()
	// After a restart every first reading proves.
	flip(t, dir, k, 3)
	d.Close()
	d = newDepot(t, depot.Config{Dir: dir}, s)
	c, release = open(t, d, whole)
	defer release()
	equal(t, c, k)
	if d.Counts().Mended != 1 {
		t.Fatalf("%+v", d.Counts())
	}
	// Damaged, and storage has let go: the copy goes.
	flip(t, dir, k, 0)
	s.Forget()
	if _, err := c.Chunk(t.Context(), 0, true); !errors.Is(err, fault.SnapshotGone) || d.Counts().Copies != 0 || d.Counts().DiskBytes != 0 {
		t.Fatalf("%v, %+v", err, d.Counts())
	}
}

func TestDamageAndBreaksOnTheWay(t *testing.T) {
	s, k := snaptest.New(), made(t, 20_000, 20_000)
	s.Put(k)
	s.Damage(3)
	s.Cut(2)
	s.Lose(1)
	d := newDepot(t, depot.Config{}, s)
	c, release := open(t, d, whole)
	defer release()
	equal(t, c, k)
	if n := d.Counts().Mended; n < 1 || n > 3 {
		t.Fatalf("%d chunks came damaged", n)
	}
	s.Damage(1 << 30)
	worse := made(t, 100, 60_000)
	s.Put(worse)
	if _, _, err := d.Open(t.Context(), storage.Wanted{Stream: "orders", Lane: id, ID: worse.ID}, ignore); !errors.Is(err, fault.Corrupt) {
		t.Fatalf("damaged every time: %v", err)
	}
	if d.Counts().Copies != 1 || d.Counts().DiskBytes != int64(len(k.File)+len(k.Encoded)) {
		t.Fatalf("%+v", d.Counts())
	}
}

func TestDiskBudget(t *testing.T) {
	dir := t.TempDir()
	s := snaptest.New()
	var all []*snaptest.Kept
	for i := range 4 {
		k := made(t, 3000, lane.Sequence(3000+i))
		s.Put(k)
		all = append(all, k)
	}
	one := int64(len(all[0].File) + len(all[0].Encoded))
	d := newDepot(t, depot.Config{Dir: dir, DiskBytes: one*2 + one/2}, s)
	byID := func(i int) storage.Wanted { return storage.Wanted{Stream: "orders", Lane: id, ID: all[i].ID} }
	held, release := open(t, d, byID(0))
	for i := range all[1:] {
		_, done := open(t, d, byID(i+1))
		done()
	}
	if c := d.Counts(); c.Copies != 2 || c.DiskBytes > one*2+one/2 || c.Pulled != 4 {
		t.Fatalf("%+v", c)
	}
	equal(t, held, all[0]) // in use: never evicted, though the least recently used
	_, second := open(t, d, byID(3))
	if _, _, err := d.Open(t.Context(), byID(1), ignore); !errors.Is(err, fault.Overloaded) || fault.Of(err).Detail("retry_after_ms") == "" {
		t.Fatalf("all are in use: %v", err)
	}
	second()
	release()
	huge := made(t, 15_000, 15_000)
	s.Put(huge)
	if _, _, err := d.Open(t.Context(), storage.Wanted{Stream: "orders", Lane: id, ID: huge.ID}, ignore); !errors.Is(err, fault.DiskFull) {
		t.Fatalf("larger than all there is: %v", err)
	}
	d.Close()
	d = newDepot(t, depot.Config{Dir: dir, DiskBytes: one + one/2}, s) // a smaller budget holds at the start
	if c := d.Counts(); c.Copies != 1 {
		t.Fatalf("%+v", c)
	}
}

func TestTemporaryDirectoryGoes(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	left := filepath.Join(os.TempDir(), "lockstep-snapshots-left")
	if err := os.MkdirAll(left, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := depot.New(depot.Config{}, snaptest.New(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	second, err := depot.New(depot.Config{}, snaptest.New(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if len(dirs) != 2 {
		t.Fatalf("two gateways have %v", dirs)
	}
	first.Close()
	second.Close()
	if dirs, _ = filepath.Glob(filepath.Join(os.TempDir(), "*")); len(dirs) != 0 {
		t.Fatalf("%v are left", dirs)
	}
}

// content is what packets held.
type content struct {
	rows       []record.Record
	tombstones []lane.Sequence
}

func (c *content) take(t testing.TB, p snapshot.Packet) {
	t.Helper()
	raw, err := snapshot.Unpack(p.Packed, int(p.RawBytes), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Tombstones {
		r := state.NewTombstoneReader(raw)
		for one := (state.Tombstone{}); r.Next(&one); {
			c.tombstones = append(c.tombstones, one.Sequence)
		}
		return
	}
	r := state.NewReader(raw)
	for one := (record.Record{}); r.Next(&one); {
		c.rows = append(c.rows, one)
	}
}

func changes(t testing.TB, c *depot.Copy, since lane.Sequence) *content {
	t.Helper()
	got := &content{}
	if err := c.Changes(t.Context(), since, func(p snapshot.Packet) error { got.take(t, p); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestChangesAndRows(t *testing.T) {
	s, k := snaptest.New(), made(t, 12_000, 12_050)
	s.Put(k)
	d := newDepot(t, depot.Config{Scans: 1}, s)
	c, release := open(t, d, whole)
	defer release()
	got := changes(t, c, 11_990)
	if len(got.rows) != 10 || got.rows[0].Sequence != 11_991 || len(got.tombstones) != 50 {
		t.Fatalf("%d rows, %d tombstones", len(got.rows), len(got.tombstones))
	}
	// Two at once though one may scan: neither holds the place while its consumer is waited for.
	inSend, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(inSend); <-goOn })
		if err := c.Changes(t.Context(), 0, func(snapshot.Packet) error { once(); return nil }); err != nil {
			t.Error(err)
		}
	})
	<-inSend
	h := digest.NewHasher(snaptest.Seed)
	wanted := map[sketch.ID]struct{}{1: {}}
	for _, i := range []int{3, 77, 11_999} {
		r := snaptest.State{ValueBytes: 190}.Record(i)
		wanted[sketch.IDOf(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))] = struct{}{}
	}
	picked := &content{}
	if err := c.Pick(t.Context(), wanted, func(p snapshot.Packet) error { picked.take(t, p); return nil }); err != nil || len(picked.rows) != 3 || picked.rows[1].Sequence != 78 {
		t.Fatalf("%v, %d rows", err, len(picked.rows))
	}
	close(goOn)
	wg.Wait()
}

func TestSketchesFindTheDifferenceWithinTheirBudget(t *testing.T) {
	const rows, differ = 20_000, 300
	s := snaptest.New()
	var all []*snaptest.Kept
	for i := range 2 {
		all = append(all, made(t, rows, lane.Sequence(rows+i)))
		s.Put(all[i])
	}
	budget := int64(rows*8 + 4096*24)
	d := newDepot(t, depot.Config{SketchBytes: budget}, s)
	byID := func(i int) *depot.Copy {
		c, release := open(t, d, storage.Wanted{Stream: "orders", Lane: id, ID: all[i].ID})
		t.Cleanup(release)
		return c
	}
	h := digest.NewHasher(snaptest.Seed)
	var ours []sketch.ID
	for i := range rows {
		r := snaptest.State{ValueBytes: 190}.Record(i)
		if i < differ { // ours are older
			r.Sequence += rows
		}
		ours = append(ours, sketch.IDOf(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)))
	}
	one, release := byID(0).OpenSketch()
	find := sketch.NewDifference(sketch.New(ours))
	at, bytes := uint64(0), 0
	for !find.Done() {
		data, next, err := one.Block(t.Context(), at)
		if err != nil || data == nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if length := next - at; at == 0 && length != 24 || at > 0 && (length > max(at/4, 8) || length > 8192) {
			t.Fatalf("a block of %d behind %d", length, at)
		}
		block, err := sketch.ParseBlock(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := find.Add(block.Symbols); err != nil {
			t.Fatal(err)
		}
		at, bytes = next, bytes+len(data)
	}
	found := find.Found()
	theirs, mine := found.Theirs, found.Ours
	if len(theirs) != differ || len(mine) != differ || at > 2*2*differ {
		t.Fatalf("%d and %d differ, after %d symbols, %d bytes", len(theirs), len(mine), at, bytes)
	}
	// The budget: a sketch in use keeps its memory, another has to wait; one that is idle goes.
	other, releaseOther := byID(1).OpenSketch()
	defer releaseOther()
	if _, _, err := other.Block(t.Context(), 0); !errors.Is(err, fault.Overloaded) {
		t.Fatalf("two sketches in the room of one: %v", err)
	}
	if n := d.Counts().SketchBytes; n <= rows*8 || n > budget {
		t.Fatalf("%d bytes", n)
	}
	release()
	for at := uint64(0); ; {
		data, next, err := other.Block(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if n := d.Counts().SketchBytes; n > budget {
			t.Fatalf("%d bytes", n)
		}
		if data == nil { // as far as memory goes; hostile numbers too
			if data, _, err := other.Block(t.Context(), 1<<60); data != nil || err != nil || at < 1024 {
				t.Fatalf("beyond the end, which was at %d: %d bytes, %v", at, len(data), err)
			}
			break
		}
		at = next
	}
	tiny := newDepot(t, depot.Config{SketchBytes: 1000}, s)
	c, done := open(t, tiny, whole)
	defer done()
	small, doneSmall := c.OpenSketch()
	defer doneSmall()
	if _, _, err := small.Block(t.Context(), 0); !errors.Is(err, fault.InvalidArgument) || tiny.Counts().SketchBytes != 0 {
		t.Fatalf("no room at all: %v, %+v", err, tiny.Counts())
	}
}
