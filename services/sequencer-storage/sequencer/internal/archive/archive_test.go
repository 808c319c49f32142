package archive_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/archive"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

// oneRow is a state of one row at a sequence.
type oneRow lane.Sequence

func (o oneRow) record() (record.Record, digest.Element) {
	r := record.Record{Key: []byte("k"), Sequence: lane.Sequence(o), Value: []byte("v")}
	return r, digest.NewHasher(1).Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value)
}

func (o oneRow) Manifest() snapshot.Manifest {
	_, e := o.record()
	m := snapshot.Manifest{Stream: "s", Seed: 1, At: lane.Position{Epoch: 1, Sequence: lane.Sequence(o)}}
	m.Set.Add(e)
	return m
}

func (o oneRow) Rows(visit func(digest.Element, []byte, lane.Sequence, []byte) error) error {
	r, e := o.record()
	return visit(e, r.Key, r.Sequence, state.AppendRow(nil, &r))
}

func (o oneRow) Tombstones(func(state.Tombstone) error) error { return nil }
func (o oneRow) Close()                                       {}

// ofLane is a oneRow of a lane.
type ofLane struct {
	oneRow
	number segment.LaneNumber
}

func (o ofLane) Manifest() snapshot.Manifest {
	m := o.oneRow.Manifest()
	m.Lane = lane.ID{Stream: lane.StreamID(o.number)}
	return m
}

// fixture is an archive whose lanes' states move by hand, at a clock that moves by hand.
type fixture struct {
	*archive.Archive
	t    *testing.T
	dir  string
	env  archive.Env
	now  time.Time
	free uint64
	at   oneRow
	stop func()
}

func newFixture(t *testing.T, diskBytes uint64) *fixture {
	f := &fixture{t: t, dir: t.TempDir(), now: time.Unix(1_700_000_000, 0), free: 1 << 30, at: 1}
	c, err := catalogue.Open(filepath.Join(t.TempDir(), "c.db"), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f.env = archive.Env{
		Catalogue: c, Pin: func(_ context.Context, l *ledger.Lane) (archive.Source, error) { return ofLane{f.at, l.Number}, nil },
		FreeBytes: func() (uint64, error) { return f.free, nil }, ReserveBytes: 1 << 20, DiskBytes: diskBytes,
		Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler),
	}
	f.reopen()
	t.Cleanup(func() { f.stop() })
	return f
}

func (f *fixture) reopen() {
	f.t.Helper()
	if f.stop != nil {
		f.stop()
	}
	var err error
	if f.Archive, err = archive.Open(f.dir, f.env, func(n segment.LaneNumber) bool { return n != 99 }); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func(a *archive.Archive) { ended <- a.Run(ctx) }(f.Archive) // ends at stop
	f.stop = func() { cancel(); <-ended }
}

func newLane(n segment.LaneNumber, head, tail lane.Sequence) *ledger.Lane {
	l := &ledger.Lane{Number: n, Stream: "s", Keyed: true, Epoch: 1, Seed: 1}
	l.Restore(head, tail, [16]byte{}, nil)
	return l
}

func (f *fixture) open(l *ledger.Lane, w archive.Wanted) (*archive.Kept, error) {
	f.t.Helper()
	return f.Open(f.t.Context(), l, w, func(uint64, uint64) error { return nil })
}

