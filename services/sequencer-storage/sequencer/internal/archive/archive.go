package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
)

const (
	// MaxBuilds is how many snapshots are made at once.
	MaxBuilds = 2
	// Lease is how long a snapshot is kept after it was last asked for.
	Lease = 5 * time.Minute
	// KeepNewest is how long the newest snapshot of a lane is kept after its lease, for the next who asks.
	KeepNewest = 10 * time.Minute
	// freshFor is how long a snapshot serves new callers however fast the log grows: the time of a herd.
	freshFor = 10 * time.Second
	// nearRecords is how many records behind the tail a snapshot always still serves: replaying them is cheaper than another.
	nearRecords = 10_000
)

const (
	chunksSuffix   = ".chunks"
	manifestSuffix = ".manifest"
	buildingPrefix = "building-"
)

// Env is what an Archive works on.
type Env struct {
	Catalogue *catalogue.Catalogue
	// Pin settles the lane's state at its tail and pins it.
	Pin func(ctx context.Context, l *ledger.Lane) (Source, error)
	// FreeBytes is what the disk has left; with less than ReserveBytes nothing is built.
	FreeBytes    func() (uint64, error)
	ReserveBytes uint64
	// DiskBytes is what snapshots may take together; those that are leased stay beyond it.
	DiskBytes uint64
	Now       func() time.Time
	Log       *slog.Logger
}

// Archive keeps snapshots in a folder. Safe for concurrent use.
type Archive struct {
	env      Env
	dir      string
	building chan struct{} // a place for each build

	mu     sync.Mutex // protects what follows
	kept   map[snapshot.ID]*Kept
	builds map[segment.LaneNumber]*build
	ctx    context.Context // of builds; ends with Run
	end    context.CancelFunc
	wait   sync.WaitGroup // builds under way
	counts Counts         // of builds; what is kept is counted when asked
}

// Counts is what an Archive keeps, and what it has made since it was opened.
type Counts struct {
	Kept, Bytes    uint64
	Builds, Failed uint64
	Building       time.Duration // of the builds that did not fail
}

// Counts answers at any time.
func (a *Archive) Counts() Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counts
	for _, k := range a.kept {
		c.Kept, c.Bytes = c.Kept+1, c.Bytes+k.Bytes()
	}
	return c
}

// Kept is a snapshot that can be read.
type Kept struct {
	*snapshot.Manifest
	ID      snapshot.ID
	Encoded []byte // the manifest
	lane    segment.LaneNumber
	made    time.Time

	mu     sync.Mutex // protects the lease
	leased time.Time  // kept at least until then
	noted  time.Time  // what the catalogue knows of it
}

// Open reads what the folder and the catalogue know, and tidies the difference (I4). known tells whether a lane exists still.
func Open(dir string, env Env, known func(segment.LaneNumber) bool) (*Archive, error) {
	a := &Archive{env: env, dir: dir, building: make(chan struct{}, MaxBuilds), kept: map[snapshot.ID]*Kept{}, builds: map[segment.LaneNumber]*build{}}
	a.ctx, a.end = context.WithCancel(context.Background())
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("the folder of snapshots: %w", err)
	}
	rows, err := env.Catalogue.Snapshots()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		k, err := a.load(row)
		if err == nil && known(row.Lane) {
			a.kept[row.ID] = k
			continue
		}
		if err := env.Catalogue.DropSnapshot(row.ID); err != nil {
			return nil, err
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of snapshots: %w", err)
	}
	wanted := map[string]bool{}
	for id := range a.kept {
		wanted[id.String()] = true
	}
	for _, f := range files {
		if name, _, _ := strings.Cut(f.Name(), "."); !wanted[name] {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				return nil, fmt.Errorf("tidying the folder of snapshots: %w", err)
			}
		}
	}
	return a, nil
}

