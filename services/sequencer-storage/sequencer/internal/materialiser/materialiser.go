package materialiser

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/reader"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

const (
	// HandedBytes bounds the batches that wait in memory; beyond it they are read back from the log, where they are too.
	HandedBytes = 8 << 20
	// DefaultElementBytes is what Config's field is when it is 0.
	DefaultElementBytes = 64 << 20
	// turnRecords bounds how long one lane keeps the others waiting.
	turnRecords = 16 << 10
)

// Config bounds the memory. The zero value is the default of every field.
//
// Besides ElementBytes there are two windows of WindowBytes, two encoded copies of the one that is written, indexes, and HandedBytes: 48 MiB.
type Config struct {
	// ElementBytes bounds the table of remembered rows, at 32 bytes a slot of which three in four are used; 0 means 64 MiB, the
	// rows of 1.5 million keys. Rows beyond it are read when they change.
	ElementBytes int
	// TombstoneMaxCount and TombstoneMaxAge bound a lane's tombstones, whoever has not passed them; 0 means a million and 30 days.
	TombstoneMaxCount uint64
	TombstoneMaxAge   time.Duration
}

func (c *Config) defaults() {
	if c.ElementBytes == 0 {
		c.ElementBytes = DefaultElementBytes
	}
	if c.TombstoneMaxCount == 0 {
		c.TombstoneMaxCount = 1_000_000
	}
	if c.TombstoneMaxAge == 0 {
		c.TombstoneMaxAge = 30 * 24 * time.Hour
	}
}

// Env is what a Materialiser works with.
type Env struct {
	Engine *engine.Engine
	// Passed is the lowest cursor of all registered consumers of a lane; ok is false when that is not known, or there are none.
	Passed func(lane.ID) (at lane.Sequence, ok bool)
	// Digested is told of lanes whose digest moved.
	Digested func(*ledger.Lane)
	Log      *slog.Logger
	// Now is the clock tombstones age by; nil means time.Now.
	Now func() time.Time
}

// Materialiser keeps the state of all keyed lanes. Safe for concurrent use.
type Materialiser struct {
	cfg Config
	env Env

	dirtyMu sync.Mutex // protects dirty and handed
	dirty   map[*ledger.Lane][][]byte
	handed  int // bytes in dirty
	wake    chan struct{}

	mu        sync.Mutex // protects the fields below; held for a turn
	lanes     map[segment.LaneNumber]*follower
	ids       identifier
	elements  *elements
	window    *window // gathers
	writing   *window // is being written; nil when none is. It is only read meanwhile
	spare     *window // is empty; nil while there is a writing one
	raw       []byte
	steps     []step
	missing   []int // steps whose row must be read
	keys      [][]byte
	keyBytes  []byte
	collected time.Time // when tombstones were looked through

	kept, oldestMS atomic.Int64 // tombstones of all lanes, and when the oldest was made, as of the last look
}

// follower is one lane's state.
type follower struct {
	lane    *ledger.Lane
	applied lane.Sequence
	set     digest.Set
	hasher  *digest.Hasher
	// floor and tombstones as in staterow.Mark.
	floor      lane.Sequence
	tombstones uint64
	oldestMS   int64 // when the oldest tombstone was made, as of the last look; meaningless without one
	// remembered counts the rows and tombstones of the lane in the table of elements.
	remembered uint64
	moved      bool // since the mark was written
}

// mark says what the state in memory is.
func (f *follower) mark() staterow.Mark {
	return staterow.Mark{Epoch: f.lane.Epoch, Sequence: f.applied, Set: f.set, Floor: f.floor, Tombstones: f.tombstones}
}

// New makes a Materialiser without lanes.
func New(env Env, cfg Config) *Materialiser {
	cfg.defaults()
	if env.Now == nil {
		env.Now = time.Now
	}
	return &Materialiser{
		cfg: cfg, env: env, dirty: map[*ledger.Lane][][]byte{}, wake: make(chan struct{}, 1),
		lanes: map[segment.LaneNumber]*follower{}, ids: newIdentifier(), elements: newElements(cfg.ElementBytes), window: newWindow(), spare: newWindow(),
	}
}

// Add takes a keyed lane in, whose stored state is at mark.
func (m *Materialiser) Add(l *ledger.Lane, mark staterow.Mark) {
	m.mu.Lock()
	m.lanes[l.Number] = &follower{lane: l, applied: mark.Sequence, set: mark.Set, hasher: digest.NewHasher(l.Seed), floor: mark.Floor, tombstones: mark.Tombstones}
	m.mu.Unlock()
	l.NoteMark(ledger.Mark{Sequence: mark.Sequence, Set: mark.Set})
	m.wakeUp(l, nil)
}

// Published says that l's tail moved over batch b, whose bytes must not change any more. Never blocks.
func (m *Materialiser) Published(l *ledger.Lane, b []byte) {
	if l.Keyed {
		m.wakeUp(l, b)
	}
}