func (f *fixture) mustOpen(l *ledger.Lane) *archive.Kept {
	f.t.Helper()
	k, err := f.open(l, archive.Wanted{})
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

func (f *fixture) gone(k *archive.Kept) bool {
	_, err := f.Kept(k.ID)
	_, stat := os.Stat(filepath.Join(f.dir, k.ID.String()+".chunks"))
	return errors.Is(err, fault.SnapshotGone) && os.IsNotExist(stat)
}

// A snapshot serves while the log behind it is short, or while it is new; not when the log behind it has expired.
func TestWhichSnapshotServes(t *testing.T) {
	f := newFixture(t, 1<<30)
	first := f.mustOpen(newLane(1, 1, 1))
	far := newLane(1, 1, 50_000)
	f.at = 50_000
	if f.mustOpen(far) != first {
		t.Error("within the time of a herd another was made")
	}
	f.now = f.now.Add(time.Minute)
	second := f.mustOpen(far)
	if second == first || second.At.Sequence != 50_000 {
		t.Errorf("a snapshot far behind was given out: %v", second.At)
	}
	f.at = 50_100
	if f.mustOpen(newLane(1, 1, 50_100)) != second {
		t.Error("a snapshot near the tail was not given out")
	}
	if k := f.mustOpen(newLane(1, 50_050, 50_100)); k == second {
		t.Error("a snapshot was given out whose next record has expired")
	}
}

func TestLeasesAndTheBudgetDecideWhatGoes(t *testing.T) {
	f := newFixture(t, 1<<30)
	first := f.mustOpen(newLane(1, 1, 1))
	f.at, f.now = 20_000, f.now.Add(time.Minute)
	second := f.mustOpen(newLane(1, 1, 20_000))
	other := f.mustOpen(newLane(2, 1, 20_000))
	expire := func() {
		t.Helper()
		if err := f.Expire(); err != nil {
			t.Fatal(err)
		}
	}
	expire()
	if f.gone(first) || f.gone(second) {
		t.Error("one that is leased went")
	}
	f.now = f.now.Add(archive.Lease + time.Second)
	if err := f.Read(second.ID, 0, second.Bytes(), func([]byte) error { return nil }); err != nil { // leases it again
		t.Fatal(err)
	}
	f.reopen()
	expire()
	if !f.gone(first) || f.gone(second) || f.gone(other) {
		t.Error("not exactly the one went that nobody needs")
	}
	f.now = f.now.Add(archive.Lease + archive.KeepNewest + time.Second)
	expire()
	if c := f.Counts(); c.Kept != 0 || c.Bytes != 0 {
		t.Errorf("%d old ones are still there", c.Kept)
	}

	f = newFixture(t, 1)
	k := f.mustOpen(newLane(1, 1, 1))
	if expire = func() { _ = f.Expire() }; f.gone(k) {
		t.Error("one that is leased went for the budget's sake")
	}
	f.now = f.now.Add(archive.Lease + time.Second)
	if expire(); !f.gone(k) {
		t.Error("one over the budget stayed")
	}
}

// What does not belong together after a crash is tidied at the start.
func TestStartTidies(t *testing.T) {
	f := newFixture(t, 1<<30)
	whole, torn, orphan := f.mustOpen(newLane(1, 1, 1)), f.mustOpen(newLane(2, 1, 1)), f.mustOpen(newLane(99, 1, 1))
	if err := os.Remove(filepath.Join(f.dir, torn.ID.String()+".chunks")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "building-7"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	if _, err := os.Stat(filepath.Join(f.dir, "building-7")); !os.IsNotExist(err) {
		t.Error("half a build is still there")
	}
	if !f.gone(orphan) || !f.gone(torn) || f.gone(whole) {
		t.Error("not exactly the whole snapshot of a lane that is there was kept")
	}
}

func TestFullDiskMakesNone(t *testing.T) {
	f := newFixture(t, 1<<30)
	f.free = 1000
	if _, err := f.open(newLane(1, 1, 1), archive.Wanted{}); !errors.Is(err, fault.DiskFull) {
		t.Errorf("got %v", err)
	}
	f.free = 1 << 30
	k := f.mustOpen(newLane(1, 1, 1))
	if c := f.Counts(); c.Failed != 1 || c.Builds != 1 || c.Building <= 0 || c.Kept != 1 || c.Bytes != k.Bytes() {
		t.Errorf("it counts %+v, of a snapshot of %d bytes", c, k.Bytes())
	}
}
