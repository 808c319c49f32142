package depot

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/snapshot"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Config says what a Depot may use. The zero value of every field is the default named beside it.
type Config struct {
	// Dir is where copies are kept; made when missing, and kept for the next start. Default a directory of its own below the system's
	// temporary one, removed at Close.
	Dir string
	// DiskBytes is what the copies may take. Default 8 GiB.
	DiskBytes int64
	// MaxAge is how old a copy may be that is behind by more than a hundredth of its rows. Default 60 s.
	MaxAge time.Duration
	// SketchBytes is what sketches may take in memory. Default 64 MiB.
	SketchBytes int64
	// Scans may run at once. Default half of the processors, at least 1.
	Scans int
	// Pulls may run at once. Default 2.
	Pulls int
}

func (c Config) withDefaults() Config {
	if c.DiskBytes <= 0 {
		c.DiskBytes = 8 << 30
	}
	if c.MaxAge <= 0 {
		c.MaxAge = time.Minute
	}
	if c.SketchBytes <= 0 {
		c.SketchBytes = 64 << 20
	}
	if c.Scans <= 0 {
		c.Scans = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if c.Pulls <= 0 {
		c.Pulls = 2
	}
	return c
}

const (
	// freshRows: a copy behind by at most so many records, or a quarter of its rows, is reused while it is young.
	freshRows = 10_000
	// standingTimeout bounds asking storage where a lane stands.
	standingTimeout = 5 * time.Second
	// maxTurns bounds how often Open asks again because a flight it joined brought less than it needs.
	maxTurns = 4
)

// Provider is storage.
type Provider interface {
	Tails(ctx context.Context, lanes []lane.ID) ([]storage.Standing, error)
	OpenSnapshot(ctx context.Context, w storage.Wanted, progress func(rows, expected uint64)) ([]byte, snapshot.ID, error)
	ReadSnapshot(ctx context.Context, id snapshot.ID, offset, bytes uint64, visit func([]byte) error) error
}

// Progress is told how far a snapshot is: rows made or fetched, and expected; 0 expected means unknown. It must not block.
type Progress func(rows, expected uint64)

// Depot is safe for concurrent use. Close it.
type Depot struct {
	cfg      Config
	provider Provider
	log      *slog.Logger
	shelf    *shelf
	scans    chan struct{} // a place for each that runs
	pulls    chan struct{} // likewise
	pulled   atomic.Int64
	mended   atomic.Int64

	// tasks are flights; they end soon after ctx.
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu          sync.Mutex // protects what follows, and what copies and sketches say it does
	copies      map[snapshot.ID]*Copy
	usedBytes   int64 // on disk, or about to be
	flights     map[key]*flight
	sketchBytes int64
	clock       int64 // counts uses
	closed      bool
}

// New opens the directory, takes up the whole copies in it and removes what is left of others. Nothing else may use it meanwhile.
func New(cfg Config, provider Provider, log *slog.Logger) (*Depot, error) {
	cfg = cfg.withDefaults()
	d := &Depot{
		cfg: cfg, provider: provider, log: log, scans: make(chan struct{}, cfg.Scans), pulls: make(chan struct{}, cfg.Pulls),
		copies: make(map[snapshot.ID]*Copy), flights: make(map[key]*flight),
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	var err error
	if d.shelf, err = openShelf(cfg.Dir); err != nil {
		return nil, err
	}
	found, err := d.shelf.find(log)
	if err != nil {
		d.shelf.close()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range found {
		d.addLocked(f)
	}
	_ = d.makeRoomLocked(0) // none is in use: there is room
	return d, nil
}

// Close ends what runs and lets go of the directory. No copy may be in use.
func (d *Depot) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.tasks.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.copies {
		_ = c.file.Close() // only read from, or a cache
	}
	clear(d.copies)
	d.shelf.close()
}

// Counts is what a Depot did and holds.
type Counts struct {
	Copies      int
	DiskBytes   int64
	SketchBytes int64
	Pulled      int64 // copies, since the start
	Mended      int64 // chunks fetched again because they were damaged
}

// Counts of this moment.
func (d *Depot) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Counts{Copies: len(d.copies), DiskBytes: d.usedBytes, SketchBytes: d.sketchBytes, Pulled: d.pulled.Load(), Mended: d.mended.Load()}
}

// Open gives a copy that serves w (I6), fetching it unless there is one; release lets go of it. Faults: SnapshotGone, Overloaded,
// DiskFull, and those of storage.
func (d *Depot) Open(ctx context.Context, w storage.Wanted, progress Progress) (c *Copy, release func(), err error) {
	at := d.standing(ctx, w)
	for range maxTurns {
		if c := d.borrow(w, at); c != nil {
			return c, sync.OnceFunc(func() { d.giveBack(c) }), nil
		}
		c, err := d.join(ctx, w, progress)
		switch {
		case err != nil:
			return nil, nil, err
		case serves(c, w):
			return c, sync.OnceFunc(func() { d.giveBack(c) }), nil
		}
		d.giveBack(c) // the flight was for somebody who needed less
	}
	return nil, nil, fault.New(fault.Overloaded, "the snapshot of stream %q, partition %d, was overtaken %d times: try again", w.Stream, w.Lane.Partition, maxTurns).With("retry_after_ms", "1000")
}

// standing is where the lane stands; nil when it is not needed or storage cannot say, and then any copy is fresh enough.
func (d *Depot) standing(ctx context.Context, w storage.Wanted) *storage.Standing {
	if !w.ID.IsZero() || !d.has(w) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	at, err := d.provider.Tails(ctx, []lane.ID{w.Lane})
	if err != nil || len(at) == 0 {
		return nil
	}
	return &at[0]
}

func (d *Depot) has(w storage.Wanted) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.copies {
		if serves(c, w) {
			return true
		}
	}
	return false
}