// wakeUp marks l as dirty and hands b over if there is room; what was not handed over is read from the log.
func (m *Materialiser) wakeUp(l *ledger.Lane, b []byte) {
	m.dirtyMu.Lock()
	handed := m.dirty[l]
	if b != nil && m.handed+len(b) <= HandedBytes {
		handed = append(handed, b)
		m.handed += len(b)
	}
	m.dirty[l] = handed
	m.dirtyMu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run follows until ctx ends, then writes what it has. An error means that the engine cannot be written.
func (m *Materialiser) Run(ctx context.Context) error {
	tick := time.NewTicker(WindowAge / 4)
	defer tick.Stop()
	for ctx.Err() == nil {
		more, err := m.turn()
		if err != nil {
			return err
		}
		left, err := m.collect()
		if err != nil {
			return err
		}
		more = more || left
		if more {
			continue
		}
		select {
		case <-m.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flush()
}

// turn gives every dirty lane a share and reports whether some are not at their tail.
func (m *Materialiser) turn() (more bool, err error) {
	m.dirtyMu.Lock()
	dirty := m.dirty
	m.dirty, m.handed = make(map[*ledger.Lane][][]byte, len(dirty)), 0
	m.dirtyMu.Unlock()
	for l, handed := range dirty {
		behind, err := m.advance(l, handed)
		if err != nil {
			return false, err
		}
		if behind {
			m.wakeUp(l, nil)
			more = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.window.oldest.IsZero() && time.Since(m.window.oldest) >= WindowAge {
		err = m.seal()
	}
	return more, err
}

// advance applies one turn of l and reports whether there is more. Batches of handed are published and in order, perhaps with gaps.
func (m *Materialiser) advance(l *ledger.Lane, handed [][]byte) (behind bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.lanes[l.Number]
	standing := l.Standing()
	if f == nil || standing.Deleted || standing.Stopped != nil || f.applied >= standing.Tail {
		return false, nil
	}
	before := f.applied
	until := min(standing.Tail, before+turnRecords) + 1
	for _, b := range handed {
		h, headerErr := batch.ParseHeader(b)
		if err = headerErr; err == nil && h.Last() <= f.applied {
			continue // the log was faster
		}
		if err != nil || h.Base != f.applied+1 || h.Base >= until {
			break // a gap: the log has it
		}
		if err = m.apply(f, &h, b); err != nil {
			break
		}
	}
	if err == nil && f.applied+1 < until {
		err = reader.Batches(m.env.Engine, l, f.applied+1, until, func(h *batch.Header, b []byte) error { return m.apply(f, h, b) })
	}
	if f.applied > before {
		m.env.Digested(l)
	}
	if err != nil {
		switch fault.ReasonOf(err) {
		case fault.Corrupt, fault.Malformed, fault.LaneStopped, fault.UnsupportedVersion, fault.Expired: // I3
			l.Stop(err)
			m.forget(l.Number)
			m.env.Log.Error("a lane is stopped: its log cannot be applied to its state", "stream", l.Stream, "partition", l.ID.Partition, "applied", f.applied, "error", err)
			return false, nil
		}
		return false, err
	}
	return f.applied < standing.Tail, nil
}

// Settle applies l up to its tail of this moment and writes the windows. It works on the caller's goroutine, in turns.
func (m *Materialiser) Settle(ctx context.Context, l *ledger.Lane) error {
	tail := l.Standing().Tail
	for {
		if err := l.Usable(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		behind, err := m.advance(l, nil)
		if err != nil {
			return err
		}
		if !behind || l.Standing().Mark != nil && l.Standing().Mark.Sequence >= tail {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flush()
}

// Stored writes the windows and makes the state durable in files, and gives what sequence of l it is at; ok is false when l has no
// state here. For retention, before it frees the log.
func (m *Materialiser) Stored(l *ledger.Lane) (at lane.Sequence, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.lanes[l.Number]
	if f == nil {
		return 0, false, nil
	}
	if err := m.flush(); err != nil {
		return 0, false, err
	}
	return f.applied, true, m.env.Engine.Flush(engine.State)
}

// Drop forgets a lane: nothing more is written for it when Drop has returned. An error means that the engine cannot be written.
func (m *Materialiser) Drop(n segment.LaneNumber) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(n)
	return m.written()
}

// forget takes a lane out of the window too; what is remembered of it makes room in time. Callers hold mu.
func (m *Materialiser) forget(n segment.LaneNumber) {
	if m.lanes[n] != nil {
		m.window.forget(n)
		delete(m.lanes, n)
	}
}

// seal begins to write the window with the marks of the lanes in it, as one write (I1), and begins another. Only one is written at a
// time: seal waits for the one before. Callers hold mu.
func (m *Materialiser) seal() error {
	if err := m.written(); err != nil {
		return err
	}
	w := m.window
	moved := false
	for n, f := range m.lanes {
		if f.moved {
			w.write.Put(engine.State, staterow.MarkKey(n), f.mark().Encode())
			f.moved, moved = false, true
		}
	}
	if !moved {
		w.reset() // of lanes that are gone
		return nil
	}
	m.window, m.writing, m.spare = m.spare, w, nil
	go func() { // ends with the write; written waits for it
		w.encode()
		w.done <- m.env.Engine.WriteLight(&w.write)
	}()
	return nil
}

// written waits until no window is being written. Callers hold mu.
func (m *Materialiser) written() error {
	w := m.writing
	if w == nil {
		return nil
	}
	err := <-w.done
	w.reset()
	m.writing, m.spare = nil, w
	return err
}

// flush writes the window and waits for it. Callers hold mu.
func (m *Materialiser) flush() error {
	if err := m.seal(); err != nil {
		return err
	}
	return m.written()
}