// load reads a manifest back; the chunks are compared when they are read.
func (a *Archive) load(row catalogue.Snapshot) (*Kept, error) {
	encoded, err := os.ReadFile(a.file(row.ID, manifestSuffix))
	if err != nil {
		return nil, err
	}
	m, err := snapshot.ParseManifest(encoded, row.ID)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(a.file(row.ID, chunksSuffix)); err != nil || uint64(info.Size()) != m.Bytes() {
		return nil, fault.New(fault.Corrupt, "the chunks of snapshot %v are not all there", row.ID)
	}
	until := time.UnixMilli(row.LeasedUntilMS)
	return &Kept{Manifest: m, ID: row.ID, Encoded: encoded, lane: row.Lane, made: time.UnixMilli(row.MadeMS), leased: until, noted: until}, nil
}

func (a *Archive) file(id snapshot.ID, suffix string) string {
	return filepath.Join(a.dir, id.String()+suffix)
}

// Wanted says which snapshot of a lane serves.
type Wanted struct {
	AtLeast lane.Position // epoch 0: any
	ID      snapshot.ID   // not zero: this one only
}

// Open gives a snapshot of l that serves, and leases it. While one is made, progress is called from time to time on this goroutine; an
// error of it ends the waiting, not the build. Faults: SnapshotGone, AheadOfTail, EpochMismatch, DiskFull, and those of Pin.
func (a *Archive) Open(ctx context.Context, l *ledger.Lane, w Wanted, progress func(rows, expected uint64) error) (*Kept, error) {
	if !w.ID.IsZero() {
		return a.byID(w.ID, l)
	}
	if w.AtLeast.Epoch != 0 {
		if w.AtLeast.Epoch != l.Epoch {
			return nil, fault.New(fault.EpochMismatch, "the lane is in epoch %d, and a snapshot of epoch %d was asked for: begin anew", l.Epoch, w.AtLeast.Epoch).
				With("epoch", fmt.Sprint(uint64(l.Epoch)))
		}
		if tail := l.Standing().Tail; w.AtLeast.Sequence > tail {
			return nil, fault.New(fault.AheadOfTail, "a snapshot at or above sequence %d was asked for, and the lane ends at %d", w.AtLeast.Sequence, tail)
		}
	}
	for {
		k, b, err := a.find(l, w)
		if err != nil {
			return nil, err
		}
		if k != nil {
			return k, a.lease(k)
		}
		if err := a.await(ctx, b, progress); err != nil {
			return nil, err
		}
		if b.err != nil {
			return nil, b.err
		}
		if b.kept.At.Sequence >= w.AtLeast.Sequence {
			return b.kept, a.lease(b.kept)
		}
	}
}

func (a *Archive) byID(id snapshot.ID, l *ledger.Lane) (*Kept, error) {
	k, err := a.Kept(id)
	if err != nil {
		return nil, err
	}
	if k.lane != l.Number {
		return nil, fault.New(fault.InvalidArgument, "snapshot %v is one of stream %q, partition %d", id, k.Stream, k.Lane.Partition)
	}
	return k, a.lease(k)
}

// Kept gives a snapshot by its ID. Fault: SnapshotGone.
func (a *Archive) Kept(id snapshot.ID) (*Kept, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.kept[id]; k != nil {
		return k, nil
	}
	return nil, fault.New(fault.SnapshotGone, "snapshot %v is not kept here any more: begin with another", id)
}

