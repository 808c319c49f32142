package catchup

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/cache"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/crew"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/parcel"
	"github.com/lockstep-mq/lockstep/services/delivery-gateway/gateway/internal/storage"
)

// Log reads ranges of lanes.
type Log interface {
	Read(ctx context.Context, r storage.Range, visit func(*parcel.Parcel) error) error
}

// Shared is a cache between gateways. Its answers are checked again; a miss is nil.
type Shared interface {
	Get(ctx context.Context, k cache.Key) [][]byte
	Put(ctx context.Context, k cache.Key, batches [][]byte)
}

// Config bounds a Reader. Every zero is the default.
type Config struct {
	// MaxBytes is what blocks in memory may hold together. Default 64 MiB.
	MaxBytes int64
	// Workers is how many loads run at once. Default 4.
	Workers int
	// BlockBytes ends a load. Default 1 MiB.
	BlockBytes uint64
	// BlockRecords: a block ends at a multiple of it, rounded up to a whole batch. Default 8192.
	BlockRecords uint64
}

const (
	loadTimeout = 15 * time.Second
	retryFirst  = 50 * time.Millisecond
	retryLast   = 2 * time.Second
)

// Counts is what a Reader has done since it was made.
type Counts struct{ Hits, SharedHits, Loads, Failures uint64 }

// Reader is shared by all readers of a gateway. Safe for concurrent use.
type Reader struct {
	cfg    Config
	src    Log
	shared Shared // nil: none
	log    *slog.Logger

	ctx  context.Context
	stop context.CancelFunc
	crew *crew.Crew[*load] // I2

	mu     sync.Mutex // protects what follows
	shelf  *shelf
	loads  map[stretch]*load
	counts Counts
}

// stretch is the part of a history between two multiples of BlockRecords.
type stretch struct {
	of     history
	number uint64
}

// load is one reading under way or waiting.
type load struct {
	of      stretch
	from    lane.Sequence
	at      storage.Standing
	waiters map[*Waiter]struct{}
	retry   time.Duration
}

// Waiter is one reader. Wake must not block.
type Waiter struct {
	Wake func()

	// Protected by Reader.mu.
	load *load
	err  error
}

// New makes a Reader; shared may be nil. Close it.
func New(cfg Config, src Log, shared Shared, log *slog.Logger) *Reader {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 4
	}
	if cfg.BlockBytes == 0 {
		cfg.BlockBytes = 1 << 20
	}
	if cfg.BlockRecords == 0 {
		cfg.BlockRecords = 8192
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Reader{cfg: cfg, src: src, shared: shared, log: log, ctx: ctx, stop: stop, shelf: newShelf(cfg.MaxBytes), loads: make(map[stretch]*load)}
	r.crew = crew.New(cfg.Workers, r.work)
	return r
}

// Close stops all loads and waits for them. Nobody is woken any more.
func (r *Reader) Close() {
	r.stop()
	r.crew.Close()
}

// Counts is a copy.
func (r *Reader) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// UsedBytes is what blocks hold now.
func (r *Reader) UsedBytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shelf.usedBytes
}

// At gives the parcel that holds seq of the lane, or nil: then a load is under way and w will be woken to ask again. The error is
// what a load for w failed with for good (I4). A waiter waits for one thing at a time.
func (r *Reader) At(at storage.Standing, seq lane.Sequence, w *Waiter) (*parcel.Parcel, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := w.err; err != nil {
		w.err = nil
		return nil, err
	}
	of := history{at.Lane, at.Epoch}
	if p := r.shelf.find(of, seq); p != nil {
		r.counts.Hits++
		r.leave(w)
		return p, nil
	}
	key := stretch{of, (uint64(seq) - 1) / r.cfg.BlockRecords}
	l := r.loads[key]
	if l == nil { // I1: otherwise wait for the one there is, and look again
		l = &load{of: key, from: seq, at: at, waiters: make(map[*Waiter]struct{})}
		r.loads[key] = l
		r.crew.Put(l)
	}
	if w.load != l {
		r.leave(w)
		l.waiters[w], w.load = struct{}{}, l
	}
	return nil, nil
}

// Leave forgets w.
func (r *Reader) Leave(w *Waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(w)
	w.err = nil
}

func (r *Reader) leave(w *Waiter) {
	if w.load != nil {
		delete(w.load.waiters, w)
		w.load = nil
	}
}