// serves keeps I6.
func serves(c *Copy, w storage.Wanted) bool {
	switch {
	case c.Stream != w.Stream || c.Lane != w.Lane:
		return false
	case !w.ID.IsZero():
		return c.ID == w.ID
	}
	return w.AtLeast.Epoch == 0 || c.At.Epoch == w.AtLeast.Epoch && c.At.Sequence >= w.AtLeast.Sequence
}

// fresh reports whether c may be handed out to somebody who will follow the log from it.
func (d *Depot) fresh(c *Copy, at *storage.Standing) bool {
	if at == nil {
		return true
	}
	if c.At.Epoch != at.Epoch || c.At.Sequence+1 < at.Head {
		return false // its tail is gone
	}
	behind := uint64(max(at.Tail, c.At.Sequence) - c.At.Sequence)
	return behind <= c.Set.Count/100 || behind <= max(freshRows, c.Set.Count/4) && time.Since(c.takenAt) < d.cfg.MaxAge
}

// borrow gives the newest copy that serves, in use from now on; nil when there is none.
func (d *Depot) borrow(w storage.Wanted, at *storage.Standing) *Copy {
	d.mu.Lock()
	defer d.mu.Unlock()
	var best *Copy
	for _, c := range d.copies {
		if serves(c, w) && (!w.ID.IsZero() || d.fresh(c, at)) && (best == nil || best.At.Compare(c.At) < 0) {
			best = c
		}
	}
	if best != nil {
		d.useLocked(best, 1)
	}
	return best
}

func (d *Depot) useLocked(c *Copy, times int) {
	d.clock++
	c.uses += times
	c.usedAt = d.clock
}

func (d *Depot) giveBack(c *Copy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.giveBackLocked(c)
}

func (d *Depot) giveBackLocked(c *Copy) {
	d.useLocked(c, -1)
	if c.uses == 0 && c.gone {
		_ = c.file.Close() // it was removed
	}
}

// addLocked takes up a copy that is on disk.
func (d *Depot) addLocked(c *Copy) {
	c.depot = d
	d.clock++
	c.usedAt = d.clock
	d.copies[c.ID] = c
	d.usedBytes += c.diskBytes()
}

// dropLocked forgets a copy and removes its files; who uses it reads on from what is still open.
func (d *Depot) dropLocked(c *Copy) {
	if c.gone || d.copies[c.ID] != c {
		return
	}
	c.gone = true
	delete(d.copies, c.ID)
	d.usedBytes -= c.diskBytes()
	if s := c.sketch; s != nil && s.uses == 0 {
		d.forgetSketchLocked(s)
	}
	d.shelf.remove(c.ID)
	if c.uses == 0 {
		_ = c.file.Close()
	}
}

// makeRoomLocked lets go of the least recently used copies until more bytes fit (I3).
func (d *Depot) makeRoomLocked(more int64) error {
	if more > d.cfg.DiskBytes {
		return fault.New(fault.DiskFull, "the snapshot takes %d bytes and this gateway keeps at most %d: let it keep more, or try another gateway", more, d.cfg.DiskBytes)
	}
	for d.usedBytes+more > d.cfg.DiskBytes {
		var oldest *Copy
		for _, c := range d.copies {
			if c.uses == 0 && (oldest == nil || c.usedAt < oldest.usedAt) {
				oldest = c
			}
		}
		if oldest == nil {
			return fault.New(fault.Overloaded, "the snapshots in use take %d bytes, and there is no room for %d more: try again later, or another gateway", d.usedBytes, more).With("retry_after_ms", "5000")
		}
		d.dropLocked(oldest)
	}
	return nil
}