// find gives the newest kept snapshot that serves, or the build to wait for, begun if there was none (I1).
func (a *Archive) find(l *ledger.Lane, w Wanted) (*Kept, *build, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var newest *Kept
	for _, k := range a.kept {
		if k.lane == l.Number && k.At.Epoch == l.Epoch && (newest == nil || k.At.Sequence > newest.At.Sequence) {
			newest = k
		}
	}
	if newest != nil && newest.At.Sequence >= w.AtLeast.Sequence && a.fresh(newest, l.Standing()) {
		return newest, nil, nil
	}
	if b := a.builds[l.Number]; b != nil {
		return nil, b, nil
	}
	if a.ctx.Err() != nil {
		return nil, nil, fault.New(fault.Unavailable, "the service is stopping; ask again")
	}
	b := &build{done: make(chan struct{})}
	a.builds[l.Number] = b
	ctx := a.ctx
	a.wait.Go(func() { // ends with ctx, awaited by Run
		b.kept, b.err = a.build(ctx, l, b)
		if b.err != nil && ctx.Err() != nil {
			b.err = fault.New(fault.Unavailable, "the service is stopping; ask again: %w", ctx.Err())
		}
		a.mu.Lock()
		delete(a.builds, l.Number)
		if b.err == nil {
			a.counts.Builds++
			a.counts.Building += b.took
		} else {
			a.counts.Failed++
		}
		a.mu.Unlock()
		close(b.done)
	})
	return nil, b, nil
}

// fresh reports whether a snapshot serves new callers: the log behind it is still there, and replaying it is cheaper than another.
func (a *Archive) fresh(k *Kept, at ledger.Standing) bool {
	if k.At.Sequence+1 < at.Head {
		return false
	}
	behind := uint64(at.Tail - min(at.Tail, k.At.Sequence))
	return behind <= max(nearRecords, k.Set.Count/4) || a.env.Now().Sub(k.made) < freshFor
}

// progressEvery spaces the reports of a build out.
const progressEvery = 250 * time.Millisecond

func (a *Archive) await(ctx context.Context, b *build, progress func(rows, expected uint64) error) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := progress(b.rows.Load(), b.expected.Load()); err != nil {
				return err
			}
		}
	}
}

// keep gives a finished build its name, files first, then the catalogue (I4).
func (a *Archive) keep(l *ledger.Lane, m *snapshot.Manifest, file string) (*Kept, error) {
	encoded, id, err := m.Encode()
	if err != nil {
		return nil, errors.Join(err, os.Remove(file))
	}
	now := a.env.Now()
	k := &Kept{Manifest: m, ID: id, Encoded: encoded, lane: l.Number, made: now, leased: now.Add(Lease), noted: now.Add(Lease)}
	err = os.WriteFile(a.file(id, manifestSuffix), encoded, 0o640)
	if err == nil {
		err = os.Rename(file, a.file(id, chunksSuffix))
	}
	if err == nil {
		err = a.env.Catalogue.KeepSnapshot(k.row())
	}
	if err != nil {
		return nil, errors.Join(err, a.unlink(id), removeIfThere(file))
	}
	a.mu.Lock()
	a.kept[id] = k
	a.mu.Unlock()
	a.env.Log.Info("a snapshot was made", "stream", m.Stream, "partition", m.Lane.Partition, "sequence", m.At.Sequence, "rows", m.Set.Count, "bytes", m.Bytes(), "id", id)
	return k, nil
}

func (k *Kept) row() catalogue.Snapshot {
	return catalogue.Snapshot{ID: k.ID, Lane: k.lane, At: k.At, Rows: k.Set.Count, Bytes: k.Bytes(), MadeMS: k.made.UnixMilli(), LeasedUntilMS: k.leased.UnixMilli()}
}

// lease keeps k for Lease from now (I2). The catalogue hears of it once in a while, early enough.
func (a *Archive) lease(k *Kept) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leased = a.env.Now().Add(Lease)
	if k.leased.Sub(k.noted) < Lease/4 {
		return nil
	}
	k.noted = k.leased
	return a.env.Catalogue.KeepSnapshot(k.row())
}

// LeasedUntil is how long the snapshot is kept at least.
func (k *Kept) LeasedUntil() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leased
}

// unlink removes a snapshot's files.
func (a *Archive) unlink(id snapshot.ID) error {
	return errors.Join(removeIfThere(a.file(id, chunksSuffix)), removeIfThere(a.file(id, manifestSuffix)))
}

func removeIfThere(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