// work does one load, unless nobody waits for it any more.
func (r *Reader) work(l *load) {
	r.mu.Lock()
	if len(l.waiters) == 0 {
		delete(r.loads, l.of)
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	parcels, fromShared, err := r.load(l)
	r.settle(l, parcels, fromShared, err)
}

// settle keeps what was read, wakes those who wait, or tries again later.
func (r *Reader) settle(l *load, parcels []*parcel.Parcel, fromShared bool, err error) {
	r.mu.Lock()
	if err != nil {
		r.counts.Failures++
		if (fault.ReasonOf(err).Temporary() || errors.Is(err, context.DeadlineExceeded)) && r.ctx.Err() == nil && len(l.waiters) > 0 {
			l.retry = min(max(2*l.retry, retryFirst), retryLast)
			time.AfterFunc(l.retry/2+rand.N(l.retry/2), func() { r.crew.Put(l) })
			r.mu.Unlock()
			r.log.Debug("reading the log failed; trying again", "lane", l.of.of.lane.String(), "from", l.from, "error", err)
			return
		}
	} else {
		r.shelf.put(&block{of: l.of.of, parcels: parcels})
		if fromShared {
			r.counts.SharedHits++
		} else {
			r.counts.Loads++
		}
	}
	delete(r.loads, l.of)
	woken := make([]*Waiter, 0, len(l.waiters))
	for w := range l.waiters {
		w.load, w.err = nil, err
		woken = append(woken, w)
	}
	r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	for _, w := range woken {
		w.Wake()
	}
}

// load reads a block that holds l.from.
func (r *Reader) load(l *load) (parcels []*parcel.Parcel, fromShared bool, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, loadTimeout)
	defer cancel()
	key := cache.Key{Lane: l.of.of.lane, Epoch: l.of.of.epoch, From: l.from}
	if r.shared != nil {
		if parcels := r.unpack(l, r.shared.Get(ctx, key)); parcels != nil {
			return parcels, true, nil
		}
	}
	rg := storage.Range{
		Stream: l.at.Stream, Lane: l.of.of.lane, Epoch: l.of.of.epoch, Head: l.at.Head,
		From: l.from, Until: lane.Sequence((l.of.number+1)*r.cfg.BlockRecords + 1), MaxBytes: r.cfg.BlockBytes,
	}
	err = r.src.Read(ctx, rg, func(p *parcel.Parcel) error {
		if !follows(parcels, p, l.from) { // I3
			return fault.New(fault.Corrupt, "storage sent batch [%d, %d] of lane %v where %d was next", p.First, p.Last, rg.Lane, l.from)
		}
		parcels = append(parcels, p)
		return nil
	})
	switch {
	case err != nil && len(parcels) == 0:
		return nil, false, err
	case len(parcels) == 0:
		return nil, false, fault.New(fault.Unavailable, "storage has nothing at sequence %d of lane %v yet", l.from, rg.Lane)
	}
	// What came before a failure is whole and checked: it is used, and the next load meets the failure again.
	if r.shared != nil && err == nil {
		batches := make([][]byte, len(parcels))
		for i, p := range parcels {
			batches[i] = p.Data
		}
		r.shared.Put(ctx, key, batches)
	}
	return parcels, false, nil
}

// unpack checks what the shared cache gave as if it came from a stranger; nil when anything is not as it must be.
func (r *Reader) unpack(l *load, batches [][]byte) []*parcel.Parcel {
	var parcels []*parcel.Parcel
	for _, data := range batches {
		p, err := parcel.Make(data, parcel.Place{Lane: l.of.of.lane, Epoch: l.of.of.epoch, Head: l.at.Head, Tail: l.at.Tail, TailTimeMS: l.at.TailTimeMS})
		if err != nil || !follows(parcels, p, l.from) {
			r.log.Warn("the shared cache gave bytes that do not check; reading storage", "lane", l.of.of.lane.String(), "from", l.from, "error", err)
			return nil
		}
		parcels = append(parcels, p)
	}
	return parcels
}

func follows(parcels []*parcel.Parcel, p *parcel.Parcel, from lane.Sequence) bool {
	if len(parcels) == 0 {
		return p.First <= from && from <= p.Last
	}
	return p.First == parcels[len(parcels)-1].Next()
}
