package materialiser_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-mq/lockstep/libs/message-common/batch"
	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
	"github.com/lockstep-mq/lockstep/libs/message-common/state"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/materialiser"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/snapshot"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/staterow"
)

// fataler is a test or one try of a property.
type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// plant is a state and the log it follows; the log is kept whole.
type plant struct {
	dir    string
	engine *engine.Engine
	m      *materialiser.Materialiser
	lanes  []*ledger.Lane
	logs   [][][]byte // batches by lane
	passed [3]lane.Sequence
	now    time.Time
}

func (p *plant) open(t fataler, cfg materialiser.Config) {
	var err error
	p.engine, err = engine.Open(engine.Dirs{Log: filepath.Join(p.dir, "log"), State: filepath.Join(p.dir, "state")}, engine.Config{CacheBytes: 1 << 20, LogBufferBytes: 1 << 20, StateBufferBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p.m = materialiser.New(materialiser.Env{
		Engine: p.engine, Digested: func(*ledger.Lane) {}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return p.now },
		Passed: func(id lane.ID) (lane.Sequence, bool) { return p.passed[id.Partition], p.passed[id.Partition] > 0 },
	}, cfg)
	for i := range p.logs {
		l := &ledger.Lane{ID: lane.ID{Stream: 1, Partition: lane.Partition(i)}, Number: segment.LaneNumber(i + 1), Stream: "s", Keyed: true, Seed: 7, Epoch: 1}
		l.Restore(1, 0, batch.Chain{}, nil)
		for _, b := range p.logs[i] {
			p.publish(t, l, b)
		}
		mark := staterow.Mark{Epoch: 1}
		stored, found, err := p.engine.Get(engine.State, staterow.MarkKey(l.Number), nil)
		if err == nil && found {
			mark, err = staterow.ParseMark(stored)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.lanes) <= i {
			p.lanes = append(p.lanes, l)
		}
		p.lanes[i] = l
		p.m.Add(l, mark)
	}
}

func (p *plant) publish(t fataler, l *ledger.Lane, b []byte) {
	h, err := batch.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	l.Publish(1, &h, len(b), batch.ChainOf(b))
	l.Next, l.Chain = h.Next(), batch.ChainOf(b)
}

// append writes a batch to the log, as the committer does.
func (p *plant) append(t fataler, i int, records []record.Record) {
	l := p.lanes[i]
	var d batch.Builder
	for k := range records {
		d.Add(&records[k])
	}
	b := d.Build(l.ID)
	batch.Stamp{Epoch: 1, Base: max(l.Next, 1), Previous: l.Chain}.Apply(b)
	h, _ := batch.ParseHeader(b)
	var w engine.Batch
	w.Put(engine.Log, segment.Key(nil, 1, l.Number, h.Base), b)
	if err := p.engine.Write(&w); err != nil {
		t.Fatal(err)
	}
	p.logs[i] = append(p.logs[i], b)
	p.publish(t, l, b)
	p.m.Published(l, b)
}

// verify compares what is stored with what a replay of the log up to the stored mark gives, whatever the mark is.
func (p *plant) verify(t fataler, i int) lane.Sequence {
	s, err := snapshot.Take(p.engine, p.lanes[i])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want, dead, set, h := map[string]record.Record{}, map[string]staterow.Tombstone{}, digest.Set{}, digest.NewHasher(7)
	for _, b := range p.logs[i] {
		if err := batch.Walk(b, nil, func(r *record.Record) error {
			if r.Sequence <= s.Mark().Sequence {
				_, lived := want[string(r.Key)]
				delete(want, string(r.Key))
				if !r.Tombstone {
					want[string(r.Key)] = r.Clone()
					delete(dead, string(r.Key))
				} else if lived {
					dead[string(r.Key)] = staterow.Tombstone{Sequence: r.Sequence}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range want {
		set.Add(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))
	}
	if s.Mark().Set != set {
		t.Fatalf("lane %d at %d: the digest is %v, want %v", i, s.Mark().Sequence, s.Mark().Set, set)
	}
	if err := s.Rows(func(e digest.Element, key []byte, sequence lane.Sequence, row []byte) error {
		w := want[string(key)]
		var rec record.Record
		if r := state.NewReader(row); !r.Next(&rec) || sequence != w.Sequence || rec.Sequence != w.Sequence || string(rec.Value) != string(w.Value) || e != h.Row(w.Key, uint64(w.Sequence), w.TimeMS, w.Headers, w.Value) {
			t.Fatalf("lane %d at %d: the row of %q is of %d, want %d", i, s.Mark().Sequence, key, sequence, w.Sequence)
		}
		delete(want, string(key))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Fatalf("lane %d at %d: %d rows are missing", i, s.Mark().Sequence, len(want))
	}
	last := s.Mark().Floor
	if err := s.Tombstones(last, func(x *staterow.Tombstone) error {
		if d := dead[string(x.Key)]; x.Sequence <= last || d.Sequence != x.Sequence || x.TimeMS > p.now.UnixMilli() {
			t.Fatalf("lane %d at %d: after %d the tombstone %+v, want %+v", i, s.Mark().Sequence, last, x, d)
		}
		last = x.Sequence
		delete(dead, string(x.Key))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for key, d := range dead {
		if d.Sequence > s.Mark().Floor {
			t.Fatalf("lane %d at %d: the tombstone of %q at %d is missing above %d", i, s.Mark().Sequence, key, d.Sequence, s.Mark().Floor)
		}
	}
	if floor := s.Mark().Floor; floor > 0 {
		if err := s.Tombstones(floor-1, func(*staterow.Tombstone) error { return nil }); !errors.Is(err, fault.Expired) {
			t.Fatalf("tombstones below the floor: %v", err)
		}
	}
	return s.Mark().Sequence
}

// Random batches of three lanes, with windows written and files flushed at random moments, and crashes that lose what was not flushed:
// what is stored is the state at exactly its mark, always, and it gets to the tail again.
func TestStoredStateIsThatOfItsMark(t *testing.T) {
	root, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		cfg := materialiser.Config{ElementBytes: 1} // the fewest slots: much is let go
		if rapid.Bool().Draw(rt, "remember all") {
			cfg.ElementBytes = 0
		}
		if rapid.Bool().Draw(rt, "few tombstones") {
			cfg.TombstoneMaxCount = 20
		}
		p := &plant{dir: filepath.Join(root, fmt.Sprint(n)), logs: make([][][]byte, 3), now: time.UnixMilli(1 << 40)}
		if err := os.Mkdir(p.dir, 0o750); err != nil {
			rt.Fatal(err)
		}
		p.open(rt, cfg)
		defer func() { p.engine.Close() }()
		keys := rapid.SampledFrom([]int{5, 100, 3000}).Draw(rt, "keys")
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "lane")
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			default:
				records := make([]record.Record, rapid.SampledFrom([]int{1, 10, 700}).Draw(rt, "records"))
				seed := rapid.IntRange(0, 1<<20).Draw(rt, "seed")
				for k := range records {
					x := (seed + k) * 2654435761 >> 4
					records[k] = record.Record{TimeMS: int64(k), Key: fmt.Append(nil, "key", x%keys), Tombstone: x>>16%4 == 0}
					if !records[k].Tombstone {
						records[k].Value = []byte(fmt.Sprint(x))[:1+x>>20%3]
					}
				}
				p.append(rt, i, records)
			case 4:
				if err := p.m.SettleHanded(); err != nil {
					rt.Fatal(err)
				}
			case 5:
				if err := p.m.Settle(t.Context(), p.lanes[i]); err != nil {
					rt.Fatal(err)
				}
				if at := p.verify(rt, i); at != p.lanes[i].Standing().Tail {
					rt.Fatalf("settled at %d, the tail is %d", at, p.lanes[i].Standing().Tail)
				}
			case 6:
				if err := p.engine.Flush(engine.State); err != nil {
					rt.Fatal(err)
				}
			case 8:
				p.passed[i] = max(p.passed[i], lane.Sequence(rapid.IntRange(0, int(p.lanes[i].Standing().Tail)).Draw(rt, "passed")))
				if err := p.m.Collect(); err != nil {
					rt.Fatal(err)
				}
				for _, l := range p.lanes { // the bounds are those of what is in memory: compare when it is stored
					if err := p.m.Settle(t.Context(), l); err != nil {
						rt.Fatal(err)
					}
				}
				if err := p.m.Collect(); err != nil {
					rt.Fatal(err)
				}
				p.bounded(rt, cfg)
			case 7: // the state is as it was at the last flush, the log is whole
				if err := p.crash(rt, cfg); err != nil {
					rt.Fatal(err)
				}
				for i := range p.lanes {
					p.verify(rt, i)
				}
			}
		}
		for i, l := range p.lanes {
			if err := p.m.Settle(t.Context(), l); err != nil {
				rt.Fatal(err)
			}
			if at := p.verify(rt, i); at != l.Standing().Tail {
				rt.Fatalf("settled at %d, the tail is %d", at, l.Standing().Tail)
			}
		}
	})
}

// bounded wants no tombstone stored that is due.
func (p *plant) bounded(t *rapid.T, cfg materialiser.Config) {
	for i, l := range p.lanes {
		s, err := snapshot.Take(p.engine, l)
		if err != nil {
			t.Fatal(err)
		}
		at := s.Mark()
		if at.Tombstones > 20 && cfg.TombstoneMaxCount == 20 {
			t.Fatalf("lane %d has %d tombstones", i, at.Tombstones)
		}
		if err := s.Tombstones(at.Floor, func(x *staterow.Tombstone) error {
			if x.Sequence <= p.passed[i] {
				t.Fatalf("lane %d: the tombstone at %d is kept, all have passed %d", i, x.Sequence, p.passed[i])
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

// crash copies the files as they lie on the disk, as a power cut would leave them, and opens the copy.
func (p *plant) crash(t *rapid.T, cfg materialiser.Config) error {
	if err := p.engine.Sync(); err != nil {
		return err
	}
	if err := p.m.Idle(); err != nil { // a write under way is finished; nothing is flushed
		return err
	}
	next := p.dir + "x"
	for before, after := "", "-"; before != after; after = listed(t, p.dir) { // again when a compaction removed files meanwhile
		before = listed(t, p.dir)
		if err := os.RemoveAll(next); err != nil {
			return err
		}
		if err := os.CopyFS(next, os.DirFS(p.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	p.engine.Close()
	if err := os.RemoveAll(p.dir); err != nil {
		return err
	}
	p.dir = next
	p.open(t, cfg)
	return nil
}

// listed names the files of dir with their sizes.
func listed(t *rapid.T, dir string) string {
	var all strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&all, path, info.Size())
		}
		return err
	}); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return all.String()
}
